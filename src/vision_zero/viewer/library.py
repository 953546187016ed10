"""What the page reads, as JSON values: runs, a run at a glance, the games of a step, a game, a picture.

Everything is read from disk when it is asked for, so that a run can be watched while it trains. A step's games
are scanned once: what the list needs of each is kept, and where its line begins, so that a game is one seek away.

Files of a run may come from anywhere. Only regular files inside the run directory are opened (a link that
leads out is refused), only up to a size, and pictures only if their bytes are those of their name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

from vision_zero.errors import UserError
from vision_zero.evaluate.statistics import wilson
from vision_zero.runs.files import read_lines
from vision_zero.runs.serialise import changes_from_json, episode_from_json, require_seats
from vision_zero.runs.store import RunStore
from vision_zero.types import JSON, Picture
from vision_zero.viewer.telling import game_row, game_view

_SHA = re.compile(r"[0-9a-f]{64}")
_NO_PICTURE = Picture(b"")
_MB = 1024 * 1024
MOST_BYTES = {
    "run.json": 8 * _MB,
    "held_out.json": 8 * _MB,
    "metrics.jsonl": 512 * _MB,
    "picture": 64 * _MB,
    "game": 64 * _MB,
}
"""Largest file, or line of a file of games, that is read."""
HELD_OUT = "held_out.json"
_INTERVALS = ("win/civilian", "win/spy")
"""Metrics that are shares of a step's games, which are independent; votes of one game are not."""


@dataclass(frozen=True)
class _Scan:
    """Games of a step: what the list shows of each, and where its line lies in the file (start, length)."""

    stamp: tuple[int, int]
    rows: tuple[JSON, ...]
    lines: tuple[tuple[int, int], ...]


class RunReader:
    """One run directory, for reading. Many threads may ask at once."""

    def __init__(self, path: Path) -> None:
        self.store = RunStore.open(path)
        self._root = path.resolve()
        self._scans: dict[int, _Scan] = {}
        self._lock = Lock()

    @property
    def name(self) -> str:
        """The folder's name."""
        return self._root.name

    def stamp(self) -> str:
        """Changes whenever there may be new steps. Example: `"18c1f3b2a0-42091-20"`"""
        stats = [p.stat() for name in ("metrics.jsonl", HELD_OUT) if (p := self.store.path / name).exists()]
        return "-".join([*(f"{s.st_mtime_ns:x}-{s.st_size}" for s in stats), str(len(self.store.steps()))])

    def summary(self) -> JSON:
        """The line of this run in a list of runs."""
        info, metrics = self._info(), self._metrics()
        last = metrics[-1] if metrics else {}
        return {
            "name": self.name,
            "title": info.get("name"),
            "started": info.get("started"),
            "seed": info.get("seed"),
            "steps": len(metrics),
            "planned": _config(info).get("steps"),
            "games": len(self.store.steps()) * int(_config(info).get("games_per_step") or 0),
            "last": {key: last[key] for key in ("stage", "win/civilian", "win/spy", "update/kl") if key in last},
        }

    def overview(self) -> JSON:
        """Settings, all metrics of all steps, 95 % intervals where they are known, the steps that have games, and what
        held-out games showed at the end."""
        info, metrics = self._info(), self._metrics()
        games = int(_config(info).get("games_per_step") or 0)
        return {
            **self.summary(),
            "info": info,
            "metrics": metrics,
            "intervals": {
                key: [_interval(m[key], games) if key in m and games else None for m in metrics] for key in _INTERVALS
            },
            "with_games": self.store.steps(),
            "held_out": self._object(HELD_OUT) if (self.store.path / HELD_OUT).exists() else None,
        }

    def games(self, step: int) -> list[JSON]:
        """What a list shows of every game of a step. Raises UserError if it has none or the file is damaged."""
        return list(self._scan(step).rows)

    def game(self, step: int, number: int) -> JSON:
        """One game, complete. `number` counts the games of its step from 0."""
        scan = self._scan(step)
        if not 0 <= number < len(scan.lines):
            raise UserError(f"step {step} has games 0 to {len(scan.lines) - 1}, but no game {number}")
        start, length = scan.lines[number]
        with self._regular(self.store.episode_path(step)).open("rb") as file:
            file.seek(start)
            line = file.read(length)
        tree, episode = _parse(line, self.picture, f"game {number} of step {step}")
        view = game_view(episode, changes_from_json(tree))
        return {"step": step, "number": number, "of": len(scan.lines), **view}

    def picture(self, sha: str) -> Picture:
        """A stored picture by its hash. Raises UserError if there is none, or its bytes are not those of its name."""
        if not _SHA.fullmatch(sha):
            raise UserError("pictures are named by 64 hexadecimal digits")
        path = self._regular(self.store.picture_path(sha), MOST_BYTES["picture"])
        picture = Picture(path.read_bytes())
        if picture.sha != sha:
            raise UserError(f"picture {sha} is damaged: its bytes are not those of its name")
        return picture

    def _info(self) -> JSON:
        return self._object("run.json")

    def _object(self, name: str) -> JSON:
        path = self._regular(self.store.path / name, MOST_BYTES[name])
        try:
            tree = json.loads(path.read_bytes())
        except (ValueError, RecursionError) as e:
            raise UserError(f"{name} is damaged ({e}): restore the file") from e
        if not isinstance(tree, dict):
            raise UserError(f"{name} is not a JSON object: restore the file")
        return tree

    def _metrics(self) -> list[JSON]:
        path = self.store.path / "metrics.jsonl"
        return list(read_lines(self._regular(path, MOST_BYTES["metrics.jsonl"]))) if path.exists() else []

    def _scan(self, step: int) -> _Scan:
        if step not in self.store.steps():
            raise UserError(f"{self.name} has no games of step {step}")
        path = self._regular(self.store.episode_path(step))
        stat = path.stat()
        stamp = (stat.st_mtime_ns, stat.st_size)
        with self._lock:
            known = self._scans.get(step)
            if known is None or known.stamp != stamp:
                known = self._scans[step] = _scan_games(path, stamp, step)
            return known

    def _regular(self, path: Path, most_bytes: int | None = None) -> Path:
        """The file that `path` is. Raises UserError for anything but a regular file within the run directory."""
        try:
            real = path.resolve()
        except (OSError, RuntimeError) as e:  # a link that leads to itself
            raise UserError(f"{path.name} cannot be followed: restore it") from e
        if not real.is_relative_to(self._root):
            raise UserError(f"{path.name} is a link that leads out of the run directory: it is not followed")
        if not real.is_file():
            raise UserError(f"{path.name} is not a file")
        if most_bytes is not None and real.stat().st_size > most_bytes:
            raise UserError(f"{path.name} is larger than {most_bytes // _MB} MB: it is not read")
        return real


