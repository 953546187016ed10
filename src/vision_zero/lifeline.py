"""Processes that end with the one that started them: who is killed cannot tell its children to stop."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_VARIABLE = "VISION_ZERO_LIFELINE"


def end_with_parent() -> None:
    """To be called first in a process that `multiprocessing` (or a pool of it) has started."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        _end_after(parent.join)


@contextmanager
def lifeline() -> Iterator[tuple[dict[str, str], tuple[int, ...]]]:
    """For children that are programs: variables for their environment, and the handles that they inherit.

    A child that calls `hold_on` ends as soon as this process does, however that comes about.
    """
    # Nobody ever writes. The end of this process closes its end of the pipe, and the child reads that.
    mine_to_read, mine_to_hold = os.pipe()
    try:
        yield {_VARIABLE: str(mine_to_read)}, (mine_to_read,)
    finally:
        os.close(mine_to_read)
        os.close(mine_to_hold)


def hold_on() -> None:
    """End with the process whose `lifeline` this one was given, if it was."""
    handle = os.environ.pop(_VARIABLE, None)
    if handle is not None:
        _end_after(lambda: os.read(int(handle), 1))


def end(child: subprocess.Popen[Any], patience: float) -> None:
    """Ask a child to end, and end it after `patience` seconds. Nothing to do for one that has ended."""
    child.terminate()
    try:
        child.wait(patience)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _end_after(wait: Callable[[], object]) -> None:
    def watch() -> None:
        wait()
        os._exit(1)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
