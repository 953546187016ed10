"""Looks for signs of cheating after every step and says what they are. Only the process that keeps the run has one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from vision_zero.config import AlarmConfig
from vision_zero.credit.alarms import Value, alarms
from vision_zero.credit.conduct import conduct, drift, vocabulary
from vision_zero.pairs.clevr import language
from vision_zero.runs.store import RunStore
from vision_zero.types import Episode


class Watch:
    """Compares each step with the first of its run, which the start played. That step is read back from the run
    directory where training goes on after it, so that there is no state to save."""

    def __init__(self, config: AlarmConfig, store: RunStore) -> None:
        self._config, self._store = config, store
        self._first: tuple[Mapping[str, Value], Counter[str]] | None = None

    def look(self, step: int, metrics: Mapping[str, Value], episodes: Sequence[Episode]) -> dict[str, Value]:
        """Figures of conduct, and `alarm/NAME` with a sentence for each alarm that is due.

        `metrics` are those of the step so far. Without the games of the first step nothing is compared with them.
        """
        scenes = any("objects" in (seat.picture.facts or {}) for e in episodes for seat in e.seats)
        found: dict[str, Value] = {**conduct(episodes, language.holds if scenes else None)}
        said = vocabulary(episodes)
        if step == 0:
            self._first = {**metrics, **found}, said
        elif self._first is None:
            self._first = self._read_first()
        first, start = self._first or ({}, Counter())
        if said and start:
            found["clues/drift"] = drift(said, start)
        due = alarms({**metrics, **found}, first, len(episodes), self._config)
        return found | {f"alarm/{name}": sentence for name, sentence in due.items()}

    def _read_first(self) -> tuple[Mapping[str, Value], Counter[str]]:
        line = next((m for m in self._store.read_metrics() if m["step"] == 0), {})
        games = list(self._store.read_episodes(0)) if 0 in self._store.steps() else []
        return line, vocabulary(games)
