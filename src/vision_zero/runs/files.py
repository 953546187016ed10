"""Files that survive a crash: whole files appear at once, and lines are whole or recognised as torn."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vision_zero.errors import UserError
from vision_zero.types import JSON

log = logging.getLogger(__name__)

RESERVE = 4_000_000
"""Bytes that are left free beside a checkpoint: for its small files, and the games of the next step."""


@contextmanager
def writing(path: Path, needed: int | None = None) -> Iterator[None]:
    """Inside, a disk that is full, or refuses for another reason, is a `UserError` that says what would help.

    `needed`: bytes that are to be written, if that is known.
    """
    try:
        yield
    except OSError as e:
        wanted = "" if needed is None else f" About {megabytes(needed)} are needed."
        raise UserError(
            f"cannot write {path}: {e}.{wanted} {megabytes(_free(path))} are free. Free space, or move the directory "
            "to another disk, and go on: what was written before is whole"
        ) from e


def require_space(path: Path, needed: int) -> None:
    """Raises `OSError` if the disk of `path` has less than `needed` bytes and a little more."""
    if _free(path) < needed + RESERVE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def megabytes(count: int) -> str:
    """Bytes for people. Example: `"1,240 MB"`"""
    return f"{-(-count // 1_000_000):,} MB"


def _free(path: Path) -> int:
    there = next(p for p in (path, *path.resolve().parents) if p.exists())
    return shutil.disk_usage(there).free


def within(root: Path, path: Path) -> Path:
    """`path`, if it is a regular file in `root`, or not there at all. Raises UserError for a link that leads out of
    `root`, and for folders, pipes and devices."""
    try:
        lawful = path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError) as e:
        raise UserError(f"{path} cannot be followed ({e}): restore it") from e
    if not lawful:
        raise UserError(f"{path} is a link that leads out of {root}: put a copy of the file there")
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is not a regular file: restore it")
    return path


def read_object(path: Path) -> JSON:
    """The object of a JSON file. Raises UserError for anything else."""
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as e:
        raise UserError(f"{path} is damaged ({e}): restore the file") from e
    if not isinstance(tree, dict):
        raise UserError(f"{path} is not a JSON object: restore the file")
    return tree


def write_atomic(path: Path, data: bytes, durable: bool = True) -> None:
    """Make or replace a file so that readers, and whoever comes after a crash, see all of it or none of it.

    Not `durable`, it is not forced to disk (which takes milliseconds a file): it survives the end of the
    process, but a power failure may leave it empty.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with writing(path, len(data)):
        try:
            with temporary.open("wb") as file:
                file.write(data)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def remove_partial(folder: Path) -> None:
    """Remove what a killed `write_atomic` may have left in a folder. Only for the one process that writes there."""
    for left in folder.glob(".*.partial"):
        left.unlink()


def append_line(path: Path, line: str) -> None:
    """Add one line with a single write; a torn last line that a crash left is dropped first, with a word in the log."""
    with writing(path, len(line)), path.open("a+b", buffering=0) as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                whole, torn = _split(path.read_bytes())
                log.warning("%s: dropped a torn last line of %d bytes", path, len(torn))
                file.truncate(len(whole))
        data = line.encode() + b"\n"
        if file.write(data) < len(data):  # the disk is full; the torn line is dropped by whoever comes next
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(file.fileno())


def read_lines(path: Path) -> Iterator[JSON]:
    """The objects of a JSONL file; none if there is no such file. A torn last line is left out with a word in the log.

    Raises UserError naming the file and the line for anything else that is not a JSON object.
    """
    if not path.exists():
        return
    whole, torn = _split(path.read_bytes())
    if torn:
        log.warning("%s: ignored a torn last line of %d bytes", path, len(torn))
    for number, line in enumerate(whole.split(b"\n")[:-1], start=1):
        try:
            tree = json.loads(line)
        except (ValueError, RecursionError) as e:
            raise UserError(f"{path}, line {number} is damaged ({e}): remove the line or restore the file") from e
        if not isinstance(tree, dict):
            raise UserError(f"{path}, line {number} is not a JSON object: remove the line or restore the file")
        yield tree


def _split(data: bytes) -> tuple[bytes, bytes]:
    """The whole lines of a file, and what stands after the last of them."""
    end = data.rfind(b"\n") + 1
    return data[:end], data[end:]
