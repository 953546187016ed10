"""Where a step's news go: the terminal, the run directory, the trackers. Only the first process has any."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from types import TracebackType

from rich.console import Console

from vision_zero.runs.progress import Progress
from vision_zero.runs.store import Metrics, RunStore
from vision_zero.runs.trackers import open_trackers
from vision_zero.types import Episode, ImagePair

ALARM = "alarm/"
"""How the names of those metrics begin that are sentences to be read. They are printed when they begin."""


class Reporter:
    """Use as a context manager. `first_step`: steps done before (a resumed run). `enter` is told every phase."""

    def __init__(
        self,
        store: RunStore,
        total_steps: int,
        first_step: int,
        console: Console,
        enter: Callable[[str], None] = lambda phase: None,
    ) -> None:
        self._store, self._first, self._enter = store, first_step, enter
        self._progress = Progress(total_steps, console, first_step)
        self._replay = f"vision-zero replay {store.path}"
        self._due: frozenset[str] = frozenset()
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
        self._enter(name)
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
        due = {name: str(said) for name, said in metrics.items() if name.startswith(ALARM)}
        for name in sorted(due.keys() - self._due):
            self.note(f"alarm after step {step + 1}: {due[name]}; read games: {self._replay} --step {step}")
        self._due = frozenset(due)


class Silent:
    """The reporter of every process but the first. `enter` is told every phase."""

    def __init__(self, enter: Callable[[str], None] = lambda phase: None) -> None:
        self._enter = enter

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        return

    def phase(self, name: str) -> None:
        """What is being done from now on."""
        self._enter(name)

    def note(self, text: str) -> None:
        """Nothing."""

    def step(self, step: int, metrics: Metrics, episodes: Sequence[Episode], pairs: Iterable[ImagePair]) -> None:
        """Nothing."""
