"""Our loss and its gradient on given samples, without the optimizer: packed, or in the published order of work."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import torch

from vision_zero.config import RunConfig
from vision_zero.models.base import VLM
from vision_zero.types import Picture, Sample
from vision_zero.update.loss import objective, token_weights
from vision_zero.update.samples import Scored, flatten
from vision_zero.update.scorer import Scorer
from vision_zero.update.tree import MicroBatch, Tree, build_trees, collate, plan

Pack = Literal["tree", "none"]


class Gradients:
    """Forward and backward of a model's update. Gradients add up until `clear`."""

    def __init__(self, vlm: VLM, reference: VLM, config: RunConfig) -> None:
        self.vlm, self.config = vlm, config
        self._policy = Scorer(vlm, config.rollouts.temperature)
        self._reference = Scorer(reference, config.rollouts.temperature)

    def clear(self) -> None:
        """Forget all gradients."""
        self.vlm.model.zero_grad(set_to_none=True)

    def packed(self, samples: Sequence[Sample], pictures: Mapping[str, Picture]) -> None:
        """As `Updater` does with one update a step: reference, then the loss, on trees."""
        scored = self.pack(samples, pictures, "tree", self.config.update.tokens_per_batch)
        reference = self._score(self._reference, scored, pictures, "tree")
        self._learn(scored, reference, pictures, "tree", len(samples))

    def published(self, samples: Sequence[Sample], pictures: Mapping[str, Picture], of: int) -> None:
        """The samples of one game among `of` samples: policy and reference one sample at a time without gradient,
        then all as one padded batch."""
        alone = self.pack(samples, pictures, "none", 1 << 20)
        for scorer in (self._policy, self._reference):
            reference = self._score(scorer, alone, pictures, "none", rows=1)
        self._learn(alone, reference, pictures, "none", of)

    def learn(self, samples: Sequence[Sample], pictures: Mapping[str, Picture], pack: Pack) -> None:
        """Forward and backward only, with log-probs of zero for the reference."""
        scored = self.pack(samples, pictures, pack, self.config.update.tokens_per_batch)
        self._learn(scored, torch.zeros_like(scored.sampling), pictures, pack, len(samples))

    def pack(self, samples: Sequence[Sample], pictures: Mapping[str, Picture], pack: Pack, tokens: int) -> Scored:
        """Trees and flat tensors."""
        for picture in pictures.values():
            self.vlm.placeholders(picture)
        trees = build_trees(samples, self.vlm.positions, [self.vlm.image_token_id], tokens, pack)
        return flatten(samples, trees, self.vlm.device)

    def difference(self, expected: Mapping[str, torch.Tensor]) -> float:
        """How far the gradients of now are from others, relative to their norm. Raises if other weights have any."""
        found = self.now()
        if found.keys() != expected.keys():
            raise RuntimeError(f"gradients of other weights: {sorted(found.keys() ^ expected.keys())[:5]}")
        apart = math.sqrt(sum(float((found[n] - g).norm()) ** 2 for n, g in expected.items()))
        return apart / math.sqrt(sum(float(g.norm()) ** 2 for g in expected.values()))

    def now(self) -> dict[str, torch.Tensor]:
        """A copy of the gradients, by name."""
        return {n: p.grad.float().clone() for n, p in self.vlm.trainable() if p.grad is not None}

    def _batches(self, scored: Scored, pack: Pack, rows: int | None = None) -> Iterator[MicroBatch]:
        made: list[list[list[Tree]]] = [[[t]] for t in scored.trees]
        if rows is None:
            tokens = self.config.update.tokens_per_batch if pack == "tree" else 1 << 20
            made = plan(scored.trees, tokens, pack)
        for together in made:
            yield collate(together, scored.samples, scored.offsets, self.vlm.pad_id).to(self.vlm.device)

    def _score(
        self, scorer: Scorer, scored: Scored, pictures: Mapping[str, Picture], pack: Pack, rows: int | None = None
    ) -> torch.Tensor:
        flat = torch.empty_like(scored.sampling)
        with torch.no_grad():
            for batch in self._batches(scored, pack, rows):
                flat[batch.tokens] = scorer(batch, pictures)[0]
        return flat

    def _learn(
        self, scored: Scored, reference: torch.Tensor, pictures: Mapping[str, Picture], pack: Pack, of: int
    ) -> None:
        update = self.config.update
        weights = token_weights(scored.lengths, of, 0, "sequence")
        self._policy.train()
        for batch in self._batches(scored, pack):
            logprobs, _ = self._policy(batch, pictures)
            at = batch.tokens
            objective(
                logprobs,
                logprobs.detach(),
                scored.sampling[at],
                reference[at],
                scored.advantages[at],
                weights[at],
                update.kl * weights[at],
                update.clip_low,
                update.clip_high,
                None,  # one engine plays and learns: nothing to correct
            ).loss.backward()
        self._policy.eval()


def move(vlm: VLM) -> None:
    """Change the weights a little, so that the pull towards the reference has a gradient."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in vlm.model.parameters():
            noise = torch.randn(p.shape, generator=generator).to(p.device, p.dtype)
            p.add_(noise * p.float().std(correction=0).to(p.dtype), alpha=0.02)
