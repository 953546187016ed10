"""Making a set of pairs as files. Killed at any instant and started again, it ends with the same bytes.

Of pictures by Blender this holds for the scenes; the pictures are the same to the eye (see `pairs.is_repeatable`).
"""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from pathlib import Path

from vision_zero.config import PairsConfig
from vision_zero.errors import UserError
from vision_zero.pairs import is_repeatable, open_pairs
from vision_zero.pairs.base import PairSource, Split
from vision_zero.pairs.made import MadeSource
from vision_zero.pairs.published import Shelf, write_whole
from vision_zero.types import JSON

RECORD = "made.json"
"""What a folder was made from; another set is not mixed into it."""
_CHUNK = 8


def make_pairs(
    config: PairsConfig, seed: int, split: Split, out: Path, workers: int, on_done: Callable[[int, int], None]
) -> int:
    """Write all pairs of a set into a folder and return how many there are.

    Pairs that are there already are kept. `on_done(done, total)` is called as pairs get ready, first with those
    that were there. Raises `UserError` if the folder holds anything else.
    """
    source = open_pairs(config, seed, split, as_files=True)
    shelf = Shelf(out, config.kind)
    _claim(shelf, config, seed, split, source)
    missing = [i for i in range(len(source)) if not shelf.is_whole(i)]
    done = len(source) - len(missing)
    on_done(done, len(source))
    # other sources than those that make pairs one by one would do all their work once a process
    alone = workers == 1 or not isinstance(source, MadeSource)
    for count in _make(source, shelf, missing) if alone else _share(config, seed, split, out, missing, workers):
        done += count
        on_done(done, len(source))
    shelf.put_index(len(source))
    return len(source)


def _make(source: PairSource, shelf: Shelf, indices: list[int]) -> Iterator[int]:
    for index in indices:
        shelf.put(index, source[index])
        yield 1


def _share(config: PairsConfig, seed: int, split: Split, out: Path, missing: list[int], workers: int) -> Iterator[int]:
    """The same in several processes: each makes and writes a few pairs at a time."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, _end_with_parent)
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


def _end_with_parent() -> None:
    """A killed parent cannot tell its workers to stop: they watch it."""
    parent = multiprocessing.parent_process()
    if parent is not None:

        def watch() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=watch, daemon=True).start()


def _claim(shelf: Shelf, config: PairsConfig, seed: int, split: Split, source: PairSource) -> None:
    """Write down what the folder is made from, or see that it is this, or fewer pairs of this."""
    file = shelf.folder / RECORD
    record: JSON = {"pairs": config.model_dump(mode="json"), "seed": seed, "split": split, "count": len(source)}
    if len(source) and is_repeatable(config):
        # a pair's files tell versions of what drew it apart
        record["first"] = source[0].original.sha
    if file.exists():
        try:
            known = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as e:
            raise UserError(f"{file} is damaged ({e}): remove it if the folder is to be made anew") from e
        if _but_count(known) != _but_count(record) or known["count"] > record["count"]:
            raise UserError(f"{shelf.folder} holds other pairs, see its {RECORD}: choose another --out or remove it")
    elif shelf.folder.exists() and any(not p.name.startswith(".") for p in shelf.folder.iterdir()):
        raise UserError(f"{shelf.folder} is not empty and has no {RECORD}: choose another --out")
    shelf.open()
    write_whole(file, json.dumps(record, indent=1).encode() + b"\n")


def _but_count(record: JSON) -> JSON:
    pairs = {k: v for k, v in record["pairs"].items() if k != "count"}
    return {**record, "pairs": pairs, "count": None}