class Library:
    """A run, or a folder of runs, by name; runs that appear later are found too."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._readers: dict[str, RunReader] = {}
        if not self._folders():
            RunStore.open(path)  # says why not

    def readers(self) -> list[RunReader]:
        """All runs, in the order of their names, which begin alike and end in their date."""
        return [self._reader(path) for path in self._folders()]

    def reader(self, name: str) -> RunReader:
        """The run of that name. Raises UserError if there is none."""
        for path in self._folders():
            if path.resolve().name == name:
                return self._reader(path)
        raise UserError("there is no run of this name")

    def _folders(self) -> list[Path]:
        if (self.path / "run.json").is_file():
            return [self.path]
        # a link to a run is left out: it is either there twice, or leads somewhere that nobody asked for
        return sorted(p.parent for p in self.path.glob("*/run.json") if not p.parent.is_symlink())

    def _reader(self, path: Path) -> RunReader:
        return self._readers.setdefault(path.name, RunReader(path))


def _config(info: JSON) -> JSON:
    tree = info.get("config")
    return tree if isinstance(tree, dict) else {}


@lru_cache(maxsize=65536)
def _interval(share: Any, games: int) -> tuple[float, float] | None:
    return wilson(share * games, games) if isinstance(share, int | float) and 0 <= share <= 1 else None


def _scan_games(path: Path, stamp: tuple[int, int], step: int) -> _Scan:
    rows, lines, start = [], [], 0
    for number, line in enumerate(_lines(path)):
        tree, episode = _parse(line, lambda sha: _NO_PICTURE, f"{path.name}, line {number + 1}")
        by_role = sorted(tree["seats"], key=lambda seat: str(seat["role"]))
        pictures = list(dict.fromkeys(seat["picture"] for seat in by_role))
        rows.append({"step": step, "number": number, "pictures": pictures, **game_row(episode)})
        lines.append((start, len(line)))
        start += len(line)
    return _Scan(stamp, tuple(rows), tuple(lines))


def _lines(path: Path) -> Iterator[bytes]:
    most = MOST_BYTES["game"]
    with path.open("rb") as file:
        while line := file.readline(most + 1):
            if len(line) > most:
                raise UserError(f"{path.name} has a game of more than {most // _MB} MB: it is not read")
            yield line


def _parse(line: bytes, picture: Any, where: str) -> tuple[JSON, Any]:
    try:
        tree = json.loads(line)
        episode = episode_from_json(tree, picture)
        require_seats(episode)
        return tree, episode
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as e:
        raise UserError(f"{where} is not a stored game ({e!r}): remove the line or restore the file") from e
