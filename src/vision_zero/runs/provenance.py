"""Which software a run was made with."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path

_PACKAGES = ("vision-zero", "torch", "transformers", "accelerate", "peft", "safetensors", "numpy")


def versions() -> dict[str, str]:
    """Version of Python and of every package that can change what a run computes."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in _PACKAGES}}


def commit() -> str | None:
    """Hash of the git commit that this package runs from, with "+changes" if files differ from it.

    None if the package is not tracked by git (an ordinary installation) or if there is no git.
    """
    here = Path(__file__).resolve()
    if _git(here.parent, "ls-files", "--error-unmatch", here.name) is None:
        return None
    head = _git(here.parent, "rev-parse", "HEAD")
    package = here.parent.parent
    changed = _git(package, "status", "--porcelain", "--untracked-files=no", "--", ".")
    return head and head + ("+changes" if changed else "")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
