"""The real command in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def viewing(path: Path, *options: str) -> Iterator[str]:
    """`vision-zero view` on a free port, and the address that it prints."""
    command = [sys.executable, "-m", "vision_zero.cli", "view", str(path), "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield server.stdout.readline().strip()
        finally:
            server.terminate()
