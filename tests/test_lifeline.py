"""Who is killed takes along whom it started."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.kills import command
from vision_zero.lifeline import end_with_parent

POOL = (
    "import time; from types import SimpleNamespace as Reader; from vision_zero.rollouts.ahead import Ahead\n"
    "ahead = Ahead('pairs', Reader(preprocess=None), 2); ahead.start(range(8)); time.sleep(1000)"
)
NANO = "from pathlib import Path; from vision_zero.models.nano import make; make(Path({out!r}))"


def children(pid: int) -> set[int]:
    found = {int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    return found | {grandchild for child in found for grandchild in children(child)}


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("program", ["pictures ahead", "train", "nano make"])
def test_no_child_outlives_a_killed_parent(tmp_path: Path, program: str) -> None:
    words = {
        "pictures ahead": ["-c", POOL],
        "train": ["-m", "vision_zero.cli", *command(tmp_path / "run", processes=2)],
        "nano make": ["-c", NANO.format(out=str(tmp_path))],
    }[program]
    parent = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(started := children(parent.pid)) < 2:
        assert parent.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    while alive := {pid for pid in started if runs(pid)}:
        assert time.monotonic() < deadline, f"{alive} outlive their parent"
        time.sleep(0.05)


def test_a_process_without_a_parent_of_ours_goes_on() -> None:
    assert multiprocessing.parent_process() is None
    end_with_parent()
    assert os.getpid()
