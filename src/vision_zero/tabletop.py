"""One game at the terminal, printed as it goes, with anybody on any seat."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import get_args

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from vision_zero.config import RunConfig
from vision_zero.errors import UserError
from vision_zero.games import make_game
from vision_zero.games.base import Asked, Deal, Game, GameFacts, Player, Result, Table
from vision_zero.pairs import open_pairs
from vision_zero.players.human import HumanPlayer
from vision_zero.players.scripted import Kind, ScriptedPlayer
from vision_zero.rollouts.runner import play
from vision_zero.runs.replay import render_end, render_episode, render_seats, render_turn
from vision_zero.seeds import derive_seed
from vision_zero.types import Episode, Role, Turn

HUMAN, POLICY, API = "human", "policy", "api:"


def play_one(
    config: RunConfig, civilians: str, spies: str, seats: Mapping[int, str], seed: int, console: Console
) -> Episode:
    """Play one held-out game. `civilians`, `spies` and `seats` (by index, before the roles) say who plays.

    Every voter is asked once, whatever the recipe says. While a person plays, only what every player may
    know is printed; all is told at the end. Raises `UserError` for a player or a seat that does not exist.
    """
    game = make_game(config.game.model_copy(update={"votes_per_voter": 1}))
    for index in seats:
        if not 0 <= index < game.facts.seats:
            raise UserError(f"there is no seat {index + 1}: this game has seats 1 to {game.facts.seats}")
    names = dict.fromkeys((civilians, spies, *seats.values()))
    folder = Path(mkdtemp(prefix="vision-zero-"))
    players = {name: _player(name, config, console, folder) for name in names}
    pairs = open_pairs(config.pairs, config.seed, "held_out")
    pair = pairs[derive_seed(seed, "pair") % len(pairs)]
    deal = Deal(f"seed-{seed}", pair, seed, {Role.CIVILIAN: civilians, Role.SPY: spies}, seats)
    console.print(Rule(Text(f"{game.facts.name} on {pair.id}; play it again with --seed {seed}")))
    secret = HUMAN in names
    (episode,) = play(_Watched(game, console, secret), [deal], players)
    if secret:
        render_episode(episode, console, folder, pair.changes)
    else:
        console.print()
        render_seats(episode, console, pair.changes)
        render_end(episode, console, folder)
    return episode


def _player(name: str, config: RunConfig, console: Console, folder: Path) -> Player:
    if name == HUMAN:
        return HumanPlayer(HUMAN, console, folder=folder)
    if name == POLICY:
        return _policy(config)
    if name.startswith(API):
        from vision_zero.players.api import ApiPlayer

        return ApiPlayer(name.removeprefix(API), name=name, temperature=config.rollouts.temperature)
    for kind in get_args(Kind):
        if name == kind:
            return ScriptedPlayer(kind)
    known = ", ".join((POLICY, HUMAN, f"{API}MODEL", *get_args(Kind)))
    raise UserError(f"there is no player {name!r}: choose one of {known}")


def _policy(config: RunConfig) -> Player:
    # imported here: a game without a model needs no torch
    from vision_zero.models.base import load
    from vision_zero.players.policy import PolicyPlayer
    from vision_zero.rollouts.hf import HfEngine

    vlm = load(config.model)
    engine = HfEngine.of(vlm, config.rollouts)
    return PolicyPlayer(POLICY, vlm, engine, config.rollouts.temperature, version=config.model.path)


class _Watched:
    """A game whose turns are printed when they are made."""

    def __init__(self, game: Game, console: Console, secret: bool) -> None:
        self._game, self._console, self._secret = game, console, secret

    @property
    def facts(self) -> GameFacts:
        return self._game.facts

    async def play(self, table: Table) -> Result:
        return await self._game.play(_WatchedTable(table.deal, self._console, self._secret))


class _WatchedTable(Table):
    def __init__(self, deal: Deal, console: Console, secret: bool) -> None:
        super().__init__(deal)
        self._console, self._secret = console, secret
        self._before: Turn | None = None

    async def ask(self, asks: Sequence[Asked]) -> tuple[Turn, ...]:
        turns = await super().ask(asks)
        roles = None if self._secret else _roles(asks)
        for turn in turns:
            render_turn(turn, self._before, self._console, roles)
            self._before = turn
        return turns


def _roles(asks: Iterable[Asked]) -> dict[int, Role]:
    views = [asked.ask.view for asked in asks]
    return {view.seat: view.role for view in views if view.seat is not None and view.role is not None}
