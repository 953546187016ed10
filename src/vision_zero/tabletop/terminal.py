"""One game at the terminal, printed as it goes, with anybody on any seat."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from vision_zero.config import RunConfig
from vision_zero.errors import UserError
from vision_zero.evaluate.entrants import Players
from vision_zero.games import make_game
from vision_zero.games.base import Asked, Deal, Player
from vision_zero.pairs import open_pairs
from vision_zero.players.human import HumanPlayer
from vision_zero.rollouts.runner import play
from vision_zero.runs.replay import render_end, render_episode, render_seats, render_turn
from vision_zero.runs.store import RunStore
from vision_zero.seeds import derive_seed
from vision_zero.tabletop.guests import HUMAN, find_guest
from vision_zero.tabletop.watching import Watched
from vision_zero.types import Episode, Role, Turn


def play_one(
    config: RunConfig,
    run: Path | None,
    cast: Mapping[Role, str],
    seats: Mapping[int, str],
    seed: int,
    console: Console,
    store: RunStore | None = None,
) -> Episode:
    """Play one held-out game. `cast` and `seats` (by index, before the roles) say who plays; see `find_guest`.

    Every voter is asked once, whatever the recipe says. While a person plays, only what every player may
    know is printed; all is told at the end. With `store` the game is kept there, as a step of its own.
    Raises `UserError` for a player or a seat that does not exist.
    """
    game = make_game(config.game.model_copy(update={"votes_per_voter": 1}))
    for index in seats:
        if not 0 <= index < game.facts.seats:
            raise UserError(f"there is no seat {index + 1}: this game has seats 1 to {game.facts.seats}")
    names = dict.fromkeys((*cast.values(), *seats.values()))
    folder = Path(mkdtemp(prefix="vision-zero-"))
    players = _open([n for n in names if n != HUMAN], config, run)
    secret = HUMAN in names
    if secret:
        players[HUMAN] = HumanPlayer(HUMAN, console, folder=folder, most_characters=config.game.max_clue_characters)
    pairs = open_pairs(config.pairs, config.seed, "held_out")
    pair = pairs[derive_seed(seed, "pair") % len(pairs)]
    deal = Deal(f"seed-{seed}", pair, seed, cast, seats)
    console.print(Rule(Text(f"{game.facts.name} on {pair.id}; play it again with --seed {seed}")))
    (episode,) = play(Watched(game, _Printer(console, secret)), [deal], players)
    if secret:
        render_episode(episode, console, folder, pair.changes)
    else:
        console.print()
        render_seats(episode, console, pair.changes)
        render_end(episode, console, folder)
    if store is not None:
        step = max(store.steps(), default=-1) + 1
        store.write_episodes(step, [replace(episode, id=f"{step:06d}-0000")], [pair])
    return episode


def _open(names: Sequence[str], config: RunConfig, run: Path | None) -> dict[str, Player]:
    entrants = {name: find_guest(name, config, run) for name in names}
    opened = Players(list(entrants.values()), config).open(*(e.label for e in entrants.values()))
    return {name: opened[entrant.label] for name, entrant in entrants.items()}


class _Printer:
    """Prints turns when they are made."""

    def __init__(self, console: Console, secret: bool) -> None:
        self._console, self._secret = console, secret
        self._before: Turn | None = None

    def asked(self, asks: Sequence[Asked]) -> None:
        """Nothing."""

    def answered(self, asks: Sequence[Asked], turns: Sequence[Turn]) -> None:
        """A line a turn; roles and thoughts only where nothing is secret."""
        roles = None if self._secret else _roles(asks)
        for turn in turns:
            render_turn(turn, self._before, self._console, roles)
            self._before = turn


def _roles(asks: Iterable[Asked]) -> dict[int, Role]:
    views = [asked.ask.view for asked in asks]
    return {view.seat: view.role for view in views if view.seat is not None and view.role is not None}
