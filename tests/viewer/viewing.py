"""The real commands in a process of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def serving(*arguments: str) -> Iterator[str]:
    """A command that serves a page, on a free port, and the address that it prints."""
    command = [sys.executable, "-m", "vision_zero.cli", *arguments, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield next(line.strip() for line in server.stdout if line.startswith("http://"))
        finally:
            server.terminate()


@contextmanager
def viewing(path: Path, *options: str) -> Iterator[str]:
    """`vision-zero view`, and its address."""
    with serving("view", str(path), *options) as address:
        yield address
