"""VLMEvalKit: its configuration, its command line, and its results."""

from __future__ import annotations

import csv
import json
import os
import re
from pathlib import Path

from vision_zero.errors import UserError
from vision_zero.evaluate.harness.environment import ask
from vision_zero.evaluate.harness.job import LOG, Command, Job, Score
from vision_zero.runs.files import write_atomic
from vision_zero.types import JSON

MAX_TOKENS = 2048
"""What VLMEvalKit gives the models of Qwen's family."""
DATA = "LMUData"
"""Its environment variable for the folder of benchmarks."""
RULES = "exact_matching"
"""What VLMEvalKit calls marking without a judge. Else it would try one and fall back to rules without a word."""
_BY_QUESTION = (
    ("_auxmatch", "score"),
    ("_{judge}_result", "hit"),
    ("_results", "eval_score"),
    ("_{judge}_score", "score"),
    ("_{judge}", "hit"),
    ("_{judge}", "correct"),
)
"""Where its kinds of benchmarks keep the score of single questions: end of the file's name, column."""

_BROKEN = re.compile(r"An error occured during try|RetCode: (?!0\b)")
"""Words of its log on a request without an answer, or with a status other than success."""


def prepare(job: Job) -> Command:
    """Write `config.json` (and our table, where VLMEvalKit looks for tables), and say how to start it."""
    data = {}
    for name in job.benchmarks:
        ours = job.probes is not None and name == job.probes.name
        data[name] = {"class": "ImageYORNDataset" if ours else job.tool.benchmarks[name], "dataset": name}
    model = {
        "class": "LMDeployAPI",
        "model": job.model,
        "api_base": f"{job.url}/chat/completions",
        "key": "none",
        "temperature": 0,
        "max_tokens": job.max_tokens or MAX_TOKENS,
        "timeout": 600,
        "retry": 3,
        "wait": 1,
        # else its log does not tell requests that failed from models that said nothing
        "verbose": True,
    }
    if job.probes is not None:
        job.probes.write(data_folder())
    job.folder.mkdir(parents=True, exist_ok=True)
    config = job.folder / "config.json"
    write_atomic(config, json.dumps({"model": {job.model: model}, "data": data}, indent=2).encode() + b"\n")
    arguments = ["--config", str(config), "--work-dir", str(job.folder), "--api-nproc", str(job.requests)]
    arguments += ["--judge", job.judge or RULES]
    # not JSON: the benchmarks of yes-or-no questions cannot read it back
    settings = {"PRED_FORMAT": "tsv", DATA: str(data_folder())}
    if job.judge is not None and "OPENAI_BASE_URL" in os.environ:
        settings["OPENAI_API_BASE"] = f"{os.environ['OPENAI_BASE_URL'].rstrip('/')}/chat/completions"
    return Command(job.tool.command("vlmeval", *arguments), settings)


def data_folder() -> Path:
    """Where VLMEvalKit keeps benchmarks: its variable, else a folder in the user's home."""
    folder = Path(os.environ.get(DATA) or Path.home() / "LMUData").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def collect(job: Job) -> JSON:
    """What VLMEvalKit reports of its run, by benchmark."""
    report = ask(job.tool.name, job.tool.folder, "report", str(job.folder / job.model))["benchmarks"]
    return {row["benchmark"]: row for row in report}


def score(job: Job, report: JSON, name: str) -> Score:
    """The score of one benchmark, by the report and by what else the tool left in `job.folder`.

    A model that says nothing is to VLMEvalKit a request that failed; here that is a wrong answer as any other. Raises
    `UserError` if there is no score, or if requests or judgements did fail: the tool counts them as wrong.
    """
    told, log = report.get(name, {}), job.folder / LOG
    broken = _BROKEN.search(log.read_text(encoding="utf-8", errors="replace"))
    failed = (told.get("infer_failed") or 0) if broken else 0
    unjudged = (told.get("judge_failed") or 0) if job.judge else 0
    if failed or unjudged:
        why = f" ({told['eval_error']})" if told["eval_error"] else ""
        of = told["infer_total"]
        raise UserError(f"{name}: {failed} requests and {unjudged} judgements of {of} failed{why}; see {log}")
    value = told.get("primary_metric_value")
    if value is None:
        why = told.get("eval_error") or told.get("skip_reason") or "it was never run"
        raise UserError(f"{name}: VLMEvalKit gave no score ({why}); see {log}")
    metric = told["primary_metric"]
    if isinstance(value, dict):
        metric, value = next(iter(value.items()))
    return Score(name, metric, float(value), _answers(job, name))


def _answers(job: Job, name: str) -> dict[str, float] | None:
    judge = job.judge or RULES
    for ending, column in _BY_QUESTION:
        # some benchmarks write "gpt4o-mini" of "gpt-4o-mini"
        for called in dict.fromkeys((judge, judge.replace("gpt-", "gpt"))):
            path = job.folder / job.model / f"{job.model}_{name}{ending.format(judge=called)}.tsv"
            if path.is_file():
                with path.open(newline="", encoding="utf-8") as file:
                    rows = list(csv.DictReader(file, delimiter="\t"))
                if rows and column in rows[0]:
                    return {row["index"]: _number(row[column]) for row in rows}
    return None


def _number(cell: str) -> float:
    return {"True": 1.0, "False": 0.0}[cell] if cell in ("True", "False") else float(cell)
