"""A tool's benchmarks on base and checkpoint, under equal settings: from two models to one sheet of the table."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType

from vision_zero.errors import UserError
from vision_zero.evaluate.harness import benchmarks, environment, lmms_eval, vlmevalkit
from vision_zero.evaluate.harness.environment import Tool
from vision_zero.evaluate.harness.job import LOG, Job, Score
from vision_zero.evaluate.harness.probe_file import ProbeFile
from vision_zero.evaluate.held_out import Row
from vision_zero.evaluate.scoreboard import OwnScore, read_sheet, row_to_json, unpaired_to_json, write_sheet
from vision_zero.evaluate.serving import Server, choose, served
from vision_zero.evaluate.statistics import Counts, difference, rate
from vision_zero.evaluate.weights import Weights
from vision_zero.runs import provenance
from vision_zero.types import JSON

SIDES = ("base", "checkpoint")
REQUESTS = {"vllm": 32, "transformers": 4}
"""Requests at once. Transformers' server answers one after the other, but the tools pause between theirs."""
_MODULES: Mapping[str, ModuleType] = {"vlmevalkit": vlmevalkit, "lmms-eval": lmms_eval}
_LABELS = {"vlmevalkit": "VLMEvalKit", "lmms-eval": "lmms-eval"}


@dataclass(frozen=True)
class Order:
    """What is to be run: the tool's name, benchmarks as a user names them, the judge, the longest reply, the server.

    Example: `Order("vlmevalkit", "ChartQA,MMStar", None, None, "auto")`
    """

    suite: str
    benchmarks: str
    judge: str | None
    max_tokens: int | None
    server: Server


def run_suite(
    order: Order,
    base: Weights,
    checkpoint: Weights,
    make_probes: Callable[[], ProbeFile],
    out: Path,
    say: Callable[[str], None],
) -> str:
    """Serve one model after the other, run the tool on each, and write the sheet and the table of `out`: the table.

    What the tool reads and writes is in `out/SUITE/run-N/SIDE`, its words in `LOG` there. Rows of earlier runs of the
    suite stay in its sheet, unless they are of the same benchmarks. `make_probes` is called only if the order has
    `probes`. Raises `UserError` before anything is served if the tool is not installed, does not know a benchmark or
    lacks a judge; if the tool fails; and, when the rest is written, if there is no sound score for some benchmark.
    """
    tool = environment.find(order.suite)
    names = benchmarks.resolve(order.benchmarks, tool, order.judge)
    if order.judge is not None and not os.environ.get("OPENAI_API_KEY"):
        raise UserError(f"--judge {order.judge}: set OPENAI_API_KEY (any word for a local server), and OPENAI_BASE_URL")
    server = choose(order.server)
    probes = make_probes() if benchmarks.PROBES in names else None
    names = tuple(probes.name if probes and name == benchmarks.PROBES else name for name in names)
    home = _new_folder(out.absolute() / order.suite)
    sides: list[dict[str, Score | UserError]] = []
    for side, weights in zip(SIDES, (base, checkpoint), strict=True):
        folder = home / side
        say(f"{side} ({weights.version}): {_LABELS[order.suite]} on {', '.join(names)}; see {folder / LOG}")
        folder.mkdir()
        port = _free_port()
        with served(weights, side, port=port, server=server, log=folder / "server.log", dtype=weights.model.dtype):
            url = f"http://127.0.0.1:{port}/v1"
            limit, at_once = order.max_tokens, REQUESTS[server]
            job = Job(tool, side, url, names, probes, folder, order.judge, limit, at_once)
            sides.append(_run(job))
    rows, failures = [], []
    for name in names:
        old, new = (found[name] for found in sides)
        if isinstance(old, Score) and isinstance(new, Score):
            rows.append(_row(order.suite, probes, old, new))
        failures += [
            f"{side}: {found}" for side, found in zip(SIDES, (old, new), strict=True) if isinstance(found, UserError)
        ]
    sheet = read_sheet(out, order.suite) or {
        "base": base.version,
        "checkpoint": checkpoint.version,
        "rows": [],
        "runs": {},
    }
    sheet["rows"] = [row for row in sheet["rows"] if row["name"] not in names] + rows
    sheet["runs"][home.name] = _settings(order, tool, server, base, names)
    table = write_sheet(out, order.suite, sheet)
    if failures:
        raise UserError(f"{'; '.join(failures)}; {out / 'table.md'} has the other benchmarks")
    return table


