"""The engine that runs everywhere: Transformers' own forward with a key-value cache.

A decode loop of its own instead of `generate`: position ids are explicit (M-RoPE needs no state hidden in
the model), equal prompts are prefilled once, every row draws from its own stream of random numbers, and
the log-prob of a drawn id is taken from the very distribution it was drawn from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import DynamicCache

from vision_zero.errors import UserError
from vision_zero.models.base import VLM
from vision_zero.rollouts.engine import Completion, Request
from vision_zero.rollouts.sampling import draw, uniforms
from vision_zero.types import StopReason

COMPACT_BELOW = 0.75
"""Rows that have ended are taken out of the batch once at most this share of it is still running."""


@dataclass
class _Row:
    """A completion in the making. `stop` is None while it runs."""

    request: Request
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    stop: StopReason | None = None


@dataclass
class _State:
    """What the decode loop knows of the n rows in the batch; S is padded prompt plus the longest budget."""

    cache: DynamicCache
    hidden: Tensor
    """(n, H), from which the next id is drawn."""
    seen: Tensor
    """(n, S), 0 at padding."""
    positions: Tensor
    """(A, n, S)."""
    numbers: Tensor
    """(n, longest budget), uniform."""
    temperatures: Tensor
    """(n,)."""

    def keep(self, rows: Tensor) -> _State:
        """The state of some of the rows, also of one row several times."""
        self.cache.batch_select_indices(rows)
        return _State(
            self.cache,
            self.hidden[rows],
            self.seen[rows],
            self.positions[:, rows],
            self.numbers[rows],
            self.temperatures[rows],
        )


class HfEngine:
    """Samples completions with a `VLM`. `batch_size`: most completions at once; it changes speed, not results."""

    def __init__(self, vlm: VLM, batch_size: int) -> None:
        self._vlm, self._batch_size = vlm, batch_size

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion per request, in order.

        Raises `ValueError` if a prompt and its pictures do not match, `UserError` if a prompt and its token
        budget do not fit the model: nothing is ever cut off.
        """
        for request in requests:
            self._check(request)
        # Prompts of like length together, equal prompts side by side.
        order = sorted(range(len(requests)), key=lambda i: (len(requests[i].prompt.ids), requests[i].prompt.ids, i))
        done: dict[int, Completion] = {}
        with self._vlm.evaluating():
            for start in range(0, len(order), self._batch_size):
                batch = order[start : start + self._batch_size]
                done.update(zip(batch, self._complete([requests[i] for i in batch]), strict=True))
        return [done[i] for i in range(len(requests))]

    def _check(self, request: Request) -> None:
        given = tuple(p.sha for p in request.pictures)
        if given != request.prompt.pictures:
            raise ValueError(f"the prompt has the pictures {request.prompt.pictures}, the request brings {given}")
        length = len(request.prompt.ids)
        if length + request.max_new_tokens > self._vlm.context:
            raise UserError(
                f"a prompt of {length} tokens and {request.max_new_tokens} new ones exceed the model's context "
                f"of {self._vlm.context}: lower game.rounds, game.max_*_tokens or model.max_pixels"
            )

    def _complete(self, requests: Sequence[Request]) -> list[Completion]:
        rows = [_Row(r) for r in requests]
        state, start = self._prefill(requests)
        running = rows
        for column in range(start, state.seen.shape[1]):
            self._draw(running, state, column - start)
            alive = [i for i, row in enumerate(running) if row.stop is None]
            if not alive:
                break
            if len(alive) <= COMPACT_BELOW * len(running):
                state = state.keep(torch.tensor(alive, device=self._vlm.device))
                running = [running[i] for i in alive]
            last = torch.tensor([[row.ids[-1]] for row in running], device=self._vlm.device)
            state.hidden = self._vlm.forward_hidden(
                last, state.seen[:, : column + 1], state.positions[:, :, column : column + 1], (), state.cache
            )[:, 0]
        return [Completion(tuple(row.ids), tuple(row.logprobs), row.stop) for row in rows if row.stop is not None]

    def _prefill(self, requests: Sequence[Request]) -> tuple[_State, int]:
        """Run every distinct prompt once, then give each request a row. Returns the length of the padded prompts."""
        vlm = self._vlm
        distinct = {r.prompt: r.pictures for r in requests}
        longest, budget = max(len(p.ids) for p in distinct), max(r.max_new_tokens for r in requests)
        ids = torch.full((len(distinct), longest), vlm.pad_id)
        seen = torch.zeros(len(distinct), longest + budget, dtype=torch.long)
        positions = torch.zeros(vlm.family.position_axes, len(distinct), longest + budget, dtype=torch.long)
        for i, prompt in enumerate(distinct):
            left = longest - len(prompt.ids)
            ids[i, left:] = torch.tensor(prompt.ids)
            seen[i, left:] = 1
            positions[:, i, left:] = vlm.positions(prompt, budget)
        ids, seen, positions = (t.to(vlm.device) for t in (ids, seen, positions))
        cache = DynamicCache(config=vlm.network.config.get_text_config())
        pictures = [p for of_prompt in distinct.values() for p in of_prompt]
        hidden = vlm.forward_hidden(ids, seen[:, :longest], positions[:, :, :longest], pictures, cache)[:, -1]

        index = {prompt: i for i, prompt in enumerate(distinct)}
        rows = torch.tensor([index[r.prompt] for r in requests], device=vlm.device)
        cache.batch_select_indices(rows)
        numbers = uniforms([r.seed for r in requests], budget).to(vlm.device)
        temperatures = torch.tensor([r.temperature for r in requests], device=vlm.device)
        return _State(cache, hidden[rows], seen[rows], positions[:, rows], numbers, temperatures), longest

    def _draw(self, rows: Sequence[_Row], state: _State, step: int) -> None:
        """Add one id to every running row."""
        vlm = self._vlm
        divisor = torch.where(state.temperatures == 0, 1.0, state.temperatures)[:, None]
        logits = vlm.mask_forbidden(vlm.logits(state.hidden).float() / divisor)
        ids, logprobs = draw(logits, state.temperatures == 0, state.numbers[:, step])
        for row, token, logprob in zip(rows, ids.tolist(), logprobs.tolist(), strict=True):
            if row.stop is not None:
                continue
            row.ids.append(token)
            row.logprobs.append(logprob)
            if token in vlm.end_ids:
                row.stop = StopReason.END_OF_TURN
            elif len(row.ids) == row.request.max_new_tokens:
                row.stop = StopReason.LENGTH
