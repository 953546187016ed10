"""Plays many games at once, in lock-step: all asks of a tick are answered in one batch a player."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass

from vision_zero.errors import UserError
from vision_zero.games.base import Asked, Deal, Game, Player, Result, Table
from vision_zero.types import Episode, Turn, Utterance


@dataclass(frozen=True)
class Tick:
    """How far `play` is. Example: `Tick(number=3, asks=64, playing=64, finished=0)`"""

    number: int
    """Ticks so far, from 1."""
    asks: int
    """Asks that were answered in this tick."""
    playing: int
    """Games that still go on."""
    finished: int


def play(
    game: Game,
    deals: Sequence[Deal],
    players: Mapping[str, Player],
    on_tick: Callable[[Tick], None] | None = None,
) -> list[Episode]:
    """Play one game per deal to its end; the episodes come in the order of the deals.

    Whatever goes wrong names the games and seats it went wrong in. Raises `UserError` for a cast that names
    an unknown player and for errors a user can mend, else `RuntimeError`.
    """
    tables = [_Running(game, deal) for deal in deals]
    number = 0
    try:
        for table in tables:
            table.resume(None)
        while waiting := [t for t in tables if t.result is None]:
            number += 1
            answers = _answer(waiting, players)
            for table, turns in zip(waiting, answers, strict=True):
                table.resume(turns)
            if on_tick is not None:
                playing = sum(t.result is None for t in tables)
                on_tick(Tick(number, sum(map(len, answers)), playing, len(tables) - playing))
    finally:
        for table in tables:
            table.coroutine.close()
    return [table.episode(players) for table in tables]


class _Running:
    """One game and where it stands."""

    def __init__(self, game: Game, deal: Deal) -> None:
        self.game, self.deal = game, deal
        self.coroutine: Coroutine[tuple[Asked, ...], tuple[Turn, ...] | None, Result] = game.play(Table(deal))
        self.asks: tuple[Asked, ...] = ()
        self.result: Result | None = None
        self._last = "before its first ask"

    def resume(self, turns: tuple[Turn, ...] | None) -> None:
        """Let the game go on to its next asks or to its end."""
        try:
            self.asks = self.coroutine.send(turns)
        except StopIteration as end:
            self.asks, self.result = (), end.value
            return
        except Exception as e:
            raise _named(e, f"game {self.deal.id}, {self._last}: the rules failed") from e
        if self.asks:
            self._last = f"after {_who(self.asks[-1])}"

    def episode(self, players: Mapping[str, Player]) -> Episode:
        """The finished game."""
        assert self.result is not None
        result = self.result
        names = sorted({s.player for s in result.seats} | {t.player for t in result.turns})
        return Episode(
            id=self.deal.id,
            game=self.game.facts.name,
            pair=self.deal.pair.id,
            seed=self.deal.seed,
            seats=result.seats,
            turns=result.turns,
            outcome=result.outcome,
            versions={name: players[name].version for name in names if name in players},
        )


def _answer(tables: Sequence[_Running], players: Mapping[str, Player]) -> list[tuple[Turn, ...]]:
    """One batch a player over all games; turns game by game, in the order of their asks."""
    by_player: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for i, table in enumerate(tables):
        for j, asked in enumerate(table.asks):
            by_player[asked.player].append((i, j))
    turns: dict[tuple[int, int], Turn] = {}
    for name, places in by_player.items():
        batch = [tables[i].asks[j] for i, j in places]
        where = [f"game {tables[i].deal.id}, {_who(tables[i].asks[j])}" for i, j in places]
        for place, asked, utterance, at in zip(
            places, batch, _respond(name, batch, where, players), where, strict=True
        ):
            turns[place] = _turn(asked, utterance, at)
    return [tuple(turns[i, j] for j in range(len(table.asks))) for i, table in enumerate(tables)]


def _respond(
    name: str, batch: Sequence[Asked], where: Sequence[str], players: Mapping[str, Player]
) -> Sequence[Utterance]:
    if name not in players:
        known = ", ".join(sorted(players)) or "none"
        raise UserError(f"{where[0]}: no player is called {name!r} (there are: {known}); check the cast")
    everywhere = (
        where[0] if len(where) == 1 else f"{'; '.join(where[:4])}{f' and {len(where) - 4} more' * (len(where) > 4)}"
    )
    try:
        utterances = players[name].respond([asked.ask for asked in batch])
    except Exception as e:
        raise _named(e, f"player {name!r} failed to answer ({everywhere})") from e
    if len(utterances) != len(batch):
        raise RuntimeError(f"player {name!r} gave {len(utterances)} answers to {len(batch)} asks ({everywhere})")
    return utterances


def _turn(asked: Asked, utterance: Utterance, where: str) -> Turn:
    ask = asked.ask
    try:
        understood = asked.read(utterance)
    except Exception as e:
        raise _named(e, f"{where}: the referee could not read {utterance.text!r}") from e
    return Turn(ask.seat, ask.stage, ask.round, ask.draw, ask.messages, utterance, understood, asked.player)


def _who(asked: Asked) -> str:
    ask = asked.ask
    seat = "analyst" if ask.seat is None else f"seat {ask.seat + 1}"
    return f"{seat}, {ask.stage} {ask.round}"


def _named(error: Exception, where: str) -> Exception:
    """The same kind of trouble with its place in front."""
    if isinstance(error, UserError):
        return UserError(f"{where}: {error}")
    return RuntimeError(f"{where}: {type(error).__name__}: {error}")
