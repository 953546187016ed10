"""Seconds of an update, our trees over TRL's `GRPOTrainer` on the same samples: `python -m benchmarks.update`.

TRL reads every sample whole: reference log-probs without gradient, then the loss and its backward. Ours packs, scores
the reference and takes the same loss. AdamW's step is in neither. Gradients are compared before anything is timed.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import torch
from accelerate import Accelerator

from benchmarks._common import Goal, flops_of, matrix_limit, middle, options, ratios, report, take_turns
from benchmarks._games import config_of, deals_of, model_of, play_ours, samples_of
from benchmarks._trl import TrlUpdate
from vision_zero.models.base import VLM
from vision_zero.update.loss import objective, token_weights
from vision_zero.update.scorer import Scorer
from vision_zero.update.tree import collate, plan
from vision_zero.update.updater import Updater

GOAL = 4
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1}
"""Largest difference of gradients, relative to their norm. Two programs add up in different orders."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options(__doc__, seats=5, games=2)
    parser.add_argument("--rows", type=int, default=9, help="samples that TRL takes at once")
    asked = parser.parse_args(arguments)
    config = config_of(asked)
    vlm = model_of(asked)
    reference = vlm.reference()
    _move(vlm)
    updater = Updater(vlm, reference, config, Accelerator(cpu=not torch.cuda.is_available()), 100)
    samples, pictures = samples_of(play_ours(config, vlm, deals_of(config, asked.games)))
    for model in (vlm, reference):
        model.mask_forbidden = lambda logits: logits  # type: ignore[method-assign]  # TRL leaves no ids out
    trl = TrlUpdate(vlm, asked.rows, config.update.kl, config.update.clip_low, config.rollouts.temperature)
    if len(samples) % asked.rows:
        raise SystemExit(f"{len(samples)} samples are not a multiple of --rows: TRL's mean over them would be another")

    scorer = Scorer(vlm, config.rollouts.temperature)

    def ours() -> None:
        vlm.model.zero_grad(set_to_none=True)
        scored = updater.prepare(samples, pictures)
        policy = token_weights(scored.lengths, len(samples), len(scored.sampling), "sequence")
        vlm.model.train()
        for rows in plan(scored.trees, config.update.tokens_per_batch):
            batch = collate(rows, samples, scored.offsets, vlm.pad_id).to(vlm.device)
            logprobs, _ = scorer(batch, pictures)
            at = batch.tokens
            assert scored.reference is not None
            low, high, kl = config.update.clip_low, config.update.clip_high, config.update.kl
            weights = policy[at]
            reference_logprobs, advantages = scored.reference[at], scored.advantages[at]
            terms = objective(
                logprobs, logprobs.detach(), reference_logprobs, advantages, weights, kl * weights, low, high
            )
            terms.loss.backward()
        vlm.model.eval()

    def theirs() -> None:
        vlm.model.zero_grad(set_to_none=True)
        trl.gradients(samples, pictures)

    theirs()
    expected = _gradients(vlm)
    flops = flops_of(ours)
    difference = _difference(_gradients(vlm), expected)
    if not difference < TOLERANCE[asked.dtype]:
        raise RuntimeError(f"gradients differ by {difference:.2g} of their norm: these are not the same updates")
    runs = take_turns({"TRL": theirs, "ours": ours}, asked.repeats)
    gain = ratios(runs["TRL"], runs["ours"])
    scored = updater.pack(samples, pictures)
    lengths = [len(s.prompt.ids) + len(s.ids) for s in samples]
    packed, apart = sum(map(len, scored.trees)), sum(t.unpacked for t in scored.trees)
    seconds = statistics.median(s.steady for s in runs["ours"])
    limit = matrix_limit(next(vlm.model.parameters()).dtype, vlm.network.config.get_text_config().hidden_size)
    report(
        f"update: {len(samples)} samples of {asked.games} games, {asked.seats} seats, {asked.rounds} rounds, "
        f"{asked.votes} votes, {asked.model}, {asked.dtype}",
        ("way", "CPU s", "wall s"),
        [(n, middle([s.cpu for s in runs[n]]), middle([s.wall for s in runs[n]])) for n in runs],
        [
            f"TRL / ours: {middle(gain)}; gradients differ by {difference:.1e} of their norm",
            f"{apart} tokens apart, {packed} as trees: {apart / packed:.2f} times fewer; "
            f"samples of {min(lengths)} to {max(lengths)} tokens",
            f"ours: {flops / 1e9 / seconds:.1f} GFLOP/s in matrix products, {flops / seconds / limit:.0%} of the "
            f"{limit / 1e9:.0f} measured",
        ],
        [Goal("update over TRL", statistics.median(gain), GOAL, "at least")],
        asked.json,
    )


def _move(vlm: VLM) -> None:
    """Away from the reference a little, so that the KL term has a gradient."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in vlm.model.parameters():
            noise = torch.randn(p.shape, generator=generator).to(p.device, p.dtype)
            p.add_(noise * p.float().std().nan_to_num().to(p.dtype), alpha=0.02)


def _gradients(vlm: VLM) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in vlm.trainable() if p.grad is not None}


def _difference(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    if found.keys() != expected.keys():
        raise RuntimeError(f"gradients of other weights: {sorted(found.keys() ^ expected.keys())[:5]}")
    apart = math.sqrt(sum(float((found[n] - g).norm()) ** 2 for n, g in expected.items()))
    return apart / math.sqrt(sum(float(g.norm()) ** 2 for g in expected.values()))


if __name__ == "__main__":
    main()
