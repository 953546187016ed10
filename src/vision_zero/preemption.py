"""SIGTERM, which schedulers send before they take a machine away: save at the end of the step, then leave."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_CODE = 75
"""EX_TEMPFAIL of sysexits.h: nothing is wrong, run the same command again."""


@contextmanager
def orderly_exit() -> Iterator[None]:
    """Inside, SIGTERM raises `SystemExit`, so that children are stopped and temporary files removed on the way out.

    Its code is what a shell gives for a process that the signal ended. Only in the main thread; see `Preemption`.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Preempted(Exception):
    """The run was asked to leave, and nothing that `resume` needs is lost."""


class Preemption:
    """Whether this process was asked to leave. Use as a context manager.

    Inside `until_saved` SIGTERM only sets `asked`, for the loop to look at between two steps; elsewhere it raises
    `Preempted` at once. In a thread that is not the main one signals cannot be heard, and SIGTERM is as it was.
    """

    def __init__(self) -> None:
        self.asked = False
        self._deferred = False

    def __enter__(self) -> Preemption:
        self._hears = threading.current_thread() is threading.main_thread()
        if self._hears:
            self._before = signal.signal(signal.SIGTERM, self._hear)
        return self

    def __exit__(self, *error: object) -> None:
        if self._hears:
            signal.signal(signal.SIGTERM, self._before)

    @contextmanager
    def until_saved(self) -> Iterator[None]:
        """Inside, work is finished and saved before the process leaves."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
        if self.asked:
            raise Preempted

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        if not self._deferred:
            raise Preempted
