"""Everybody plays everybody, in both roles, on the same deals.

    DIR/                          a run directory: `vision-zero replay DIR --step K` tells its games
    ├── arena.json                who plays, with versions of the weights
    ├── episodes/step_00000K.jsonl    games of one pairing; K = n * (number of civilians) + (number of spy)
    ├── result.json, table.md     win matrix, ratings, comparisons
    └── arena.png

Every voter is asked once, whatever the recipe says. Games are stored as they end. The same command goes on after a
stop; with more games it plays only the missing ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np

from vision_zero.config import GameConfig, RunConfig
from vision_zero.errors import UserError
from vision_zero.evaluate.entrants import Entrant, Players
from vision_zero.evaluate.ratings import Comparison, Games, Ratings, compare, rate_players
from vision_zero.evaluate.statistics import Estimate, rate
from vision_zero.games import make_game
from vision_zero.games.base import Deal
from vision_zero.pairs import open_pairs
from vision_zero.rollouts.dealing import deals_of_step
from vision_zero.rollouts.runner import play
from vision_zero.runs.files import read_object, within, write_atomic
from vision_zero.runs.store import RunStore
from vision_zero.seeds import derive_seed
from vision_zero.types import JSON, Role

Pairing = tuple[int, int]
"""Number of the player with the civilians' seats, and of the one with the spies'."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class ArenaResult:
    """`matrix[i][j]` is how often civilians of player i win against the spy of player j, None if they did not meet."""

    players: tuple[str, ...]
    versions: tuple[str, ...]
    deals: int
    games: int
    matrix: tuple[tuple[Estimate | None, ...], ...]
    ratings: Ratings | None
    comparisons: tuple[Comparison, ...]

    def to_json(self) -> JSON:
        """Plain data for `json.dumps`."""
        tree = asdict(self)
        tree["comparisons"] = [asdict(c) | {"told_apart": c.told_apart} for c in self.comparisons]
        return tree


def pairings_of(players: int, against: int | None = None) -> list[Pairing]:
    """Who meets whom. All, themselves too: only so are both roles of two players measured on the same opponents.
    With `against`, everybody meets that player alone, in both roles."""
    if against is None:
        return [(i, j) for i in range(players) for j in range(players)]
    return [pair for i in range(players) if i != against for pair in ((i, against), (against, i))]


def play_arena(
    config: RunConfig,
    entrants: Sequence[Entrant],
    games: int,
    out: Path,
    say: Say,
    against: int | None = None,
    batch: int = 64,
) -> ArenaResult:
    """Play what is missing in `out` and write the results there.

    `games` between any two players, half of them in each role, at most `batch` at a time. `against`: only
    games against that player. Raises `UserError` if `out` holds another arena, or for an odd number of games.
    """
    if games < 4 or games % 2:
        raise UserError(f"--games {games}: half of the games are in each role; give an even number, 4 or more")
    if len({e.label for e in entrants}) < max(2, len(entrants)):
        raise UserError("an arena needs two players or more, each with a name of its own: say LABEL=PLAYER")
    if config.game.name != "spy":
        raise UserError(f"game.name={config.game.name} has no two sides: an arena needs game.name=spy")
    config = config.model_copy(update={"name": f"arena-{config.name}"})
    store = _open_store(out, config, entrants)
    deals = arena_deals(config, games // 2)
    pairings, n = pairings_of(len(entrants), against), len(entrants)
    players = Players(entrants, config)
    won, played = (np.zeros((len(deals), n, n)) for _ in range(2))
    for number, (i, j) in enumerate(pairings, start=1):
        wins = _play_pairing(config, store, players, i * n + j, entrants[i].label, entrants[j].label, deals, batch)
        won[:, i, j], played[:, i, j] = wins, 1
        say(f"{number}/{len(pairings)}: {entrants[i].label} as civilians won {sum(wins)} of {len(wins)} games against "
            f"{entrants[j].label} as spy")  # fmt: skip
    results = Games(tuple(e.label for e in entrants), won, played)
    return _result(results, entrants, derive_seed(config.seed, "arena", "bootstrap"))


def arena_deals(config: RunConfig, count: int) -> list[Deal]:
    """Held-out deals with the spies' seats balanced. A larger `count` begins with the same deals."""
    pairs = open_pairs(config.pairs, config.seed, "held_out")
    dealt = deals_of_step(pairs, derive_seed(config.seed, "arena"), 0, count, {})
    places = _spy_seats(config.game)
    return [replace(deal, spies=places[k % len(places)]) for k, deal in enumerate(dealt)]


def _spy_seats(game: GameConfig) -> list[tuple[int, ...]]:
    seats = range(0 if game.spy_may_speak_first else 1, game.civilians + game.spies)
    return list(combinations(seats, game.spies))


def _open_store(out: Path, config: RunConfig, entrants: Sequence[Entrant]) -> RunStore:
    """The directory of this arena, new or to go on with."""
    players = [{"label": e.label, "version": e.version} for e in entrants]
    file = out / "arena.json"
    if not file.exists():
        store = RunStore.create(out.parent, config, out)
        write_atomic(file, json.dumps({"players": players}, indent=2).encode() + b"\n")
        return store
    store = RunStore.open(out)
    before = read_object(within(out, file)).get("players")
    if before != players:
        raise UserError(f"{out} holds an arena of other players or weights ({before}): choose another --out")
    if store.config != config:
        raise UserError(f"{out} holds an arena with other settings (its recipe.yaml): choose another --out")
    return store


def _play_pairing(
    config: RunConfig,
    store: RunStore,
    players: Players,
    step: int,
    civilians: str,
    spy: str,
    deals: Sequence[Deal],
    batch: int,
) -> list[bool]:
    """For each deal, whether the civilians won."""
    cast = {Role.CIVILIAN: civilians, Role.SPY: spy}
    mine = [replace(deal, id=f"{step:06d}-{k:04d}", cast=cast) for k, deal in enumerate(deals)]
    done = {e.id: e for e in store.read_episodes(step)} if step in store.steps() else {}
    missing = [deal for deal in mine if deal.id not in done]
    pairs = [deal.pair for deal in mine]
    game = make_game(config.game.model_copy(update={"votes_per_voter": 1}))
    for start in range(0, len(missing), batch):
        chunk = missing[start : start + batch]
        done |= {e.id: e for e in play(game, chunk, players.open(*dict.fromkeys((civilians, spy))))}
        store.write_episodes(step, [done[key] for key in sorted(done)], pairs)
    return [done[deal.id].outcome.civilians_win for deal in mine]


def _result(games: Games, entrants: Sequence[Entrant], seed: int) -> ArenaResult:
    n = len(entrants)
    met = games.played.sum(0) > 0
    matrix = tuple(tuple(rate(games.cell(i, j)) if met[i, j] else None for j in range(n)) for i in range(n))
    comparisons = [compare(games, i, j) for i, j in combinations(range(n), 2)]
    return ArenaResult(
        players=games.players,
        versions=tuple(e.version for e in entrants),
        deals=len(games.won),
        games=int(games.played.sum()),
        matrix=matrix,
        ratings=rate_players(games, seed),
        comparisons=tuple(c for c in comparisons if c is not None),
    )
