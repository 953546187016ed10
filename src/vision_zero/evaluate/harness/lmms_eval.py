"""lmms-eval: its configuration, its command line, and its results."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from vision_zero.errors import UserError
from vision_zero.evaluate.harness.benchmarks import metric_of
from vision_zero.evaluate.harness.job import LOG, Command, Job, Score
from vision_zero.runs.files import read_lines, write_atomic
from vision_zero.types import JSON


def prepare(job: Job) -> Command:
    """Write `config.yaml` (and the task of our table), and say how to start it."""
    job.folder.mkdir(parents=True, exist_ok=True)
    model = f"model_version={job.model},base_url={job.url},api_key=none,timeout=600,num_concurrent={job.requests}"
    generation = "temperature=0" + (f",max_new_tokens={job.max_tokens}" if job.max_tokens else "")
    tree = {
        "model": "openai",
        "model_args": model,
        "tasks": ",".join(job.benchmarks),
        "batch_size": 1,
        "gen_kwargs": generation,
        "output_path": str(_output(job)),
        "log_samples": True,
    }
    if job.probes is not None:
        tree["include_path"] = str(_write_task(job))
    config = job.folder / "config.yaml"
    write_atomic(config, yaml.safe_dump(tree, sort_keys=False).encode())
    settings = {}
    if job.judge is not None:
        # two generations of tasks read two sets of variables
        url = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1").rstrip("/")
        settings = {"MODEL_VERSION": job.judge, "JUDGE_MODEL_NAME": job.judge, "USE_LLM_JUDGE": "True"}
        settings |= {"OPENAI_API_URL": url, "JUDGE_BASE_URL": url, "JUDGE_API_KEY": os.environ["OPENAI_API_KEY"]}
    return Command(job.tool.command("lmms_eval", "--config", str(config)), settings)


def collect(job: Job) -> Path:
    """The file of results that a run left. Raises `UserError` if there is not exactly one."""
    written = sorted(_output(job).rglob("*_results.json"))
    if len(written) != 1:
        raise UserError(
            f"lmms-eval left {len(written)} files of results in {job.folder}, not 1; see {job.folder / LOG}"
        )
    return written[0]


def score(job: Job, file: Path, name: str) -> Score:
    """The score of one task, by the file of results and those of its samples.

    Raises `UserError` if there is none, or if requests failed: the tool counts them as wrong.
    """
    results, see = json.loads(file.read_text(encoding="utf-8")), f"see {job.folder / LOG}"
    row = {key.partition(",")[0]: value for key, value in results["results"].get(name, {}).items() if "," in key}
    numbers = {key: value for key, value in row.items() if isinstance(value, int | float) and "_stderr" not in key}
    if not numbers:
        raise UserError(f"{name}: lmms-eval gave no score but {row or 'nothing'}; {see}")
    metric = metric_of(name, list(numbers))
    if metric not in numbers:
        raise UserError(f"{name}: lmms-eval told {', '.join(numbers)}, but not {metric}; {see}")
    parts = results["group_subtasks"].get(name) or [name]
    samples = [line for part in parts for line in _samples(file, part)]
    failed = sum(_failed(line) for line in samples)
    if failed:
        raise UserError(f"{name}: {failed} of {len(samples)} requests failed; {see}")
    return Score(name, metric, float(numbers[metric]), _answers(samples, metric))


def _samples(found: Path, task: str) -> Iterable[JSON]:
    path = found.with_name(found.name.replace("_results.json", f"_samples_{task}.jsonl"))
    for line in read_lines(path):
        yield line | {"question": f"{task}/{line['doc_id']}"}


def _failed(line: JSON) -> bool:
    """A request that failed for good comes back as a text without a single token that was read or written."""
    counts = [c for c in line.get("token_counts") or [] if c]
    return bool(counts) and not any(c["input_tokens"] or c["output_tokens"] for c in counts)


def _answers(samples: list[JSON], metric: str) -> dict[str, float] | None:
    answers = {line["question"]: _number(line.get(metric)) for line in samples}
    if not answers or any(value is None for value in answers.values()):
        return None
    return {k: v for k, v in answers.items() if v is not None}


def _number(value: Any) -> float | None:
    if isinstance(value, dict):
        value = value.get("score")
    return float(value) if isinstance(value, bool | int | float) else None


def _write_task(job: Job) -> Path:
    """A folder with the task that reads our table."""
    assert job.probes is not None
    folder = job.folder / "tasks"
    table = job.probes.write(folder)
    program = resources.files(__package__) / "probe_task.py"
    write_atomic(folder / "probe_task.py", program.read_bytes())
    answer = [{"function": "regex", "regex_pattern": r"(?i)\b(yes|no)\b"}, {"function": "take_first"}]
    tree = {
        "task": job.probes.name,
        "dataset_path": "csv",
        "dataset_kwargs": {"data_files": {"test": str(table)}, "sep": "\t"},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "question",
        "doc_to_target": "answer",
        "generation_kwargs": {"max_new_tokens": 512, "temperature": 0, "do_sample": False},
        "filter_list": [{"name": "yes-or-no", "filter": answer}],
        "metric_list": [
            {"metric": "exact_match", "aggregation": "mean", "higher_is_better": True, "ignore_case": True}
        ],
        "metadata": [{"version": 1.0}],
    }
    text = yaml.safe_dump(tree, sort_keys=False) + "doc_to_visual: !function probe_task.pictures\n"
    write_atomic(folder / f"{job.probes.name}.yaml", text.encode())
    return folder


def _output(job: Job) -> Path:
    return job.folder / "output"
