"""Making a set of pairs as files. Killed at any instant and started again, it ends with the same bytes.

Of pictures by Blender this holds for the scenes; the pictures are the same to the eye (see `pairs.is_repeatable`).
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from vision_zero.config import PairsConfig
from vision_zero.errors import UserError
from vision_zero.lifeline import end_with_parent
from vision_zero.pairs import is_repeatable, open_pairs
from vision_zero.pairs.base import PairSource, Split
from vision_zero.pairs.made import MadeSource
from vision_zero.pairs.published import Shelf, write_whole
from vision_zero.pairs.reading import Problem
from vision_zero.types import JSON

RECORD = "made.json"
"""What a folder was made from; another set is not mixed into it."""
EDITED = ".edited"
"""Keeps what was made of photos until all pairs are there, where no other folder is named for it."""
_CHUNK = 8


def make_pairs(
    config: PairsConfig, seed: int, split: Split, out: Path, workers: int, on_done: Callable[[int, int], None]
) -> int:
    """Write all pairs of a set into a folder and return how many there are.

    Pairs that are there already are kept. `on_done(done, total)` is called as pairs get ready, first with those
    that were there. Raises `UserError` if the folder holds anything else.
    """
    known = _read_record(out)
    if known is not None and not _is_same(known, config, seed, split):
        raise _other_pairs(out)
    source, shelf = _open(config, seed, split, out)
    _claim(shelf, known, config, seed, split, source)
    missing = [i for i in range(len(source)) if not shelf.is_whole(i)]
    done = len(source) - len(missing)
    on_done(done, len(source))
    # other sources than those that make pairs one by one would do all their work once a process
    alone = workers == 1 or not isinstance(source, MadeSource)
    for count in _make(source, shelf, missing) if alone else _share(config, seed, split, out, missing, workers):
        done += count
        on_done(done, len(source))
    shelf.put_index(len(source))
    if (out / EDITED).exists():
        shutil.rmtree(out / EDITED)
    return len(source)


def missing_pairs(folder: Path) -> list[Problem]:
    """What a folder of a made set lacks of what its record promises; nothing where there is no record."""
    record = _read_record(folder) if (folder / RECORD).exists() else None
    if record is None:
        return []
    there = sum(1 for _ in Shelf(folder, record["pairs"]["kind"]).scenes.glob("*_comparison.json"))
    if there >= record["count"]:
        return []
    reason = f"promises {record['count']} pairs, {there} are there: the command that made them goes on"
    return [Problem(str(folder / RECORD), reason)]


def _open(config: PairsConfig, seed: int, split: Split, out: Path) -> tuple[PairSource, Shelf]:
    if config.kind != "photos":
        return open_pairs(config, seed, split, as_files=True), Shelf(out, config.kind)
    # scipy takes a moment to load
    from vision_zero.pairs.photos.source import PhotosSource

    if out.resolve().is_relative_to(config.path.resolve()):
        raise UserError(f"{out} lies in the folder of the photos, {config.path}: its pairs would be taken for photos")
    # all photos are edited before there is a first pair: a kill must not cost that
    kept = config if config.cache else config.model_copy(update={"cache": out / EDITED})
    source = PhotosSource(kept, seed, split)
    return source, Shelf(out, config.kind, source.names)


def _make(source: PairSource, shelf: Shelf, indices: list[int]) -> Iterator[int]:
    for index in indices:
        shelf.put(index, source[index])
        yield 1


def _share(config: PairsConfig, seed: int, split: Split, out: Path, missing: list[int], workers: int) -> Iterator[int]:
    """The same in several processes: each makes and writes a few pairs at a time."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, end_with_parent)
    try:
        chunks = [missing[i : i + _CHUNK] for i in range(0, len(missing), _CHUNK)]
        for task in as_completed([pool.submit(_make_some, config, seed, split, out, chunk) for chunk in chunks]):
            yield task.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _make_some(config: PairsConfig, seed: int, split: Split, out: Path, indices: list[int]) -> int:
    return sum(_make(_source(config, seed, split), Shelf(out, config.kind), indices))


@lru_cache(maxsize=1)
def _source(config: PairsConfig, seed: int, split: Split) -> PairSource:
    return open_pairs(config, seed, split, as_files=True)


def _read_record(folder: Path) -> JSON | None:
    """What a folder was made from, None for a new one. Raises `UserError` if it holds anything else."""
    file = folder / RECORD
    if file.exists():
        try:
            record: JSON = json.loads(file.read_text(encoding="utf-8"))
            return {key: record[key] for key in ("pairs", "seed", "split", "count")} | {"first": record.get("first")}
        except (ValueError, KeyError, TypeError) as e:
            raise UserError(f"{file} is damaged ({e}): remove it if the folder is to be made anew") from e
    if folder.exists() and any(not p.name.startswith(".") for p in folder.iterdir()):
        raise UserError(f"{folder} is not empty and has no {RECORD}: choose another --out")
    return None


def _is_same(known: JSON, config: PairsConfig, seed: int, split: Split) -> bool:
    """Whether a record is of this set, however many pairs it has of it."""
    try:
        # settings that came later have their defaults
        made_from: PairsConfig = TypeAdapter(PairsConfig).validate_python(known["pairs"])
    except ValidationError:
        return False
    return (_but_count(made_from), known["seed"], known["split"]) == (_but_count(config), seed, split)


def _but_count(config: PairsConfig) -> PairsConfig:
    return config.model_copy(update={"count": None}) if hasattr(config, "count") else config


def _claim(shelf: Shelf, known: JSON | None, config: PairsConfig, seed: int, split: Split, source: PairSource) -> None:
    """Write down what the folder is made from, if what it holds are no other pairs than these."""
    record: JSON = {"pairs": config.model_dump(mode="json"), "seed": seed, "split": split, "count": len(source)}
    if isinstance(source, MadeSource) and is_repeatable(config):
        # a pair's files tell versions of what drew it apart
        record["first"] = source[0].original.sha
    if known is not None and (shelf.strangers(len(source)) or known["first"] != record.get("first")):
        raise _other_pairs(shelf.folder)
    # the record first: a folder without one is taken for something else
    shelf.folder.mkdir(parents=True, exist_ok=True)
    write_whole(shelf.folder / RECORD, json.dumps(record, indent=1).encode() + b"\n")
    shelf.open()


def _other_pairs(folder: Path) -> UserError:
    return UserError(f"{folder} holds other pairs, see its {RECORD}: choose another --out or remove it")
