"""Seconds of an update, our trees over TRL's `GRPOTrainer` on the same samples: `python -m benchmarks.update`.

TRL reads every sample whole: reference log-probs without gradient, then the loss and its backward. Ours packs, scores
the reference and takes the same loss. AdamW's step is in neither. Gradients are compared before anything is timed.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks._common import Goal, flops_of, middle, options, ratios, reached, report, take_turns
from benchmarks._games import config_of, deals_of, model_of, play_ours, samples_of
from benchmarks._profile import by_kind
from benchmarks._trl import TrlUpdate
from benchmarks._update import Gradients, move

GOAL = 4
TOLERANCE = {"float32": 1e-5, "bfloat16": 0.2}
"""Largest difference of gradients, relative to their norm. Two programs add up in different orders."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options(__doc__, seats=5, games=2)
    parser.add_argument("--rows", type=int, default=9, help="samples that TRL takes at once")
    asked = parser.parse_args(arguments)
    config, vlm = config_of(asked), model_of(asked)
    reference = vlm.reference()
    move(vlm)
    samples, pictures = samples_of(play_ours(config, vlm, deals_of(config, asked.games)))
    if len(samples) % asked.rows:
        raise SystemExit(f"{len(samples)} samples are not a multiple of --rows: TRL's mean over them would be another")
    for model in (vlm, reference):
        model.mask_forbidden = lambda logits: logits  # type: ignore[method-assign]  # TRL leaves no ids out
    gradients = Gradients(vlm, reference, config)
    trl = TrlUpdate(vlm, asked.rows, config.update.kl, config.update.clip_low, config.rollouts.temperature)

    def ours() -> None:
        gradients.clear()
        gradients.packed(samples, pictures)

    def theirs() -> None:
        gradients.clear()
        trl.gradients(samples, pictures)

    theirs()
    expected = gradients.now()
    flops = flops_of(ours)
    difference = gradients.difference(expected)
    if not difference < TOLERANCE[asked.dtype]:
        raise RuntimeError(f"gradients differ by {difference:.2g} of their norm: these are not the same updates")
    runs = take_turns({"TRL": theirs, "ours": ours}, asked.repeats)
    gain = ratios(runs["TRL"], runs["ours"])
    scored = gradients.pack(samples, pictures, "tree", config.update.tokens_per_batch)
    lengths = [len(s.prompt.ids) + len(s.ids) for s in samples]
    packed, apart = sum(map(len, scored.trees)), sum(t.unpacked for t in scored.trees)
    seconds = statistics.median(s.steady for s in runs["ours"])
    report(
        f"update: {len(samples)} samples of {asked.games} games, {asked.seats} seats, {asked.rounds} rounds, "
        f"{asked.votes} votes, {asked.model}, {asked.dtype}",
        ("way", "CPU s", "wall s"),
        [(n, middle([s.cpu for s in runs[n]]), middle([s.wall for s in runs[n]])) for n in runs],
        [
            f"TRL / ours: {middle(gain)}; gradients differ by {difference:.1e} of their norm",
            f"{apart} tokens apart, {packed} as trees: {apart / packed:.2f} times fewer; "
            f"samples of {min(lengths)} to {max(lengths)} tokens",
            f"ours: {reached(flops / seconds, vlm)}",
            f"seconds of ours: {by_kind(ours)}",
        ],
        [Goal("update over TRL", statistics.median(gain), GOAL, "at least")],
        asked.json,
    )


if __name__ == "__main__":
    main()
