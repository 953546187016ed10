"""How the time of a game grows with seats and rounds, and that of a step with games: `python -m benchmarks.scale`.

Seats and rounds: random model, full prompts. Games: `recipes/nano.yaml`, the model and the words of `make demo`.
A game's time is that of play, reference and gradient, divided by the games that were played together. The limit is what
matrix products of the model's width reach here; its share is that of the matrix products in a game over all its time.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks._common import Goal, Spent, flops_of, limit_of, middle, options, report, take_turns
from benchmarks._games import config_of, deals_of, model_of, play_ours, samples_of
from benchmarks._update import Gradients
from vision_zero.config import RunConfig, load_config
from vision_zero.models.base import VLM, load

GOAL = 1.6
"""For 8 seats over 4."""
NANO = Path(__file__).parents[1] / "recipes" / "nano.yaml"


@dataclass(frozen=True)
class Way:
    """A step of `games` games on a model."""

    act: Callable[[], None]
    vlm: VLM
    games: int


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options(__doc__, games=8)
    parser.add_argument("--seat-counts", type=int, nargs="*", default=[3, 4, 5, 8, 9, 17])
    parser.add_argument("--round-counts", type=int, nargs="*", default=[1, 2, 3, 4])
    parser.add_argument("--game-counts", type=int, nargs="*", default=[8, 32, 128, 512])
    asked = parser.parse_args(arguments)
    vlm = model_of(asked)
    reference = vlm.reference()

    def shaped(seats: int, rounds: int) -> Way:
        shape = argparse.Namespace(**{**vars(asked), "seats": seats, "rounds": rounds})
        return _step(config_of(shape), vlm, reference, asked.games)

    tables = {
        "seats": {n: shaped(n, asked.rounds) for n in asked.seat_counts},
        "rounds": {n: shaped(asked.seats, n) for n in asked.round_counts},
        "games": {n: _nano(n) for n in asked.game_counts},
    }
    rows: list[tuple[object, ...]] = []
    goals: list[Goal] = []
    limits: dict[str, float] = {}
    for what, ways in tables.items():
        if not ways:
            continue
        flops = {n: flops_of(way.act) / way.games for n, way in ways.items()}  # and all is read and warm
        runs = take_turns({str(n): way.act for n, way in ways.items()}, asked.repeats)
        each = {n: [s.over(way.games) for s in runs[str(n)]] for n, way in ways.items()}
        first = each[min(each)]
        for n, spans in each.items():
            share = flops[n] / statistics.median(_steady(spans)) / limit_of(ways[n].vlm)
            rows.append((what, n, middle(_steady(spans), ".4f"), middle(_against(spans, first)), f"{share:.0%}"))
        limits[what] = limit_of(next(iter(ways.values())).vlm) / 1e9
        if what == "seats" and {4, 8} <= each.keys():
            goals.append(Goal("a game of 8 seats over one of 4", _growth(each[8], each[4]), GOAL, "at most"))
        if what == "games":
            goals.append(Goal("a game among most over one among fewest", _growth(each[max(each)], first), 1, "at most"))
    report(
        f"scale: {asked.games} games, {asked.seats} seats, {asked.rounds} rounds, {asked.votes} votes if not said "
        f"otherwise, {asked.model}, {asked.dtype}; games: nano",
        ("varied", "count", "CPU s a game", "over the smallest", "of the limit"),
        rows,
        [f"limit of {what}: {limit:.0f} GFLOP/s in matrix products, measured" for what, limit in limits.items()],
        goals,
        asked.json,
    )


def _step(config: RunConfig, vlm: VLM, reference: VLM, games: int) -> Way:
    """Plays and learns from `games` games, whose pictures are made beforehand."""
    gradients, deals = Gradients(vlm, reference, config), deals_of(config, games)

    def act() -> None:
        gradients.clear()
        gradients.packed(*samples_of(play_ours(config, vlm, deals)))

    return Way(act, vlm, games)


def _nano(games: int) -> Way:
    config = load_config(NANO, [f"pairs.count={max(games, 2)}"])
    vlm = load(config.model)
    return _step(config, vlm, vlm.reference(), games)


def _steady(spans: Sequence[Spent]) -> list[float]:
    return [s.steady for s in spans]


def _against(spans: Sequence[Spent], others: Sequence[Spent]) -> list[float]:
    return [a / b for a, b in zip(_steady(spans), _steady(others), strict=True)]


def _growth(spans: Sequence[Spent], others: Sequence[Spent]) -> float:
    return statistics.median(_against(spans, others))


if __name__ == "__main__":
    main()
