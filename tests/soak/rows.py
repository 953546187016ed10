"""What the table is made of."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Trial:
    """How one trial went. Example: `Trial(note="killed while it played")`"""

    wrong: str = ""
    """What was not as promised; empty if all was."""
    note: str = ""
    """A word that is counted in the table."""


@dataclass(frozen=True)
class Row:
    """A promise that is tried `trials` times.

    `attempt(number, scratch)` does trial `number`, counted from 0, and may keep files for later trials in the
    folder `scratch`. A trial has `cases` cases; an exception is a failed trial.
    """

    name: str
    trials: int
    attempt: Callable[[int, Path], Trial]
    cases: int = 1


def tested(name: str, *nodes: str) -> Row:
    """A promise whose long form is its tests: one trial, which runs `nodes` with pytest."""

    def attempt(number: int, scratch: Path) -> Trial:
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *nodes]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
        last = (done.stdout.strip().splitlines() or [done.stderr.strip()])[-1]
        passed = re.search(r"\d+ passed", done.stdout)
        return Trial("" if done.returncode == 0 else last, f"{passed[0] if passed else 'no'} tests")

    return Row(name, 1, attempt)
