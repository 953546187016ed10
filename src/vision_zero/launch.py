"""Starts this machine's processes of a run. `torchrun` sets the same variables, and is not needed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from vision_zero.lifeline import lifeline
from vision_zero.machines import Place

POLL_SECONDS = 0.2
GRACE_SECONDS = 10.0
"""How long the others have for their last words when one process has failed."""


def is_launched() -> bool:
    """True in a process that this module, torchrun or accelerate started: it must not start others."""
    return "WORLD_SIZE" in os.environ


def launch(arguments: Sequence[str], processes: int, nodes: int, place: Place) -> int:
    """Run `vision-zero ARGUMENTS` in `processes` processes that find each other, and those that the same call starts on
    the other `nodes`; the exit code of the first here that fails. `check_world` has let `place` through.

    Rank 0 has the terminal; the others print errors only. When one fails or the user interrupts, all here end; so they
    do when this process is killed. SIGTERM is passed on to all of them.
    """
    host, _, port = (place.rendezvous or f"127.0.0.1:{_free_port()}").rpartition(":")
    first = (place.node or 0) * processes
    # Threads that wait for cores which other processes use spin: tiny steps then take ten times as long.
    threads = max(1, (os.cpu_count() or 1) // processes)
    running: list[subprocess.Popen[bytes]] = []
    with lifeline() as (variables, handles), _passing_on_sigterm(running):
        try:
            for local in range(processes):
                rank = first + local
                env = (
                    os.environ
                    | variables
                    | {
                        "MASTER_ADDR": host,
                        "MASTER_PORT": port,
                        "WORLD_SIZE": str(processes * nodes),
                        "RANK": str(rank),
                        "LOCAL_RANK": str(local),
                        "LOCAL_WORLD_SIZE": str(processes),
                        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)),
                    }
                )
                command = [sys.executable, "-m", "vision_zero.cli", *arguments]
                output = None if rank == 0 else subprocess.DEVNULL
                running.append(subprocess.Popen(command, env=env, stdout=output, pass_fds=handles))
            return _wait(running)
        except KeyboardInterrupt:
            # The terminal has interrupted them too; they say their last words themselves.
            return _wait(running) or 130
        finally:
            _end(running)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _passing_on_sigterm(running: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Inside, what asks this process to leave asks `running`, which leave when they have saved."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        for p in running:
            p.terminate()

    before = signal.signal(signal.SIGTERM, pass_on)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _wait(running: Sequence[subprocess.Popen[bytes]]) -> int:
    """0 when all have ended well, else the first bad exit code, at once."""
    while True:
        codes = [p.poll() for p in running]
        bad = [code for code in codes if code]
        if bad:
            return bad[0] if bad[0] > 0 else 128 - bad[0]
        if all(code == 0 for code in codes):
            return 0
        time.sleep(POLL_SECONDS)


def _end(running: Sequence[subprocess.Popen[bytes]]) -> None:
    # Those who wait for one that is gone hear of it, and end by themselves; SIGTERM would have them save first.
    deadline = time.monotonic() + GRACE_SECONDS
    for p in running:
        try:
            p.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()
