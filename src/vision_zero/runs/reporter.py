"""Where a step's news go: the terminal, the run directory, the trackers. Only the first process has any."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from types import TracebackType

from rich.console import Console

from vision_zero.runs.progress import Progress
from vision_zero.runs.store import Metrics, RunStore
from vision_zero.runs.trackers import open_trackers
from vision_zero.types import Episode, ImagePair


class Reporter:
    """Use as a context manager. `first_step`: steps done before (a resumed run)."""

    def __init__(self, store: RunStore, total_steps: int, first_step: int, console: Console) -> None:
        self._store, self._first = store, first_step
        self._progress = Progress(total_steps, console, first_step)
        self._stack = ExitStack()

    def __enter__(self) -> Reporter:
        self._trackers = open_trackers(self._store, self._first)
        self._stack.callback(self._trackers.close)
        self._stack.enter_context(self._progress)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, tb)

    def phase(self, name: str) -> None:
        """What is being done from now on."""
        self._progress.phase(name)

    def note(self, text: str) -> None:
        """A line that stays on the terminal."""
        self._progress.note(text)

    def step(self, step: int, metrics: Metrics, episodes: Sequence[Episode], pairs: Iterable[ImagePair]) -> None:
        """A step has ended: keep its games and its figures, then show them."""
        self._store.write_episodes(step, episodes, pairs)
        self._store.append_metrics(step, metrics)
        self._trackers.log(step, metrics)
        self._progress.step({"step": step, **metrics})


class Silent:
    """The reporter of every process but the first."""

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        return

    def phase(self, name: str) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""

    def step(self, step: int, metrics: Metrics, episodes: Sequence[Episode], pairs: Iterable[ImagePair]) -> None:
        """Nothing."""
