"""Pairs that are made ahead of need, and their pictures read for a model, in processes of their own."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
from collections.abc import Iterable
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

import torch

from vision_zero.errors import UserError
from vision_zero.lifeline import end_with_parent
from vision_zero.models.pictures import PictureReader, Preprocessor, Reading
from vision_zero.pairs.base import PairSource
from vision_zero.types import ImagePair, Picture

log = logging.getLogger(__name__)

MOST_WORKERS = 2
"""By default: each holds the libraries in memory anew, and has a whole step's time."""

Readings = tuple[tuple[Picture, Reading | Exception], ...]


def spare_workers(threads: int) -> int:
    """Half of the cores that this process's share of the machine has beside its `threads`, at most `MOST_WORKERS`.

    Where several processes were started on this machine, each has its share of the cores that it may use.
    """
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(0, min(MOST_WORKERS, (cores // here - threads) // 2))


class Ahead:
    """A set of pairs, of which `start` has some made and read by `workers` processes before they are asked for.

    A pair is a function of its index: who makes it changes no result. What fails in a worker is raised where it
    would be without: a pair when it is asked for, a picture when the model is to read it. What no worker has done by
    then is done here: nobody waits for them, not even for their start.
    """

    def __init__(self, pairs: PairSource, reader: PictureReader, workers: int) -> None:
        self._pairs, self._reader, self._workers = pairs, reader, workers
        self._tasks: dict[int, Future[tuple[ImagePair, Readings]]] = {}
        self._pool: ProcessPoolExecutor | None = None

    @property
    def fingerprint(self) -> str:
        """That of the pairs."""
        return self._pairs.fingerprint

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> ImagePair:
        task = self._tasks.pop(index, None)
        if task is None:
            return self._pairs[index]
        if not task.done():
            task.cancel()
            return self._pairs[index]
        try:
            pair, readings = task.result()
        except BrokenProcessPool as e:
            self._go_on_alone(e)
            return self._pairs[index]
        for picture, reading in readings:
            self._reader.keep(picture, reading)
        return pair

    def start(self, indices: Iterable[int]) -> None:
        """Have these pairs made, and forget what is left of the last call."""
        self._tasks = {}
        if not self._workers:
            return
        if self._pool is None:
            # spawned, not forked: this process has threads (torch), which a fork would cut off
            self._pool = ProcessPoolExecutor(
                self._workers, multiprocessing.get_context("spawn"), _begin, (self._pairs, self._reader.preprocess)
            )
        try:
            for index in dict.fromkeys(indices):
                self._tasks[index] = self._pool.submit(_make, index)
        except BrokenProcessPool as e:
            self._go_on_alone(e)

    def wait(self) -> None:
        """Until all that was started is done, or has failed."""
        wait(self._tasks.values())

    def close(self) -> None:
        """End the workers."""
        self._tasks = {}
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def _go_on_alone(self, error: BrokenProcessPool) -> None:
        """Who is without workers takes longer, and comes to the same results."""
        log.warning("pictures are no longer made ahead, each step takes longer: %s", error)
        self._workers = 0
        self.close()


# Inside a worker


class _Given:
    """What a worker was given when it began."""

    pairs: PairSource
    preprocess: Preprocessor


def _begin(pairs: PairSource, preprocess: Preprocessor) -> None:
    # Ctrl-C reaches everybody at a terminal; the run ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    torch.set_num_threads(1)
    _Given.pairs, _Given.preprocess = pairs, preprocess


def _make(index: int) -> tuple[ImagePair, Readings]:
    pair = _Given.pairs[index]
    pictures = [pair.original] if pair.modified is None else [pair.original, pair.modified]
    return pair, tuple((picture, _read(picture)) for picture in pictures)


def _read(picture: Picture) -> Reading | Exception:
    try:
        return _Given.preprocess(picture)
    except (UserError, ValueError) as e:
        return e
