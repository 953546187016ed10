"""Peak memory of a gradient over the same samples, packed and apart, all at once: `python -m benchmarks.memory`.

`update.tokens_per_batch` bounds both in a run; here it is raised until one forward and backward holds every sample, so
that what is compared is what the samples need. Weights and their gradients, there before, are not in the figures.
The limit is that of matrix products: the seconds of both say that memory is not saved by computing anything twice.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import partial

from benchmarks._common import Goal, flops_of, middle, options, peak_bytes, reached, report, take_turns
from benchmarks._games import config_of, deals_of, model_of, play_ours, samples_of
from benchmarks._update import Gradients, Pack

GOAL = 0.5
MANY = 1 << 20


def main(arguments: Sequence[str] | None = None) -> None:
    asked = options(__doc__, seats=5, games=1).parse_args(arguments)
    config = config_of(asked, update={"tokens_per_batch": MANY})
    vlm = model_of(asked)
    samples, pictures = samples_of(play_ours(config, vlm, deals_of(config, asked.games)))
    gradients = Gradients(vlm, vlm.reference(), config)
    packs: dict[str, Pack] = {"apart": "none", "trees": "tree"}
    ways = {name: partial(gradients.learn, samples, pictures, pack) for name, pack in packs.items()}
    ways["trees"]()  # gradients exist from here on
    peaks = {name: peak_bytes(act) for name, act in ways.items()}
    tokens = {n: sum(map(len, gradients.pack(samples, pictures, pack, MANY).trees)) for n, pack in packs.items()}
    flops = {name: flops_of(act) for name, act in ways.items()}
    runs = take_turns(ways, asked.repeats)
    seconds = {name: [s.steady for s in each] for name, each in runs.items()}
    rates = {name: flops[name] / statistics.median(each) for name, each in seconds.items()}
    report(
        f"memory: {len(samples)} samples of {asked.games} games, {asked.seats} seats, {asked.rounds} rounds, "
        f"{asked.votes} votes, {asked.model}, {asked.dtype}",
        ("samples", "tokens", "peak, MiB", "s"),
        [(n, tokens[n], f"{peaks[n] / 2**20:.0f}", middle(seconds[n])) for n in ways],
        [
            "bytes allocated are counted, not sampled: a repeat gives the same",
            f"tokens of trees over apart: {tokens['trees'] / tokens['apart']:.2f}",
            *(f"{name}: {reached(rate, vlm)}" for name, rate in rates.items()),
        ],
        [Goal("peak packed over apart", peaks["trees"] / peaks["apart"], GOAL, "at most")],
        asked.json,
    )


if __name__ == "__main__":
    main()
