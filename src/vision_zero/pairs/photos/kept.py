"""What was made of a photo, and the folder that keeps it."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from vision_zero.errors import UserError
from vision_zero.types import Change


@dataclass(frozen=True)
class Twin:
    """A good edit of a photo: the PNG file and what differs."""

    data: bytes
    change: Change


@dataclass(frozen=True)
class Made:
    """All good edits of a photo, and why others were refused. Example: `Made((twin,), ("touches skin",))`"""

    twins: tuple[Twin, ...]
    refused: tuple[str, ...]


class Kept:
    """A folder of what was made, by key; without a folder it keeps nothing.

    An entry appears with its JSON file, which is written last, so that one who is killed leaves no half entry.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as e:
                raise UserError(f"pairs.cache={folder} cannot be made a folder: {e.strerror}") from e

    def get(self, key: str) -> Made | None:
        """What was kept under a key. Raises `UserError` if it was damaged since."""
        if self._folder is None or not (self._folder / f"{key}.json").exists():
            return None
        file = self._folder / f"{key}.json"
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            twins = []
            for k, item in enumerate(record["twins"]):
                data = (self._folder / f"{key}-{k}.png").read_bytes()
                if hashlib.sha256(data).hexdigest() != item["sha256"]:
                    raise ValueError(f"{key}-{k}.png has other bytes than were written")
                twins.append(Twin(data, Change(**item["change"])))
            return Made(tuple(twins), tuple(record["refused"]))
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise UserError(f"{file} is damaged ({e}): remove it, and it is made again") from e

    def put(self, key: str, made: Made) -> None:
        if self._folder is None:
            return
        record = {
            "twins": [
                {
                    "sha256": hashlib.sha256(twin.data).hexdigest(),
                    "change": {"what": twin.change.what, "before": twin.change.before, "after": twin.change.after},
                }
                for twin in made.twins
            ],
            "refused": made.refused,
        }
        for k, twin in enumerate(made.twins):
            _write(self._folder / f"{key}-{k}.png", twin.data)
        _write(self._folder / f"{key}.json", json.dumps(record, indent=1).encode())


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
