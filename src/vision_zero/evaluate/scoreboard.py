"""One table of all that was asked outside of the game: our own probes, and benchmarks run by other tools.

Each suite leaves a JSON file in the directory of an evaluation, with the models, the settings, and its rows. The
table is made of whichever files are there.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vision_zero.errors import UserError
from vision_zero.evaluate.arena_report import markdown
from vision_zero.evaluate.held_out import Row
from vision_zero.evaluate.statistics import Estimate
from vision_zero.evaluate.weights import Weights
from vision_zero.runs.files import write_atomic
from vision_zero.types import JSON

FILES = {"probes": "exam.json", "vlmevalkit": "vlmevalkit.json", "lmms-eval": "lmms-eval.json"}
"""The file of each suite."""


@dataclass(frozen=True)
class OwnScore:
    """The headline of a tool for both models, in its own units. Example: `OwnScore("Overall", 61.3, 62.0)`"""

    metric: str
    base: float
    checkpoint: float


def row_to_json(row: Row, own: OwnScore | None = None) -> JSON:
    """A row as it is kept, verdict included."""
    return asdict(row) | {"verdict": row.verdict} | ({"own": asdict(own)} if own else {})


def unpaired_to_json(name: str, label: str, own: OwnScore) -> JSON:
    """A row of which only the tool's headline is known."""
    return {"name": name, "label": label, "own": asdict(own), "verdict": "no interval"}


def read_sheets(out: Path) -> list[JSON]:
    """What the suites left in a directory."""
    return [sheet for suite in FILES if (sheet := read_sheet(out, suite)) is not None]


def read_sheet(out: Path, suite: str) -> JSON | None:
    """What one suite left in a directory; None if it left nothing."""
    path = out / FILES[suite]
    if not path.is_file():
        return None
    sheet: JSON = json.loads(path.read_text(encoding="utf-8"))
    return sheet


def check_models(out: Path, base: Weights, checkpoint: Weights) -> None:
    """Raises `UserError` if a suite in `out` is about other models."""
    for sheet in read_sheets(out):
        if (sheet["base"], sheet["checkpoint"]) != (base.version, checkpoint.version):
            raise UserError(
                f"{out} is about {sheet['base']} and {sheet['checkpoint']}, not {base.version} and "
                f"{checkpoint.version}: choose another --out"
            )


def write_sheet(out: Path, suite: str, sheet: JSON) -> str:
    """Keep what a suite found, write the table of all suites in `out` to `table.md`, and return it."""
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / FILES[suite], json.dumps(sheet, indent=2).encode() + b"\n")
    text = table(read_sheets(out))
    write_atomic(out / "table.md", f"{text}\n".encode())
    return text


def table(sheets: list[JSON]) -> str:
    """All rows in Markdown, and what was left out."""
    rows = [row for sheet in sheets for row in sheet["rows"]]
    scored = any("own" in row for row in rows)
    names = [f"base ({sheets[0]['base']})", f"checkpoint ({sheets[0]['checkpoint']})"]
    head = ["probe", *names, "difference", "verdict", "questions", *(["the tool's score"] if scored else [])]
    lines = [markdown(head, [_cells(row, scored) for row in rows])]
    left: dict[str, list[str]] = {}
    for sheet in sheets:
        for name, why in sheet.get("left_out", {}).items():
            left.setdefault(why, []).append(name.replace("_", " "))
    lines += [f"left out: {', '.join(names)} ({why})" for why, names in left.items()]
    return "\n\n".join(lines)


def _cells(row: JSON, scored: bool) -> list[str]:
    if "before" in row:
        before, after, change = (Estimate(**row[k]) for k in ("before", "after", "difference"))
        cells = [_share(before), _share(after), _points(change), row["verdict"], str(after.trials)]
    else:
        cells = ["–", "–", "–", row["verdict"], "–"]
    return [row["label"], *cells, *([_own(row.get("own"))] if scored else [])]


def _share(e: Estimate) -> str:
    return f"{e.point:.0%} ({e.low:.0%} to {e.high:.0%})"


def _points(e: Estimate) -> str:
    return "{:+d} ({:+d} to {:+d})".format(*(round(100 * x) for x in (e.point, e.low, e.high)))


def _own(own: dict[str, Any] | None) -> str:
    return "–" if own is None else f"{own['metric']}: {own['base']:.4g} -> {own['checkpoint']:.4g}"
