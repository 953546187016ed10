"""Blender's own environment: where it is, how it is made, and whether it works here.

Blender as a Python module (`bpy`) wants one version of Python and an old numpy, and is under the GPL: it lives in a
virtual environment apart, and is run as a program.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from vision_zero.errors import UserError

VERSION = "4.5.15"
REQUIREMENTS = (f"bpy=={VERSION}", "numpy<2")
PYTHON = (3, 11)
VARIABLE = "VISION_ZERO_BLENDER"
"""Environment variable that names the folder, where it is not the usual one."""
_PACKAGES = {
    "libX11": "libx11-6",
    "libXrender": "libxrender1",
    "libXfixes": "libxfixes3",
    "libXi": "libxi6",
    "libXext": "libxext6",
    "libxkbcommon": "libxkbcommon0",
    "libSM": "libsm6",
    "libICE": "libice6",
    "libGL": "libgl1",
}
"""Debian's packages of the libraries that the wheel does not bring along."""


def folder() -> Path:
    """Where the environment is, or would be."""
    named = os.environ.get(VARIABLE)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(named) if named else cache / "vision-zero" / f"blender-{VERSION}"


def interpreter(environment: Path) -> Path:
    """The environment's Python. Raises `UserError` if it is not installed there."""
    program = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not program.exists():
        raise UserError(
            f"Blender is not installed at {environment}: vision-zero pairs blender install, "
            f"or name the folder where it is in {VARIABLE}"
        )
    return program


def install(environment: Path, python: Path | None = None) -> str:
    """Make the environment, or complete one that was begun, and return the version of the Blender that runs in it.

    About 400 MB are fetched from the package index that pip is set up for; the environment has 1 GB. `python` is a
    Python 3.11; None: this one, or the first on the path. Raises `UserError` if there is none, if the folder holds
    something else, if pip fails (its own words are on standard error), and as `check` does.
    """
    if environment.exists() and any(environment.iterdir()) and not (environment / "pyvenv.cfg").exists():
        raise UserError(f"{environment} is not empty and no virtual environment: choose another --venv")
    steps = ([str(python or _find_python()), "-m", "venv", str(environment)],)
    for command in (*steps, None):
        # only the first step makes the interpreter of the second
        command = command or [str(interpreter(environment)), "-m", "pip", "install", *REQUIREMENTS]
        done = subprocess.run(command, check=False)
        if done.returncode:
            raise UserError(f"{' '.join(command)} failed with exit status {done.returncode}: see above")
    return check(environment)


def check(environment: Path) -> str:
    """The version of the Blender that runs there. Raises `UserError` with the reason and remedy if none does."""
    program = interpreter(environment)
    code = "import bpy; print('blender', bpy.app.version_string)"
    done = subprocess.run([program, "-c", code], capture_output=True, text=True, check=False)
    found = re.search(r"^blender (.+)$", done.stdout, re.MULTILINE)
    if not done.returncode and found:
        return found[1]
    missing = missing_libraries(environment)
    if missing:
        packages = " ".join(sorted({_PACKAGES.get(name.partition(".")[0], name) for name in missing}))
        raise UserError(
            f"Blender needs libraries that this machine lacks: {', '.join(missing)}. "
            f"On Debian and Ubuntu: apt-get install {packages}"
        )
    last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
    raise UserError(f"Blender does not start from {environment} ({last[0]}): remove the folder and install it again")


def missing_libraries(environment: Path) -> list[str]:
    """Names of shared libraries that Blender's module needs and the loader does not find (Linux; else none)."""
    ldd = shutil.which("ldd")
    modules = sorted(environment.glob("lib/python*/site-packages/bpy/__init__*.so"))
    if ldd is None or not modules:
        return []
    listed = subprocess.run([ldd, *modules], capture_output=True, text=True, check=False).stdout
    return sorted(set(re.findall(r"^\s*(\S+) => not found", listed, re.MULTILINE)))


def _find_python() -> str:
    if sys.version_info[:2] == PYTHON:
        return sys.executable
    name = "python{}.{}".format(*PYTHON)
    found = shutil.which(name)
    if found is None:
        raise UserError(f"Blender {VERSION} runs in {name} only, which is not on the path: install it or say --python")
    return found
