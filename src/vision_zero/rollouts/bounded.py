"""Calls that may hang, waited for with patience and not for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from queue import SimpleQueue
from typing import TypeVar

from vision_zero.errors import UserError

T = TypeVar("T")


class BoundedThread:
    """Runs calls one after another in a thread of its own.

    A thread and not a process: vLLM in the training process shares its device and its memory. A call that hangs
    in a kernel cannot be ended from outside; it can be left behind, so that the run ends with a word.
    """

    def __init__(self, name: str, patience: float) -> None:
        """`patience`: most seconds without a sign of life."""
        self._name, self._patience = name, patience
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._beat = time.monotonic()
        self._lost = False
        # a daemon: the interpreter does not wait for a thread that hangs
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def beat(self) -> None:
        """A sign of life, given by the call that runs."""
        self._beat = time.monotonic()

    def call(self, function: Callable[[], T]) -> T:
        """What `function` returns or raises. Raises `UserError` if it gives no sign of life for too long, and ever
        after."""
        if self._lost:
            raise UserError(f"{self._name} was given up before: start the run again, it resumes where it was saved")
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(function())
            except BaseException as e:  # noqa: BLE001 - whoever waits for the result raises it
                future.set_exception(e)

        self.beat()
        self._calls.put(run)
        while not wait([future], self._beat + self._patience - time.monotonic()).done:
            if time.monotonic() - self._beat >= self._patience:
                self._lost = True
                raise UserError(
                    f"{self._name} gave no sign of life for {self._patience:.0f} seconds (rollouts.vllm.timeout) and "
                    "was given up. Start the run again: it resumes from its last checkpoint"
                )
        return future.result()

    def _work(self) -> None:
        while True:
            self._calls.get()()
