"""Checkpoints: all of a run's state at a step, whole or not at all.

    checkpoints/step-000010/
    ├── model/            an ordinary Hugging Face folder
    ├── states/           NAME.json and NAME.safetensors for every stateful part
    └── manifest.json     the step, and the SHA-256 of every file

A checkpoint is written beside its place, forced to disk and renamed, so that a crash leaves the one before.
What the disk does to it later shows in the manifest.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from safetensors import SafetensorError

from vision_zero.errors import UserError
from vision_zero.runs.states import read_state, write_state

log = logging.getLogger(__name__)

FORMAT = 1
MANIFEST = "manifest.json"
PARTIAL = ".partial-"
NAME = re.compile(r"step-(\d{6,})")


class HasState(Protocol):
    """A part of a run that a checkpoint must hold."""

    def state_dict(self) -> Any:
        """Everything that changes during a run."""
        ...

    def load_state_dict(self, state: Any, /) -> None:
        """Undo `state_dict`."""
        ...


class HasWeights(Protocol):
    """A model that writes itself as a Hugging Face folder and comes back exactly."""

    def save(self, folder: Path) -> None:
        """Write weights and processor."""
        ...

    def restore(self, folder: Path) -> None:
        """Put back what `save` wrote."""
        ...


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint: its files have been compared with its manifest. `step`: training steps done."""

    path: Path
    step: int


def save(directory: Path, step: int, vlm: HasWeights, states: Mapping[str, HasState], keep: int) -> Checkpoint:
    """Write the checkpoint of `step`, then remove all but the newest `keep` (at least 2). One process calls this.

    A checkpoint of the same step is replaced. Raises `UserError` if the disk refuses.
    """
    if keep < 2:
        raise ValueError(f"keep={keep}: the newest checkpoint alone is no safety, keep 2 or more")
    final = directory / f"step-{step:06d}"
    partial = directory / f"{PARTIAL}{final.name}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for left in directory.glob(f"{PARTIAL}*"):
            shutil.rmtree(left)
        (partial / "states").mkdir(parents=True)
        vlm.save(partial / "model")
        for name, part in states.items():
            write_state(partial / "states", name, part.state_dict())
        manifest = {"format": FORMAT, "step": step, "files": _hashes(partial)}
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        _force_to_disk(partial)
        if final.exists():
            final.rename(directory / f"{PARTIAL}replaced-{final.name}")
        partial.rename(final)
        _force(directory)
        _prune(directory, keep)
    except (OSError, SafetensorError) as e:
        raise UserError(f"cannot save checkpoint {final}: {e}; free space or set another run directory") from e
    return Checkpoint(final, step)


def latest(directory: Path) -> Checkpoint | None:
    """The newest whole checkpoint, None if there is none. Damaged ones are passed over with a word in the log."""
    for path in reversed(_saved(directory)):
        try:
            return open_checkpoint(path)
        except UserError as e:
            log.warning("%s; trying the one before", e)
    return None


def open_checkpoint(path: Path) -> Checkpoint:
    """Compare a checkpoint with its manifest. Raises `UserError` naming the first file that is not as written."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        version, step, files = manifest["format"], int(manifest["step"]), dict(manifest["files"])
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise UserError(f"{path} is not a whole checkpoint: its {MANIFEST} cannot be read ({e})") from e
    if version != FORMAT:
        raise UserError(
            f"{path} has checkpoint format {version}, this version reads {FORMAT}: use the version it is from"
        )
    for name, expected in files.items():
        file = path / name
        if not file.is_file():
            raise UserError(f"{path} is not a whole checkpoint: {name} is missing")
        if _hash(file) != expected:
            raise UserError(f"{path} is not a whole checkpoint: {name} was altered after it was written")
    return Checkpoint(path, step)


def load(checkpoint: Checkpoint, vlm: HasWeights, states: Mapping[str, HasState]) -> None:
    """Put weights and states back in place. The parts must be those of the run that was saved.

    Raises `UserError` if the checkpoint lacks the state of a part.
    """
    folder = checkpoint.path / "states"
    missing = sorted(name for name in states if not (folder / f"{name}.json").is_file())
    if missing:
        raise UserError(f"{checkpoint.path} has no state of {', '.join(missing)}: resume with the version it is from")
    vlm.restore(checkpoint.path / "model")
    for name, part in states.items():
        part.load_state_dict(read_state(folder, name))


def _saved(directory: Path) -> list[Path]:
    """Checkpoints in the order of their steps."""
    found = [(int(m[1]), p) for p in directory.glob("step-*") if (m := NAME.fullmatch(p.name))]
    return [path for _, path in sorted(found)]


def _prune(directory: Path, keep: int) -> None:
    for path in [*_saved(directory)[:-keep], *directory.glob(f"{PARTIAL}*")]:
        # Renamed first: a checkpoint that is being removed must not look like a damaged one.
        doomed = path if path.name.startswith(PARTIAL) else path.rename(directory / f"{PARTIAL}pruned-{path.name}")
        shutil.rmtree(doomed)


def _hashes(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): _hash(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def _hash(file: Path) -> str:
    with file.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _force_to_disk(folder: Path) -> None:
    for path in folder.rglob("*"):
        _force(path)
    _force(folder)


def _force(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
