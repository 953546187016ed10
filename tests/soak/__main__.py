"""Runs the rows in turns, writes every trial down, and prints the table: `python -m tests.soak --help`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from tests.soak import determinism, hostile, others, restarts
from tests.soak.rows import Row, Trial
from vision_zero.runs.provenance import commit

ROWS: tuple[Row, ...] = (*restarts.ROWS, *determinism.ROWS, *hostile.ROWS, *others.ROWS)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=240.0, help="start no trial after so many (default 240)")
    parser.add_argument("--only", default="", metavar="WORD", help="only rows whose name has this word")
    parser.add_argument("--folder", type=Path, default=Path("build/soak"), help="what was done, and its files")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    rows = [row for row in ROWS if options.only in row.name]
    log = options.folder / "trials.jsonl"
    names = {row.name for row in rows}
    done = {key: trial for key, trial in _read(log).items() if key[0] in names}
    end = time.monotonic() + 60 * options.minutes
    # in turns, so that a soak that is cut short has tried everything
    for number in range(max(row.trials for row in rows)):
        for row in rows:
            if number < row.trials and (row.name, number) not in done and time.monotonic() < end:
                done[row.name, number] = _try(row, number, options.folder.resolve(), log)
    _print(rows, done)
    whole = all((row.name, n) in done for row in rows for n in range(row.trials))
    return 0 if whole and not any(trial["wrong"] for trial in done.values()) else 1


def _try(row: Row, number: int, scratch: Path, log: Path) -> dict[str, Any]:
    began = time.monotonic()
    try:
        trial = row.attempt(number, scratch)
    except KeyboardInterrupt:
        raise
    except Exception as e:  # noqa: BLE001 - whatever it is, the promise was not kept
        trial = Trial(f"{type(e).__name__}: {e}")
    seconds = time.monotonic() - began
    line = {"row": row.name, "number": number, "wrong": trial.wrong, "note": trial.note, "seconds": seconds}
    with log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line | {"commit": commit()}) + "\n")
    print(f"{row.name}, {number + 1} of {row.trials}: {trial.wrong or 'as promised'} ({trial.note})", flush=True)
    return line


def _read(log: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """What was tried before with the same code."""
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []
    return {(line["row"], line["number"]): line for line in lines if line["commit"] == commit()}


def _print(rows: list[Row], done: dict[tuple[str, int], dict[str, Any]]) -> None:
    table = Table("promise", Column("kept", justify="right"), Column("minutes", justify="right"), "of these")
    for row in rows:
        trials = [done[row.name, n] for n in range(row.trials) if (row.name, n) in done]
        kept = sum(not trial["wrong"] for trial in trials)
        notes = Counter(trial["note"] for trial in trials if trial["note"])
        minutes = sum(trial["seconds"] for trial in trials) / 60
        listed = ", ".join(f"{count} {note}" if row.trials > 1 else note for note, count in notes.most_common())
        table.add_row(row.name, f"{kept * row.cases:,} of {row.trials * row.cases:,}", f"{minutes:.1f}", listed)
    console = Console(width=max(120, Console().width))
    console.print(table)
    for trial in done.values():
        if trial["wrong"]:
            console.print(f"NOT KEPT: {trial['row']}, trial {trial['number']}: {trial['wrong']}", highlight=False)


if __name__ == "__main__":
    sys.exit(main())
