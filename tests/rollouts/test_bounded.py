"""Calls in a thread of their own: results and errors come back, hangs end in bounded time."""

from __future__ import annotations

import threading
import time

import pytest

from vision_zero.errors import UserError
from vision_zero.rollouts.bounded import BoundedThread


def test_results_and_errors_come_back_from_one_thread() -> None:
    thread = BoundedThread("an engine", 10)
    assert thread.call(threading.get_ident) == thread.call(threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        thread.call(lambda: 1 / 0)
    assert thread.call(lambda: "goes on") == "goes on"


def test_a_slow_call_that_gives_signs_of_life_is_waited_for() -> None:
    thread = BoundedThread("an engine", 0.2)

    def slow() -> str:
        for _ in range(6):
            time.sleep(0.1)
            thread.beat()
        return "done"

    assert thread.call(slow) == "done"


def test_a_call_that_hangs_is_given_up_and_so_is_the_thread() -> None:
    thread, never = BoundedThread("an engine", 0.2), threading.Event()
    with pytest.raises(UserError, match="an engine gave no sign of life"):
        thread.call(never.wait)
    with pytest.raises(UserError, match="given up before"):
        thread.call(lambda: None)
    never.set()
