"""Peak memory of a gradient over the same samples, packed and apart, all at once: `python -m benchmarks.memory`.

`update.tokens_per_batch` bounds both in a run; here it is raised until one forward and backward holds every sample, so
that what is compared is what the samples need. Weights and their gradients, there before, are not in the figures.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks._common import Goal, options, peak_bytes, report
from benchmarks._games import config_of, deals_of, model_of, play_ours, samples_of
from benchmarks._update import Gradients, Pack

GOAL = 0.5
MANY = 1 << 20


def main(arguments: Sequence[str] | None = None) -> None:
    asked = options(__doc__, seats=5, games=1, repeats=1).parse_args(arguments)
    config = config_of(asked, update={"tokens_per_batch": MANY})
    vlm = model_of(asked)
    samples, pictures = samples_of(play_ours(config, vlm, deals_of(config, asked.games)))
    gradients = Gradients(vlm, vlm.reference(), config)
    peaks: dict[Pack, int] = {}
    tokens: dict[Pack, int] = {}
    gradients.learn(samples, pictures, "tree")  # gradients exist from here on
    ways: tuple[Pack, Pack] = ("none", "tree")
    for pack in ways:
        peaks[pack] = peak_bytes(lambda pack=pack: gradients.learn(samples, pictures, pack))  # type: ignore[misc]
        tokens[pack] = sum(map(len, gradients.pack(samples, pictures, pack, MANY).trees))
    share = peaks["tree"] / peaks["none"]
    report(
        f"memory: {len(samples)} samples of {asked.games} games, {asked.seats} seats, {asked.rounds} rounds, "
        f"{asked.votes} votes, {asked.model}, {asked.dtype}",
        ("samples", "tokens", "peak, MiB"),
        [(name, tokens[pack], f"{peaks[pack] / 2**20:.0f}") for name, pack in (("apart", "none"), ("trees", "tree"))],
        ["bytes allocated are counted, not sampled: a repeat gives the same"],
        [Goal("peak packed over apart", share, GOAL, "at most")],
        asked.json,
    )


if __name__ == "__main__":
    main()
