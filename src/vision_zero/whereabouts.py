"""Where every process of a run is, for the case that one of them keeps the others waiting."""

from __future__ import annotations

import faulthandler
import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from vision_zero.errors import UserError

EARLY = 0.9
"""Stacks are written after this share of the time that a process is waited for: before those who wait give up."""
_GIVEN_UP = ("Timed out waiting", "timeout", "Connection closed by peer")
"""What gloo and NCCL say when a process did not come, or one that gave up before has gone."""
_FRAME = re.compile(r'  File "(?P<file>.*)", line (?P<line>\d+) in (?P<function>.*)')


@contextmanager
def whereabouts(folder: Path, rank: int, world: int, patience: float) -> Iterator[Callable[[str], None]]:
    """Gives the function by which a process says what it does from now on. Example: `enter("step 12, play")`

    It stands in a file of this process in `folder`, which all processes share. If it does that for too long
    (`patience`: seconds that processes wait for one another), the stacks of all its threads are added. They come from a
    thread that needs no Python, so that a process that is stuck in a kernel writes them too. If this process has waited
    for too long, that is a `UserError` that says where each one is. The file goes when all went well.
    """
    if world == 1:
        yield lambda phase: None
        return
    folder.mkdir(exist_ok=True)
    path = folder / f"process-{rank}.txt"
    who = f"process {rank} of {world} (pid {os.getpid()} on {socket.gethostname()})"
    with path.open("wb", buffering=0) as file:

        def enter(phase: str) -> None:
            faulthandler.cancel_dump_traceback_later()
            file.seek(0)
            file.truncate()
            file.write(f"{who}: {phase}, since {datetime.now():%H:%M:%S}\n".encode())
            faulthandler.dump_traceback_later(EARLY * patience, file=file)

        enter("start")
        try:
            yield enter
        except RuntimeError as e:
            if not any(words in str(e) for words in _GIVEN_UP):
                raise
            raise UserError(
                f"process {rank} gave up waiting for another one (max_wait_minutes={patience / 60:g}):\n"
                f"{describe(folder)}\nStacks are in {folder}. End what keeps it, or raise max_wait_minutes, and resume"
            ) from e
        finally:
            faulthandler.cancel_dump_traceback_later()
    path.unlink()


def describe(folder: Path) -> str:
    """What all processes last wrote, a line each, with the place in the code if it is known."""
    files = sorted(folder.glob("process-*.txt"), key=lambda p: int(p.stem.rpartition("-")[2]))
    return "\n".join(_describe(path.read_text(encoding="utf-8", errors="replace")) for path in files)


def _describe(text: str) -> str:
    head, _, stacks = text.partition("\n")
    threads = [list(_FRAME.finditer(thread)) for thread in stacks.split("\n\n") if "/vision_zero/train.py" in thread]
    if not threads:
        return head
    frames = threads[0]  # most recent call first
    ours = next(f for f in frames if "/vision_zero/" in f["file"])
    waits = any("/torch/distributed/" in f["file"] for f in frames)
    return (
        f"{head}; it {'waits for others' if waits else 'is busy'} in {ours['function']} ({ours['file']}:{ours['line']})"
    )
