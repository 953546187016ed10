"""The run directory: the contract between a training run and everything that looks at it.

    NAME-20260102-030405/
    ├── run.json                    name, seed, start time, versions, commit, resolved configuration and its changes
    ├── recipe.yaml                 the resolved configuration as a recipe: train it again with this file
    ├── metrics.jsonl               one line a step: flat names to numbers and words
    ├── episodes/step_000012.jsonl  every game of a step, complete
    ├── episodes/unfinished_000013.jsonl  only if a player was lost in that step: its games that had ended
    ├── images/<sha256>.png         every picture once, by the hash of its bytes (.jpg, .webp where they are such)
    ├── images/<sha256>.facts.json  what is known to be in the picture, if anything is
    ├── offending/step_000012.jsonl only if updates of that step were skipped: the samples that made them so
    ├── checkpoints/                see `runs.checkpoint`
    ├── processes/                  what each of several processes does now, see `whereabouts`
    └── events/                     TensorBoard

Two runs of one recipe differ in `run.json`, in metrics named `seconds/…` or `speed/…` and in `events/`, and in nothing
else.
"""

from __future__ import annotations

import io
import json
import math
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from vision_zero.config import RunConfig, load_config
from vision_zero.errors import UserError
from vision_zero.runs import provenance
from vision_zero.runs.changes import Changes, changed_settings
from vision_zero.runs.files import append_line, read_lines, read_object, remove_partial, within, write_atomic
from vision_zero.runs.serialise import (
    changes_from_json,
    dumps,
    episode_from_json,
    episode_to_json,
    from_float,
    pictures_of,
    require_seats,
    sample_to_json,
    to_float,
)
from vision_zero.types import JSON, Change, Episode, ImagePair, Picture, Sample

Metrics = Mapping[str, float | int | str]
"""Flat names to numbers or words. Example: `{"stage": "clue", "win/civilian": 0.4, "seconds/play": 3.1}`"""

_STEP = re.compile(r"step_(\d{6,9})\.jsonl")
_SHA = re.compile(r"[0-9a-f]{64}")
_MOST_PIXELS = 64_000_000
_BROKEN = (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError, OverflowError, struct.error)
"""What Pillow's decoders raise on bytes that are not what their header says."""
_WORDS_FOR_NUMBERS = ("NaN", "Infinity", "-Infinity")
_SIGNATURES = {b"\x89PNG\r\n\x1a\n": ".png", b"\xff\xd8\xff": ".jpg", b"RIFF": ".webp"}


@dataclass(frozen=True)
class Record:
    """A stored game: the episode, the step it was played in, and what differs in its pair (None if unknown)."""

    step: int
    episode: Episode
    changes: tuple[Change, ...] | None


