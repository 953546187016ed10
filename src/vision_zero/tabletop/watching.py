"""A game that tells somebody what happens at its table, as it happens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from vision_zero.games.base import Asked, Deal, Game, GameFacts, Result, Table
from vision_zero.types import Seat, Turn


class Watcher(Protocol):
    """Whoever is told. What it passes on to whom is its own care: it is told everything."""

    def asked(self, asks: Sequence[Asked]) -> None:
        """These seats are about to be asked, all at once."""
        ...

    def answered(self, asks: Sequence[Asked], turns: Sequence[Turn]) -> None:
        """This is what they said, in the order of the asks."""
        ...


class Watched:
    """`game`, with somebody watching."""

    def __init__(self, game: Game, watcher: Watcher) -> None:
        self._game, self._watcher = game, watcher

    @property
    def facts(self) -> GameFacts:
        """Those of the game."""
        return self._game.facts

    def seating(self, deal: Deal) -> tuple[Seat, ...]:
        """That of the game."""
        return self._game.seating(deal)

    async def play(self, table: Table) -> Result:
        """Play the game to its end."""
        return await self._game.play(_WatchedTable(table.deal, self._watcher))


class _WatchedTable(Table):
    def __init__(self, deal: Deal, watcher: Watcher) -> None:
        super().__init__(deal)
        self._watcher = watcher

    async def ask(self, asks: Sequence[Asked]) -> tuple[Turn, ...]:
        self._watcher.asked(asks)
        turns = await super().ask(asks)
        self._watcher.answered(asks, turns)
        return turns
