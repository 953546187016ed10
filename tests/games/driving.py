"""Drives one game coroutine by hand, as a runner does for many."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from vision_zero.games.base import Ask, Asked, Deal, Game, Player, Result, Table
from vision_zero.types import StopReason, Turn, Utterance

Answer = Callable[[Ask], str]


def drive(game: Game, deal: Deal, answer: Callable[[Sequence[Asked]], Sequence[Utterance]]) -> tuple[Result, int]:
    """The result of a game whose every tick is answered by `answer`; and the number of ticks."""
    coroutine = game.play(Table(deal))
    turns: tuple[Turn, ...] | None = None
    ticks = 0
    while True:
        try:
            asked = coroutine.send(turns)  # type: ignore[attr-defined]
        except StopIteration as done:
            return done.value, ticks
        ticks += 1
        said = zip(asked, answer(asked), strict=True)
        turns = tuple(
            Turn(a.ask.seat, a.ask.stage, a.ask.round, a.ask.draw, a.ask.messages, u, a.read(u), a.player)
            for a, u in said
        )


def play_texts(game: Game, deal: Deal, answer: Answer) -> tuple[Result, list[list[Asked]]]:
    """Play with a function from ask to text; returns the asks of every tick too."""
    ticks: list[list[Asked]] = []

    def reply(asked: Sequence[Asked]) -> list[Utterance]:
        ticks.append(list(asked))
        return [Utterance(answer(a.ask), StopReason.END_OF_TURN) for a in asked]

    return drive(game, deal, reply)[0], ticks


def play_with(game: Game, deal: Deal, players: Mapping[str, Player]) -> Result:
    """Play with real players, found by the name on the seat."""
    return drive(game, deal, lambda asked: [players[a.player].respond([a.ask])[0] for a in asked])[0]