class RunStore:
    """Reads and writes one run directory. Only one process may write; any number may read at the same time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.events = path / "events"
        self._recipe = path / "recipe.yaml"
        self._metrics = path / "metrics.jsonl"
        self._episodes = path / "episodes"
        self._images = path / "images"
        self._last_step: int | None = None

    @classmethod
    def create(cls, root: Path, config: RunConfig, out: Path | None = None) -> RunStore:
        """Make the directory of a new run: `out` if given, else a new `root/NAME-DATE-TIME`.

        Raises UserError if `out` already holds anything: a run is never written over. (What a killed `create` has
        left is made whole.)
        """
        started = datetime.now(UTC)
        path = out if out is not None else _vacant(root, f"{config.name}-{started:%Y%m%d-%H%M%S}")
        store = cls(path)
        folders = (store.checkpoints, store.events, store._episodes, store._images)
        if path.exists() and not (path.is_dir() and _is_unborn(path, folders)):
            raise UserError(
                f"{path} is not empty: go on with `vision-zero resume {path}`, or choose another --out for a new run"
            )
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        store._write_recipe(config)
        facts = {
            "name": config.name,
            "seed": config.seed,
            "started": started.isoformat(timespec="seconds"),
            "versions": provenance.versions(),
            "commit": provenance.commit(),
            "config": config.model_dump(mode="json"),
        }
        # last, because `open` takes it as the sign of a run directory
        store._write_info(facts)
        return store

    @classmethod
    def open(cls, path: Path) -> RunStore:
        """An existing run directory. Raises UserError if `path` is not one."""
        if not (path / "run.json").is_file():
            near = sorted(p.parent.name for p in path.glob("*/run.json")) if path.is_dir() else []
            hint = f"it holds the runs {', '.join(near)}" if near else "give the folder that `vision-zero train` named"
            raise UserError(f"{path} is not a run directory (no run.json): {hint}")
        return cls(path)

    @property
    def info(self) -> JSON:
        """What `run.json` says."""
        return read_object(within(self.path, self.path / "run.json"))

    @property
    def config(self) -> RunConfig:
        """The resolved configuration of the run."""
        return load_config(within(self.path, self._recipe))

    @property
    def settled(self) -> RunConfig:
        """The configuration that the run last went on with; since then `recipe.yaml` may have been edited."""
        try:
            return RunConfig.model_validate(self.info["config"])
        except (KeyError, ValueError) as e:
            raise UserError(f"{self.path / 'run.json'} does not hold the settings of a run ({e}): restore it") from e

    def settle(self, config: RunConfig, steps_done: int) -> Changes:
        """Go on with `config` after so many steps. `run.json` keeps what was changed and when; returns the changes."""
        changes = changed_settings(self.settled, config)
        if changes:
            # The recipe first: killed in between, the same command still finds the change to be made.
            self._write_recipe(config)
            facts, now = self.info, datetime.now(UTC).isoformat(timespec="seconds")
            record = {"steps_done": steps_done, "when": now, "settings": changes}
            changed = {"config": config.model_dump(mode="json"), "changes": [*facts.get("changes", []), record]}
            self._write_info(facts | changed)
        return changes

    def _write_recipe(self, config: RunConfig) -> None:
        text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        write_atomic(self._recipe, text.encode())

    def _write_info(self, facts: JSON) -> None:
        write_atomic(self.path / "run.json", json.dumps(facts, indent=2, allow_nan=False).encode() + b"\n")

    # Metrics

    def append_metrics(self, step: int, metrics: Metrics) -> None:
        """Add the line of a step. Steps must rise; a value that is neither number nor word raises TypeError."""
        if self._last_step is None:
            self._last_step = max((int(m["step"]) for m in self.read_metrics()), default=-1)
        if step <= self._last_step:
            raise ValueError(
                f"{self._metrics} already goes to step {self._last_step}: truncate_after({step - 1}) first"
            )
        append_line(self._metrics, dumps({"step": step, **{k: _plain(k, v) for k, v in metrics.items()}}))
        self._last_step = step

    def read_metrics(self) -> list[dict[str, Any]]:
        """One dictionary a step, `step` among its keys, in the order of the steps."""
        return [{k: to_float(v) for k, v in line.items()} for line in self._metric_lines()]

    def _metric_lines(self) -> list[JSON]:
        lines = list(read_lines(within(self.path, self._metrics)))
        for number, line in enumerate(lines, start=1):
            plain = all(type(value) in (int, float, str) for value in line.values())
            if not plain or type(line.get("step")) is not int:
                raise UserError(
                    f"{self._metrics}, line {number} is not the line of a step: remove the line or restore the file"
                )
        return lines

    # Games

    def write_episodes(self, step: int, episodes: Sequence[Episode], pairs: Iterable[ImagePair] = ()) -> None:
        """Store all games of a step, and their pictures. `pairs` tells what differs in the pairs that were played."""
        self._write_games(self.episode_path(step), episodes, pairs)
        self._unfinished_path(step).unlink(missing_ok=True)

    def keep_unfinished(self, step: int, episodes: Sequence[Episode], pairs: Iterable[ImagePair]) -> None:
        """Store games that have ended of a step that has not."""
        self._write_games(self._unfinished_path(step), episodes, pairs)

    def read_unfinished(self, step: int) -> dict[str, Episode]:
        """What `keep_unfinished` stored, by id; nothing if the step was not left unfinished."""
        stored = [
            episode_from_json(tree, self.picture) for tree in read_lines(within(self.path, self._unfinished_path(step)))
        ]
        return {episode.id: episode for episode in stored}

    def offending_path(self, step: int) -> Path:
        """Where samples for which updates of a step were skipped lie."""
        return self.path / "offending" / f"step_{step:06d}.jsonl"

    def write_offending(self, step: int, samples: Sequence[Sample]) -> None:
        """Store samples whose loss or gradient is not finite, one a line."""
        path = self.offending_path(step)
        path.parent.mkdir(exist_ok=True)
        write_atomic(path, "".join(dumps(sample_to_json(sample)) + "\n" for sample in samples).encode())

    def _write_games(self, path: Path, episodes: Sequence[Episode], pairs: Iterable[ImagePair]) -> None:
        changes = {p.id: p.changes for p in pairs}
        for picture in {p.sha: p for e in episodes for p in pictures_of(e)}.values():
            self._keep(picture)
        lines = [dumps(episode_to_json(e, changes.get(e.pair))) + "\n" for e in episodes]
        write_atomic(path, "".join(lines).encode())

    def _unfinished_path(self, step: int) -> Path:
        return self._episodes / f"unfinished_{step:06d}.jsonl"

    def steps(self) -> list[int]:
        """Steps whose games are stored."""
        return sorted(int(m[1]) for p in self._episodes.glob("step_*.jsonl") if (m := _STEP.fullmatch(p.name)))

    def episode_path(self, step: int) -> Path:
        """Where the games of a step lie, or would lie: one a line."""
        return self._episodes / f"step_{step:06d}.jsonl"

    def read_records(
        self, step: int | None = None, filter: Callable[[Episode], bool] = lambda episode: True
    ) -> Iterator[Record]:
        """Stored games in the order they were played: of one step or of all, those that `filter` lets through.

        Raises UserError if that step has no games, or if a file or a picture is missing or damaged.
        """
        if step is not None and step not in self.steps():
            known = self.steps()
            span = f"there are games of steps {known[0]} to {known[-1]}" if known else "no games were stored yet"
            raise UserError(f"{self.path} has no games of step {step}: {span}")
        for number in self.steps() if step is None else [step]:
            pictures: dict[str, Picture] = {}

            def look_up(sha: str, seen: dict[str, Picture] = pictures) -> Picture:
                if sha not in seen:
                    seen[sha] = self.picture(sha)
                return seen[sha]

            file = within(self.path, self.episode_path(number))
            for line, tree in enumerate(read_lines(file), start=1):
                try:
                    record = Record(number, episode_from_json(tree, look_up), changes_from_json(tree))
                    require_seats(record.episode)
                except (KeyError, TypeError, AttributeError, ValueError) as e:
                    raise UserError(
                        f"{file}, line {line} is not a stored game ({e!r}): remove the line or restore the file"
                    ) from e
                if filter(record.episode):
                    yield record

    def read_episodes(
        self, step: int | None = None, filter: Callable[[Episode], bool] = lambda episode: True
    ) -> Iterator[Episode]:
        """As `read_records`, the episodes alone."""
        return (record.episode for record in self.read_records(step, filter))

    # Pictures

    def picture(self, sha: str) -> Picture:
        """A stored picture, with its facts if they are known. Raises UserError if it is missing or damaged."""
        path = within(self.path, self.picture_path(sha))
        facts = within(self.path, self._images / f"{sha}.facts.json")
        picture = Picture(path.read_bytes(), read_object(facts) if facts.exists() else None)
        if picture.sha != sha:
            raise UserError(f"{path} is damaged: its bytes are not those of its name; restore it")
        _require_picture(picture, path)
        return picture

    def picture_path(self, sha: str) -> Path:
        """Where a stored picture lies."""
        if not _SHA.fullmatch(sha):
            raise UserError(f"{sha[:80]!r} is no picture's name: they are 64 hexadecimal digits")
        for suffix in _SIGNATURES.values():
            path = self._images / f"{sha}{suffix}"
            if path.exists():
                return path
        raise UserError(f"picture {sha} is missing in {self._images}: restore the folder")

    def _keep(self, picture: Picture) -> None:
        path = self._images / f"{picture.sha}{_suffix(picture)}"
        if _is_absent(path):
            write_atomic(path, picture.data, durable=False)
        facts = self._images / f"{picture.sha}.facts.json"
        if picture.facts is not None and _is_absent(facts):
            write_atomic(facts, dumps(dict(picture.facts)).encode(), durable=False)

    # Resuming

    def truncate_after(self, step: int) -> None:
        """Forget everything that came after `step`, so that the run goes on as if it had just finished it."""
        kept = [m for m in self._metric_lines() if m["step"] <= step]
        write_atomic(self._metrics, "".join(dumps(m) + "\n" for m in kept).encode())
        for number in self.steps():
            if number > step:
                self.episode_path(number).unlink()
        for path in self._episodes.glob("unfinished_*.jsonl"):
            # games of later steps were played with weights that this run has not reached
            if path != self._unfinished_path(step + 1):
                path.unlink()
        for folder in (self.path, self._episodes, self._images):
            remove_partial(folder)
        self._last_step = None


def _vacant(root: Path, name: str) -> Path:
    """A new, empty directory. Making it is what reserves the name against other runs that start now."""
    root.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        path = root / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir()
        except FileExistsError:
            number += 1
        else:
            return path


def _is_unborn(path: Path, folders: Iterable[Path]) -> bool:
    """Holds at most what `create` makes before the run has begun."""
    return all(
        (p in folders and not any(p.iterdir())) or p.name == "recipe.yaml" or p.name.endswith(".partial")
        for p in path.iterdir()
    )


def _is_absent(path: Path) -> bool:
    """Not there, or left empty by a power failure."""
    return not path.exists() or path.stat().st_size == 0


def _plain(name: str, value: object) -> float | int | str:
    if name == "step":
        raise ValueError("the metric name 'step' is taken: it is the line's step")
    if isinstance(value, float):
        return from_float(value) if not math.isfinite(value) else float(value)
    if isinstance(value, str) and value in _WORDS_FOR_NUMBERS:
        raise ValueError(f"metric {name!r} is the word {value!r}, which stands for a number: pass the number")
    if isinstance(value, int | str):
        return value
    raise TypeError(f"metric {name!r} is {type(value).__name__}, not a number or a word: convert it first")


def _require_picture(picture: Picture, path: Path) -> None:
    """Refuse a file that has the right name but was made elsewhere: no picture, a damaged one, or a huge one."""
    try:
        with Image.open(io.BytesIO(picture.data), formats=("PNG", "JPEG", "WEBP")) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise UserError(f"{path}: {image.width}x{image.height} is over {_MOST_PIXELS} pixels: remove it")
            image.load()
    except (*_BROKEN, Image.DecompressionBombError) as e:
        raise UserError(f"{path} is no picture that can be read ({e}): restore it") from e


def _suffix(picture: Picture) -> str:
    for signature, suffix in _SIGNATURES.items():
        if picture.data.startswith(signature):
            return suffix
    raise UserError(
        f"picture {picture.sha} is not PNG, JPEG or WebP (it starts with {picture.data[:8]!r}): convert it first"
    )
