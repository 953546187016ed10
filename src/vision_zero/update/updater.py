"""Advantages to weights: one training step of any algorithm on any number of processes.

Every process brings its own samples; processes may have different numbers of micro-batches, or none. Losses are
sums with global normalisers, and gradients are summed over processes, by a layout in `update/parallel/`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import chain, repeat
from typing import Any, Literal

import numpy as np
import torch
from accelerate.utils import gather_object

from vision_zero.config import RunConfig
from vision_zero.distributed import Processes
from vision_zero.errors import UserError
from vision_zero.models.base import VLM
from vision_zero.models.memory import memory_for
from vision_zero.seeds import derive_seed
from vision_zero.types import Picture, Sample
from vision_zero.update.loss import Terms, objective, token_weights
from vision_zero.update.optimizer import learning_rate
from vision_zero.update.parallel import make_parallel
from vision_zero.update.samples import Scored, flatten
from vision_zero.update.scorer import Scorer
from vision_zero.update.tally import Clock, Tally, TokenFigures
from vision_zero.update.tree import MicroBatch, Tree, build_trees, collate, plan


class Updater:
    """Owns the optimizer. `total_steps`: training steps of the whole run, for the schedule.

    `reference` is what the KL terms pull towards: `vlm.reference()`, taken before trained weights are loaded.
    """

    def __init__(self, vlm: VLM, reference: VLM, config: RunConfig, accelerator: Processes, total_steps: int) -> None:
        self.steps = 0
        self.skipped_in_a_row = 0
        """Updates that were skipped since the last one that was not."""
        self.offending: tuple[Sample, ...] = ()
        """Samples of this process for which updates of the last step were skipped."""
        self._vlm = vlm
        self._config = config
        self._accelerator = accelerator
        self._total_steps = total_steps
        self.apart = vlm.apart if config.update.pack == "tree" else None
        """Why samples are computed apart although `update.pack` is `tree`; None if they are not."""
        self._pack: Literal["tree", "none"] = "none" if self.apart else config.update.pack
        self._scorer = Scorer(vlm, config.rollouts.temperature).to(accelerator.device)
        self._reference: Scorer | None = None
        if config.update.kl > 0 or config.credit.anchor > 0:
            self._reference = Scorer(reference, config.rollouts.temperature)
        self._parallel = make_parallel(vlm, self._scorer, config, accelerator)

    def prepare(self, samples: Sequence[Sample], pictures: Mapping[str, Picture]) -> Scored:
        """Pack the samples and score them under the weights of now and under the reference.

        `pictures`: by hash, at least those that the samples show. With one update a step the old log-probs
        are those of its own forward and are not computed here. Raises `UserError` if sampler and trainer
        disagree (with one update a step: `step` does).
        """
        clock = Clock()
        with clock("pack"):
            scored = self.pack(samples, pictures)
        old, reference = None, None
        if self._config.update.epochs * self._config.update.minibatches > 1:
            with clock("old"):
                old = self._score(self._scorer, scored, pictures)
            self._compare((scored.sampling - old).abs())
        if self._reference is not None:
            with clock("reference"), self._reference.vlm.present():
                reference = self._score(self._reference, scored, pictures)
        return replace(scored, old=old, reference=reference, seconds=clock.seconds)

    def pack(self, samples: Sequence[Sample], pictures: Mapping[str, Picture]) -> Scored:
        """The samples as trees and flat tensors, not scored yet."""
        for sha in {sha for s in samples for sha in s.prompt.pictures}:
            self._vlm.placeholders(pictures[sha])  # positions need its shape, and this process may not have read it
        limit = self._config.update.tokens_per_batch
        trees = build_trees(samples, self._vlm.positions, [self._vlm.image_token_id], limit, self._pack)
        return flatten(samples, trees, self._accelerator.device)

    def score(self, scored: Scored, pictures: Mapping[str, Picture]) -> torch.Tensor:
        """Log-probs (T,) of the sampled tokens under the weights of now, without gradient."""
        return self._score(self._scorer, scored, pictures)

    def step(self, scored: Scored, pictures: Mapping[str, Picture], rate_factor: float = 1.0) -> dict[str, float]:
        """Train on the samples, at `rate_factor` times the scheduled learning rate, and return the metrics, equal
        on every process.

        An update whose loss or gradient is not finite is skipped on all processes, and counted; `offending` are
        then the samples that made it so. Raises `UserError` if the sampler's log-probs are not the trainer's, or if
        memory ends; the weights are then as they were before that update.
        """
        update = self._config.update
        rate = rate_factor * learning_rate(self.steps, self._total_steps, update)
        tally, clock, figures = Tally(), Clock(scored.seconds), TokenFigures(len(scored.sampling), self._device)
        cuda = [self._device] if self._device.type == "cuda" else []
        filler = self._filler(scored, pictures) if self._parallel.even else None
        skipped, offending = 0, set[int]()
        with torch.random.fork_rng(cuda), self._parallel.training():
            # Only dropout draws from the global generator.
            torch.manual_seed(derive_seed(self._config.seed, "dropout", self.steps, self._accelerator.process_index))
            for epoch in range(update.epochs):
                for trees in self._minibatches(scored.trees, epoch):
                    norm, loss, bad = self._update(scored, trees, pictures, rate, figures, clock, filler)
                    if norm is None:
                        skipped += 1
                        self.skipped_in_a_row += 1
                        offending |= bad
                        continue
                    self.skipped_in_a_row = 0
                    tally.mean("gradient_norm", norm)
                    tally.total("loss", loss / (update.epochs * update.minibatches))
            self._parallel.scorer.eval()
        self.steps += 1
        self.offending = tuple(scored.samples[i] for i in sorted(offending))
        tally.peak("skipped", torch.tensor(float(skipped)))
        figures.report(tally, [s.label for s in scored.samples], scored.owner)
        tally.total("tokens/packed", sum(len(t) for t in scored.trees))
        tally.total("tokens/unpacked", sum(t.unpacked for t in scored.trees))
        tally.total("tokens/sampled", len(scored.sampling))
        tally.total("samples", len(scored.samples))
        for phase, seconds in clock.seconds.items():
            tally.peak(f"seconds/{phase}", torch.tensor(seconds))
        return tally.gathered(self._accelerator) | {"learning_rate": rate}

    def rehearse(self, samples: Sequence[Sample], pictures: Mapping[str, Picture]) -> None:
        """Take the largest micro-batch of these samples through an update that changes nothing.

        Everything that a step holds is then held: reference, gradients, moments. For the start of a run; raises
        what the device raises when its memory ends.
        """
        if self.steps:
            raise ValueError("rehearse before the first step")
        start = self._parallel.state_dict()
        scored = self.pack(samples, pictures)
        batch = max(self._batches(scored, scored.trees), key=lambda b: b.ids.numel())
        if self._reference is not None:
            self._reference.eval()
            with torch.no_grad(), self._reference.vlm.present():
                scored = replace(scored, reference=torch.zeros_like(scored.sampling))
                self._reference(batch, pictures)
        ones = torch.ones_like(scored.sampling)
        with self._parallel.training():
            for _ in range(2):  # the second time moments and gradients are there already
                self._parallel.backward(self._forward(scored, batch, pictures, (ones, ones))[0].loss, last=True)
                if self._parallel.finite():
                    self._parallel.step(0.0)
            self._parallel.scorer.eval()
            self._parallel.clear()
        self._parallel.load_state_dict(start)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs beside the model's weights: steps taken, moments, masters. All processes call it."""
        optimizer = self._parallel.state_dict()
        return {"steps": self.steps, "skipped_in_a_row": self.skipped_in_a_row, "optimizer": optimizer}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken. Load the weights into the model first."""
        self._parallel.load_state_dict(state["optimizer"])
        self.steps = int(state["steps"])
        self.skipped_in_a_row = int(state.get("skipped_in_a_row", 0))  # checkpoints of before have none

    @property
    def _device(self) -> torch.device:
        return self._accelerator.device

    def _batches(self, scored: Scored, trees: Sequence[Tree]) -> Iterator[MicroBatch]:
        for rows in plan(trees, self._config.update.tokens_per_batch, self._pack):
            yield collate(rows, scored.samples, scored.offsets, self._vlm.pad_id).to(self._device)

    def _rounds(self, scored: Scored, trees: Sequence[Tree]) -> Iterator[tuple[MicroBatch | None, bool]]:
        """Micro-batches to train on, each with whether it is the last; None where only other processes have one.

        Weights in pieces are brought together in every forward and backward, by all processes at once: if one
        left out what it has no samples for, the others would wait for it forever.
        """
        count = len(plan(trees, self._config.update.tokens_per_batch, self._pack))
        rounds = max(gather_object([count])) if self._parallel.even else count
        for i, batch in enumerate(chain(self._batches(scored, trees), repeat(None, rounds - count))):
            yield batch, i == rounds - 1

    def _filler(self, scored: Scored, pictures: Mapping[str, Picture]) -> MicroBatch | None:
        """What a process runs through the model where it has no micro-batch of its own: one of its samples, or
        another process's. A real one, because a picture takes a forward to parts where text alone never comes."""
        samples = [*scored.samples[:1], *gather_object(list(scored.samples[:1]))]
        if not samples:
            return None  # nobody has any, which is refused later
        packed = self.pack(samples[:1], pictures)
        return next(self._batches(packed, packed.trees))

    def _nothing(self, filler: MicroBatch | None, pictures: Mapping[str, Picture]) -> torch.Tensor:
        """A loss () without weight, whose forward and backward keep step with the other processes'."""
        assert filler is not None
        self._parallel.scorer.train()
        logprobs: torch.Tensor = self._parallel.scorer(filler, pictures)[0]
        return 0.0 * logprobs.sum()

    @torch.no_grad()
    def _score(self, scorer: Scorer, scored: Scored, pictures: Mapping[str, Picture]) -> torch.Tensor:
        scorer.eval()
        flat = torch.empty_like(scored.sampling)
        for batch in self._batches(scored, scored.trees):
            with self._memory("scoring", batch):
                flat[batch.tokens] = scorer(batch, pictures)[0]
        return flat

    def _minibatches(self, trees: Sequence[Tree], epoch: int) -> list[list[Tree]]:
        """Whole trees, dealt at random into `minibatches` parts; a part may be empty on one process."""
        parts = self._config.update.minibatches
        if parts == 1:
            return [list(trees)]
        seed = derive_seed(self._config.seed, "minibatches", self.steps, epoch, self._accelerator.process_index)
        order = np.random.default_rng(seed).permutation(len(trees))
        return [[trees[i] for i in part] for part in np.array_split(order, parts)]

    def _update(
        self,
        scored: Scored,
        trees: Sequence[Tree],
        pictures: Mapping[str, Picture],
        rate: float,
        figures: TokenFigures,
        clock: Clock,
        filler: MicroBatch | None,
    ) -> tuple[torch.Tensor | None, float, set[int]]:
        """One optimizer step on `trees`: norm () of its gradient before clipping, this process's part of the loss.

        None instead of the norm if the step was skipped, on all processes; then also the samples that made it so.
        """
        self._parallel.clear()
        weights = self._weights(scored, trees)
        differences = [torch.empty(0, device=self._device)]
        loss, bad = 0.0, set[int]()
        for batch, last in self._rounds(scored, trees):
            if batch is None:
                self._parallel.backward(self._nothing(filler, pictures), last)
                continue
            with clock("forward"), self._memory("an update", batch):
                terms, logprobs, entropies = self._forward(scored, batch, pictures, weights)
            if not terms.loss.isfinite():
                tokens = batch.tokens[~(logprobs.isfinite() & terms.ratio.isfinite())]
                bad |= set(scored.owner[tokens].tolist() or batch.samples)
            # also of a loss that is not finite: the other processes are to hear of it
            with clock("backward"), self._memory("an update", batch):
                self._parallel.backward(terms.loss, last)
            loss += float(terms.loss.detach())
            old = logprobs if scored.old is None else scored.old[batch.tokens]
            differences.append((old - scored.sampling[batch.tokens]).abs())
            figures.add(
                batch.tokens,
                entropy=entropies,
                clip_fraction=terms.clipped,
                ratio=terms.ratio,
                sampler_difference=differences[-1],
                importance=terms.importance,
                importance_truncated=terms.truncated,
                **({} if terms.kl is None else {"kl": terms.kl}),
            )
        with clock("optimizer"):
            self._parallel.synchronise()
        broken = int(self._accelerator.reduce(torch.tensor(len(bad), device=self._device), reduction="sum"))
        if broken or not self._parallel.finite():
            bad |= set() if broken else set(self._culprits(scored, trees, pictures, weights, filler))
            self._parallel.clear()
            return None, loss, bad
        if scored.old is None:
            self._compare(torch.cat(differences))
        with clock("optimizer"):
            return self._parallel.step(rate), loss, bad

    def _forward(
        self,
        scored: Scored,
        batch: MicroBatch,
        pictures: Mapping[str, Picture],
        weights: tuple[torch.Tensor, torch.Tensor],
    ) -> tuple[Terms, torch.Tensor, torch.Tensor]:
        """Terms of the loss with its graph; log-probs and entropies (T,) of the batch without."""
        self._parallel.scorer.train()
        logprobs, entropies = self._parallel.scorer(batch, pictures)
        at = batch.tokens
        terms = objective(
            logprobs,
            logprobs.detach() if scored.old is None else scored.old[at],
            scored.sampling[at],
            None if scored.reference is None else scored.reference[at],
            scored.advantages[at],
            weights[0][at],
            weights[1][at],
            self._config.update.clip_low,
            self._config.update.clip_high,
            self._config.update.importance_cap,
        )
        return terms, logprobs.detach(), entropies

    def _weights(self, scored: Scored, trees: Sequence[Tree]) -> tuple[torch.Tensor, torch.Tensor]:
        """Policy and KL weight (T,) of each token in an optimizer step on `trees` of all processes."""
        update = self._config.update
        members = [scored.samples[i] for t in trees for i in t.samples]
        trained = [len(s.ids) for s in members if s.advantage is not None]
        anchors = [len(s.ids) for s in members if s.advantage is None]
        counts = torch.tensor([len(trained), sum(trained), len(anchors), sum(anchors)], device=self._device)
        trained_n, trained_tokens, anchor_n, anchor_tokens = self._accelerator.reduce(counts, reduction="sum").tolist()
        if trained_n + anchor_n == 0:
            raise UserError("an update has no samples: lower update.minibatches or raise games_per_step")
        on_trained = token_weights(scored.lengths, trained_n, trained_tokens, update.average)
        on_anchors = token_weights(scored.lengths, anchor_n, anchor_tokens, update.average)
        policy = torch.where(scored.anchor, 0.0, on_trained)
        kl = torch.where(scored.anchor, self._config.credit.anchor * on_anchors, update.kl * on_trained)
        return policy, kl

    def _compare(self, differences: torch.Tensor) -> None:
        """Refuse to train when sampler and trainer are not the same distribution. All processes take part."""
        # what is not finite has its update skipped, which is another matter
        differences = differences[differences.isfinite()]
        sums = torch.stack([differences.sum(), torch.tensor(len(differences), device=self._device)])
        total, count = self._accelerator.reduce(sums, reduction="sum").tolist()
        bound = self._config.update.max_sampler_difference
        if not total <= bound * count:
            raise UserError(
                f"log-probs of sampler and trainer differ by {total / count:.4g} on average, more than "
                f"update.max_sampler_difference={bound}: what would be trained is not what was sampled. Check that the "
                "engine has the newest weights and the same dtype, temperature and forbidden ids"
            )

    def _culprits(
        self,
        scored: Scored,
        trees: Sequence[Tree],
        pictures: Mapping[str, Picture],
        weights: tuple[torch.Tensor, torch.Tensor],
        filler: MicroBatch | None,
    ) -> list[int]:
        """Samples of this process whose micro-batches, computed again one by one, have a non-finite gradient.

        Where gradients are summed in every backward, those beside whom another process had one are among them.
        """
        bad: list[int] = []
        for batch, _ in self._rounds(scored, trees):
            self._parallel.clear()
            loss = self._forward(scored, batch, pictures, weights)[0].loss if batch else self._nothing(filler, pictures)
            self._parallel.backward(loss, last=True)
            if not self._parallel.finite() and batch:
                bad += batch.samples
        self._parallel.clear()
        return bad

    def _memory(self, what: str, batch: MicroBatch) -> AbstractContextManager[None]:
        rows, tokens = batch.ids.shape
        limit, checkpointing = self._config.update.tokens_per_batch, self._config.model.gradient_checkpointing
        also = "" if checkpointing else ", or set model.gradient_checkpointing=true"
        return memory_for(
            f"{what} at step {self.steps}, on a micro-batch of {rows} x {tokens} tokens ({len(batch.samples)} samples)",
            f"lower update.tokens_per_batch (it is {limit}){also}",
        )
