"""Checkpoints: all of a run's state at a step, whole or not at all.

    checkpoints/step-000010/
    ├── model/            an ordinary Hugging Face folder
    ├── states/           NAME.json and NAME.safetensors for every stateful part
    └── manifest.json     the step, and the SHA-256 of every file

A checkpoint is written beside its place, forced to disk and renamed, so that a crash leaves the one before.
What the disk does to it later shows in the manifest. Which ones stay is said in `prune`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from safetensors import SafetensorError

from vision_zero.errors import UserError
from vision_zero.runs.files import read_object, require_space, within, writing
from vision_zero.runs.states import nbytes, read_state, write_state

log = logging.getLogger(__name__)

FORMAT = 1
MANIFEST = "manifest.json"
_FOREIGN = (
    OSError,
    KeyError,
    IndexError,
    TypeError,
    ValueError,
    AttributeError,
    RuntimeError,
    OverflowError,
    SafetensorError,
)
"""What taking over a state raises that was not written by the part it is given to."""
PARTIAL = ".partial-"
NAME = re.compile(r"step-(\d{6,})")
HELD_OUT, MEASURED = "held_out/votes_on_start_clues", "votes/accuracy"
"""Metrics that tell which checkpoint is best."""


class NotWhole(UserError):
    """A checkpoint that is not as it was written."""


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

    @property
    def nbytes(self) -> int:
        """About how many bytes `save` writes."""
        ...

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


def save(directory: Path, step: int, vlm: HasWeights, states: Mapping[str, Any]) -> Checkpoint:
    """Write the checkpoint of `step`. One process calls this.

    `states`: what `state_dict` of every part returned. A checkpoint of the same step is replaced. Raises `UserError`
    if the disk has no room or refuses; what was there before is then still there.
    """
    final = directory / f"step-{step:06d}"
    partial = directory / f"{PARTIAL}{final.name}"
    needed = vlm.nbytes + sum(map(nbytes, states.values()))
    with writing(final, needed):
        directory.mkdir(parents=True, exist_ok=True)
        _remove_partial(directory)
        require_space(final, needed)
        try:
            (partial / "states").mkdir(parents=True)
            vlm.save(partial / "model")
            for name, state in states.items():
                write_state(partial / "states", name, state)
            manifest = {"format": FORMAT, "step": step, "files": _hashes(partial)}
            (partial / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
            _force_to_disk(partial)
        except (OSError, SafetensorError) as e:
            # on a full disk its beginning would be in the way of whatever comes next
            shutil.rmtree(partial)
            raise OSError(e) from e
        if final.exists():
            final.rename(directory / f"{PARTIAL}replaced-{final.name}")
        partial.rename(final)
        _force(directory)
        _remove_partial(directory)
    return Checkpoint(final, step)


def prune(directory: Path, keep: int, best: int | None = None) -> None:
    """Remove what is left of unfinished checkpoints, and all whole ones but the newest `keep` (at least 2) and that
    of the step `best`. One process calls this, when no checkpoint is being written."""
    if keep < 2:
        raise ValueError(f"keep={keep}: the newest checkpoint alone is no safety, keep 2 or more")
    _remove_partial(directory)
    for step, path in _saved(directory)[:-keep]:
        if step != best:
            _remove(path)


def best_step(directory: Path, metrics: Sequence[Mapping[str, Any]]) -> int | None:
    """The step of the best checkpoint, the newer one of equals; None if nothing tells.

    In a run that plays held-out games while it trains: the one after whose step the policy's votes on the frozen
    start's clues were right most often. In others: the one before which votes were right most often, on average
    over the steps since the checkpoint before it. `metrics`: all lines, in the order of the steps.
    """
    by_step = {int(line["step"]): line for line in metrics}
    held_out = any(HELD_OUT in line for line in metrics)
    scores: dict[int, float] = {}
    before = 0
    for done, _ in _saved(directory):
        lines = [by_step[s] for s in ([done - 1] if held_out else range(before, done)) if s in by_step]
        found = [line[key] for line in lines if (key := HELD_OUT if held_out else MEASURED) in line]
        if found:
            scores[done] = sum(found) / len(found)
        before = done
    return max(scores, key=lambda step: (scores[step], step), default=None)


def latest(directory: Path) -> Checkpoint | None:
    """The newest whole checkpoint; None if none was ever saved. Damaged ones are passed over with a word in the log.

    Raises `UserError` if there are checkpoints and none is whole: to begin anew is for the user to decide.
    """
    saved = [path for _, path in _saved(directory)]
    for path in reversed(saved):
        try:
            return open_checkpoint(path)
        except NotWhole as e:
            log.warning("%s; trying the one before", e)
    if saved:
        raise UserError(
            f"none of the {len(saved)} checkpoints in {directory} is whole: restore one, or remove them all to begin "
            "this run anew"
        )
    return None


def remove_after(directory: Path, step: int) -> None:
    """Remove checkpoints of later steps: `latest` found them damaged, and the run comes by there again."""
    for saved, path in _saved(directory):
        if saved > step:
            _remove(path)


def open_checkpoint(path: Path) -> Checkpoint:
    """Compare a checkpoint with its manifest. Raises `NotWhole` naming the first file that is not as written."""
    try:
        manifest = read_object(within(path, path / MANIFEST))
        version, step, files = manifest["format"], int(manifest["step"]), dict(manifest["files"])
    except (UserError, ValueError, KeyError, TypeError, OverflowError) as e:
        raise NotWhole(f"{path} is not a whole checkpoint: its {MANIFEST} cannot be read ({e})") from e
    if version != FORMAT:
        raise UserError(
            f"{path} has checkpoint format {version}, this version reads {FORMAT}: use the version it is from"
        )
    if not isinstance(manifest["files"], dict) or not all(isinstance(v, str) for v in files.values()) or not files:
        raise NotWhole(f"{path} is not a whole checkpoint: its {MANIFEST} names no files with their hashes")
    if step < 0:
        raise NotWhole(f"{path} is not a whole checkpoint: its {MANIFEST} is of step {step}")
    for name, expected in files.items():
        try:
            file = within(path, path / name)
        except UserError as e:
            raise NotWhole(f"{path} is not a whole checkpoint: {e}") from e
        if not file.is_file():
            raise NotWhole(f"{path} is not a whole checkpoint: {name} is missing")
        if _hash(file) != expected:
            raise NotWhole(f"{path} is not a whole checkpoint: {name} was altered after it was written")
    return Checkpoint(path, step)


def load(checkpoint: Checkpoint, vlm: HasWeights, states: Mapping[str, HasState]) -> None:
    """Put weights and states back in place. The parts must be those of the run that was saved.

    Raises `UserError` if the checkpoint lacks the state of a part, or holds something else in its place.
    """
    folder = checkpoint.path / "states"
    missing = sorted(name for name in states if not (folder / f"{name}.json").is_file())
    if missing:
        raise UserError(f"{checkpoint.path} has no state of {', '.join(missing)}: resume with the version it is from")
    vlm.restore(checkpoint.path / "model")
    for name, part in states.items():
        try:
            part.load_state_dict(read_state(folder, name))
        except _FOREIGN as e:
            raise UserError(
                f"{folder / name}.json and .safetensors are no state that this version wrote for this run "
                f"({type(e).__name__}: {e}): resume with the version it is from, or remove the checkpoint"
            ) from e


def _saved(directory: Path) -> list[tuple[int, Path]]:
    """Steps and folders of checkpoints, in the order of their steps."""
    return sorted((int(m[1]), p) for p in directory.glob("step-*") if (m := NAME.fullmatch(p.name)))


def _remove(path: Path) -> None:
    # Renamed first: a checkpoint that is being removed must not look like a damaged one.
    shutil.rmtree(path.rename(path.with_name(f"{PARTIAL}pruned-{path.name}")))


def _remove_partial(directory: Path) -> None:
    for left in directory.glob(f"{PARTIAL}*"):
        shutil.rmtree(left)


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
