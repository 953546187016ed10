"""A whole step, ours over the published order of work: `python -m benchmarks.step`.

Published: games one after the other, no prompt kept; then, game by game, every sample twice alone without gradient
(policy, reference) and once in a padded batch with it. Ours: games in lock-step, reference and gradient on trees.
AdamW's step, the same in both, is in neither. Same model code, same games, equal gradients (compared before timing).
The published way costs the same a game however many there are, so that fewer are timed (`--published-games`).
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks._common import Goal, flops_of, middle, options, ratios, reached, report, take_turns
from benchmarks._games import config_of, deals_of, model_of, play_ours, play_published, samples_of
from benchmarks._profile import by_kind
from benchmarks._update import Gradients, move

GOAL = 10
TOLERANCE = {"float32": 1e-5, "bfloat16": 0.2}
"""Largest difference of gradients, relative to their norm."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options(__doc__, games=32)
    parser.add_argument("--published-games", type=int, default=2, help="how many of the games the published way plays")
    asked = parser.parse_args(arguments)
    config, vlm = config_of(asked), model_of(asked)
    gradients = Gradients(vlm, vlm.reference(), config)
    move(vlm)
    deals = deals_of(config, asked.games)
    few = deals[: asked.published_games]

    def ours(dealt: Sequence[object] = deals) -> None:
        gradients.clear()
        gradients.packed(*samples_of(play_ours(config, vlm, dealt)))  # type: ignore[arg-type]

    def published() -> None:
        gradients.clear()
        samples, pictures = samples_of(play_published(config, vlm, few))
        for deal in few:
            mine = [s for s in samples if s.episode == deal.id]
            shown = {sha for s in mine for sha in s.prompt.pictures}
            gradients.published(mine, {sha: pictures[sha] for sha in shown}, len(samples))

    published()
    expected = gradients.now()
    ours(few)
    difference = gradients.difference(expected)
    if not difference < TOLERANCE[asked.dtype]:
        raise RuntimeError(f"gradients differ by {difference:.2g} of their norm: these are not the same steps")
    flops = flops_of(ours)
    runs = take_turns({"published": published, "ours": ours}, asked.repeats)
    counts = {"published": len(few), "ours": len(deals)}
    runs = {name: [s.over(counts[name]) for s in each] for name, each in runs.items()}
    gain = ratios(runs["published"], runs["ours"])
    seconds = statistics.median(s.steady for s in runs["ours"]) * len(deals)
    report(
        f"step: {len(deals)} games of {asked.seats} seats, {asked.rounds} rounds, {asked.votes} votes, "
        f"{asked.model}, {asked.dtype}",
        ("way", "games", "CPU s a game", "wall s a game"),
        [
            (n, counts[n], middle([s.cpu for s in runs[n]], ".3f"), middle([s.wall for s in runs[n]], ".3f"))
            for n in runs
        ],
        [
            f"published / ours: {middle(gain)}; gradients differ by {difference:.1e} of their norm",
            f"ours: {reached(flops / seconds, vlm)}",
            f"seconds of ours: {by_kind(ours)}",
        ],
        [Goal("step over the published order of work", statistics.median(gain), GOAL, "at least")],
        asked.json,
    )


if __name__ == "__main__":
    main()
