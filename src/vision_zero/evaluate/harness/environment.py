"""The tools' own environments: where they are, how they are made, and what the tool in one knows.

VLMEvalKit and lmms-eval want versions of packages that exclude each other, and ours: each lives in a virtual
environment apart, pinned by `vlmevalkit.txt` and `lmms-eval.txt` beside this file, and is run as a program.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vision_zero.errors import UserError
from vision_zero.runs.files import write_atomic
from vision_zero.types import JSON

REQUIREMENTS = {"vlmevalkit": "ms-vlmeval==0.0.20", "lmms-eval": "lmms-eval==0.7.3"}
"""What is installed, by the name of the tool. VLMEvalKit is `ms-vlmeval` on the package index."""
VARIABLE = "VISION_ZERO_HARNESS"
"""Environment variable that names the folder of both environments, where it is not the usual one."""
PYTHONS = ("python3.11", "python3.12")
"""Pythons that the pinned packages have wheels for."""
START = Path(__file__).with_name("start.py")
_MARK = "vision-zero:"
_KEPT = "vision-zero.json"
"""What a tool told of itself, in its environment."""


@dataclass(frozen=True)
class Tool:
    """An installed tool. `benchmarks` are all that it knows, each with what it says of it.

    Example: `Tool("vlmevalkit", Path(".../vlmevalkit"), "0.0.20", {"MMStar": "ImageMCQDataset"}, ("torch==2.13.0",))`
    """

    name: str
    folder: Path
    version: str
    benchmarks: Mapping[str, str]
    packages: tuple[str, ...]

    def command(self, module: str, *arguments: str) -> list[str]:
        """A command line that runs one of the tool's modules in its environment."""
        return [str(_program(self.folder)), "-I", str(START), "run", module, *arguments]


def folder(tool: str) -> Path:
    """Where the environment of a tool is, or would be."""
    named = os.environ.get(VARIABLE)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return (Path(named) if named else cache / "vision-zero" / "harness").absolute() / tool


def interpreter(tool: str, environment: Path) -> Path:
    """The environment's Python. Raises `UserError` if it is not installed there."""
    program = _program(environment)
    if not program.exists():
        raise UserError(
            f"{tool} is not installed at {environment}: vision-zero harness install {tool}, "
            f"or name the folder of both tools in {VARIABLE}"
        )
    return program


def install(tool: str, python: Path | None = None) -> Tool:
    """Make the environment of a tool, or complete one that was begun, and see that the tool starts.

    `python` is a Python 3.11 or 3.12; None: this one, or the first on the path. Raises `UserError` if there is none,
    if the folder holds something else, if pip fails (its own words are above), or if the tool does not start.
    """
    environment = folder(tool)
    if environment.exists() and any(environment.iterdir()) and not (environment / "pyvenv.cfg").exists():
        raise UserError(f"{environment} is not empty and no virtual environment: remove it, or set {VARIABLE}")
    pins = Path(__file__).with_name(f"{tool}.txt")
    _run([str(python or _find_python()), "-m", "venv", str(environment)])
    _run([str(interpreter(tool, environment)), "-m", "pip", "install", "-c", str(pins), REQUIREMENTS[tool]])
    (environment / _KEPT).unlink(missing_ok=True)
    return find(tool)


def find(tool: str) -> Tool:
    """The installed tool, with all benchmarks that it knows. Raises `UserError` if it is not installed."""
    environment = folder(tool)
    interpreter(tool, environment)
    kept = environment / _KEPT
    if not kept.is_file():
        # importing such a tool takes ten seconds and more: once is enough
        write_atomic(kept, json.dumps(ask(tool, environment, "describe", tool), indent=2).encode() + b"\n")
    told = json.loads(kept.read_text(encoding="utf-8"))
    return Tool(tool, environment, told["version"], told["benchmarks"], tuple(told["packages"]))


def ask(tool: str, environment: Path, *question: str) -> JSON:
    """What `start.py` answers inside a tool's environment. Raises `UserError` with its last words if it fails."""
    command = [str(interpreter(tool, environment)), "-I", str(START), *question]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ())
    marked = [line for line in done.stdout.splitlines() if line.startswith(_MARK)]
    if done.returncode or not marked:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise UserError(
            f"{tool} does not start from {environment} ({last[0]}): remove that folder, "
            f"then vision-zero harness install {tool}"
        )
    answer: JSON = json.loads(marked[-1].removeprefix(_MARK))
    return answer


def environ(**settings: str) -> dict[str, str]:
    """This process's variables, less those that would lead a tool elsewhere, with `settings`."""
    elsewhere = {"MMEVAL_ROOT", "FWD_API", "LMDEPLOY_API_KEY", "LMDEPLOY_API_BASE", "LOCAL_LLM", "VIRTUAL_ENV"}
    elsewhere |= {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "PRED_FORMAT", "EVAL_FORMAT"}
    local = ",".join(filter(None, (os.environ.get("NO_PROXY"), "127.0.0.1")))
    return (
        {k: v for k, v in os.environ.items() if k not in elsewhere} | {"NO_PROXY": local, "no_proxy": local} | settings
    )


def _program(environment: Path) -> Path:
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _run(command: list[str]) -> None:
    done = subprocess.run(command, check=False)
    if done.returncode:
        raise UserError(f"{' '.join(command)} failed with exit status {done.returncode}: see above")


def _find_python() -> str:
    if f"python3.{sys.version_info[1]}" in PYTHONS:
        return sys.executable
    for name in PYTHONS:
        found = shutil.which(name)
        if found is not None:
            return found
    raise UserError(
        f"the tools run in {' or '.join(PYTHONS)}, none of which is on the path: install one or say --python"
    )