def _run(job: Job) -> dict[str, Score | UserError]:
    """The score of each benchmark, or why there is none. Raises `UserError` if there is none of any."""
    module = _MODULES[job.tool.name]
    command = module.prepare(job)
    log = job.folder / LOG
    with log.open("wb") as file:
        settings = environment.environ(**command.settings)
        code = subprocess.run(
            command.arguments, cwd=job.folder, env=settings, stdout=file, stderr=subprocess.STDOUT, check=False
        ).returncode
    if code:
        raise UserError(f"{job.tool.name} failed with exit status {code}: see {log}")
    left = module.collect(job)
    found: dict[str, Score | UserError] = {}
    for name in job.benchmarks:
        try:
            found[name] = module.score(job, left, name)
        except UserError as e:
            found[name] = e
    if not any(isinstance(score, Score) for score in found.values()):
        raise UserError("; ".join(map(str, found.values())))
    return found


def _row(suite: str, probes: ProbeFile | None, old: Score, new: Score) -> JSON:
    """Paired over questions, those of our own table over pairs of pictures."""
    label = f"{old.benchmark} ({_LABELS[suite]})"
    own = OwnScore(old.metric, old.value, new.value)
    if old.answers is None or new.answers is None:
        return unpaired_to_json(old.benchmark, label, own)
    if old.answers.keys() != new.answers.keys():
        raise UserError(f"{label}: base and checkpoint were not asked the same questions")
    if probes is not None and old.benchmark == probes.name:
        groups = {key: probes.pairs[int(key.rpartition("/")[2])] for key in old.answers}
    else:
        groups = {key: key for key in old.answers}
    before, after = (_counts(side, groups) for side in (old.answers, new.answers))
    row = Row(old.benchmark, label, "higher", rate(before), rate(after), difference(before, after))
    return row_to_json(row, own)


def _counts(answers: Mapping[str, float], groups: Mapping[str, str]) -> Counts:
    units: dict[str, list[float]] = {}
    for key in sorted(answers):
        units.setdefault(groups[key], []).append(answers[key])
    return Counts(tuple(sum(unit) for unit in units.values()), tuple(float(len(unit)) for unit in units.values()))


def _settings(order: Order, tool: Tool, server: str, base: Weights, names: Iterable[str]) -> JSON:
    """Everything that is needed to repeat the scores. Base and checkpoint share all of it."""
    limit = order.max_tokens or (vlmevalkit.MAX_TOKENS if tool.name == "vlmevalkit" else None)
    return {
        "order": asdict(order),
        "tool": {"name": tool.name, "version": tool.version, "packages": list(tool.packages)},
        "benchmarks": {name: tool.benchmarks.get(name, "ours") for name in names},
        "tables": {name: _md5(vlmevalkit.data_folder() / f"{name}.tsv") for name in names}
        if tool.name == "vlmevalkit"
        else None,
        "decoding": {"temperature": 0, "max_tokens": limit, "system": None},
        "pixels": {"max_pixels": base.model.max_pixels},
        "server": {"name": server, "requests": REQUESTS[server], "dtype": base.model.dtype},
        "versions": provenance.versions(),
        "commit": provenance.commit(),
    }


def _md5(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _new_folder(home: Path) -> Path:
    """Results of one run must not be taken for those of another."""
    number = 1 + len(list(home.glob("run-*")))
    folder = home / f"run-{number}"
    folder.mkdir(parents=True)
    return folder


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
