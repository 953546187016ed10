"""The engine that runs everywhere: Transformers' own forward with a key-value cache.

A decode loop of its own instead of `generate`: position ids are explicit (M-RoPE needs no state hidden in
the model), nothing is read twice, every completion draws from its own stream of random numbers, and the
log-prob of a drawn id is taken from the very distribution it was drawn from.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vision_zero.config import RolloutConfig
from vision_zero.models.base import VLM
from vision_zero.models.memory import memory_for
from vision_zero.models.tree_attention import most_branches
from vision_zero.rollouts.columns import Columns, layers_of
from vision_zero.rollouts.engine import Completion, Request, check
from vision_zero.rollouts.reading import read
from vision_zero.rollouts.rows import Branches, Rows
from vision_zero.rollouts.sampling import draw, uniforms
from vision_zero.rollouts.trunks import Trunks
from vision_zero.types import Prompt, StopReason

READ_TOKENS = 16384


@dataclass
class _Draft:
    """A completion in the making. `stop` is None while it runs."""

    request: Request
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    stop: StopReason | None = None


class HfEngine:
    """Samples completions with a `VLM`.

    `batch_size`: most completions at once. `trunk_bytes`: most memory for keys and values of prompts that were
    read, kept from one `generate` to the next inside `fixed_weights`. `read_tokens`: most tokens of prompts in
    one forward, but for a prompt that is longer alone. All change speed and memory, not results. Raises
    `UserError` for a model with layers that do not attend to everything.
    """

    def __init__(self, vlm: VLM, batch_size: int, trunk_bytes: int = 0, read_tokens: int = READ_TOKENS) -> None:
        self._vlm, self._batch_size, self._trunk_bytes = vlm, batch_size, trunk_bytes
        self._read_tokens = read_tokens
        self._layers = layers_of(vlm.network.config)
        self._trunks: Trunks | None = None

    @classmethod
    def of(cls, vlm: VLM, config: RolloutConfig) -> HfEngine:
        """The engine that a recipe describes."""
        return cls(vlm, config.batch_size, int(config.trunk_cache_gib * 2**30), config.tokens_per_read)

    @contextmanager
    def fixed_weights(self) -> Iterator[None]:
        """Inside, the weights do not change, so that prompts that continue earlier ones need not be read from
        their beginning. Nothing is kept before or after."""
        if self._trunks is not None:
            raise RuntimeError("fixed_weights does not nest")
        self._trunks = Trunks(self._trunk_bytes) if self._trunk_bytes else None
        try:
            yield
        finally:
            self._trunks = None

    def weights_changed(self) -> None:
        """Nothing to do: the weights that are trained are those that play."""

    def figures(self) -> dict[str, float]:
        """None."""
        return {}

    def close(self) -> None:
        """Nothing is held."""

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion per request, in order.

        Raises `ValueError` if a prompt and its pictures do not match, `UserError` if a prompt and its token
        budget do not fit the model: nothing is ever cut off.
        """
        for request in requests:
            check(request, self._vlm.context)
        # Prompts of like length together, equal prompts side by side.
        order = sorted(range(len(requests)), key=lambda i: (len(requests[i].prompt.ids), requests[i].prompt.ids, i))
        done: dict[int, Completion] = {}
        with self._vlm.evaluating():
            for start in range(0, len(order), self._batch_size):
                batch = order[start : start + self._batch_size]
                with self._memory([requests[i] for i in batch]):
                    done.update(zip(batch, self._complete([requests[i] for i in batch]), strict=True))
        return [done[i] for i in range(len(requests))]

    def _memory(self, requests: Sequence[Request]) -> AbstractContextManager[None]:
        longest = max(len(r.prompt.ids) for r in requests)
        budget = max(r.max_new_tokens for r in requests)
        return memory_for(
            f"play, on {len(requests)} completions of prompts of up to {longest} tokens and {budget} new ones",
            f"lower rollouts.batch_size (it is {self._batch_size}), rollouts.tokens_per_read (it is "
            f"{self._read_tokens}) or rollouts.trunk_cache_gib (it is {self._trunk_bytes / 2**30:g})",
        )

    def _complete(self, requests: Sequence[Request]) -> list[Completion]:
        vlm = self._vlm
        drafts = [_Draft(r) for r in requests]
        budget = max(r.max_new_tokens for r in requests)
        rows = self._start(requests, budget)
        numbers = uniforms([r.seed for r in requests], budget).to(vlm.device)
        temperatures = torch.tensor([r.temperature for r in requests], device=vlm.device)
        for step in range(budget):
            drawn = self._draw(drafts, rows, numbers[:, step], temperatures)
            if not drawn:
                break
            ids = torch.tensor(rows.grow(drawn), device=vlm.device)[:, None]
            rows.hidden = vlm.forward_hidden(ids, rows.mask(), rows.positions_at(step), (), rows.cache)[:, 0]
        return [Completion(tuple(d.ids), tuple(d.logprobs), d.stop) for d in drafts if d.stop is not None]

    def _start(self, requests: Sequence[Request], budget: int) -> Rows | Branches:
        """A row for every distinct prompt; for every request if the model takes no branches. See `most_branches`."""
        vlm = self._vlm
        asked = Counter(r.prompt for r in requests)
        longest = max(len(prompt.ids) for prompt in asked)
        most = most_branches(list(asked.values()), longest, budget) if vlm.branches else 1
        drafts: dict[tuple[Prompt, int], list[int]] = defaultdict(list)
        for i, request in enumerate(requests):
            asked[request.prompt] -= 1
            drafts[request.prompt, asked[request.prompt] // most].append(i)
        prompts = {r.prompt: r.pictures for r in requests}
        done = read(vlm, self._layers, prompts, budget, self._trunks, self._read_tokens)
        texts = [done[prompt] for prompt, _ in drafts]
        capacity = longest + budget * most
        cache = Columns(self._layers, capacity)
        cache.load([r.columns for r in texts], longest)
        seen = torch.zeros(len(texts), capacity if vlm.branches else longest, dtype=torch.bool)
        for i, (prompt, _) in enumerate(drafts):
            seen[i, longest - len(prompt.ids) : longest] = True
        positions = torch.stack([r.positions[:, -budget:] for r in texts], dim=1)
        hidden = torch.stack([r.hidden for r in texts])
        make = Branches if vlm.branches else Rows
        return make(list(drafts.values()), cache, hidden, seen.to(vlm.device), positions.to(vlm.device))

    def _draw(
        self, drafts: Sequence[_Draft], rows: Rows | Branches, numbers: Tensor, temperatures: Tensor
    ) -> list[tuple[int, int]]:
        """Add one id to every running draft; returns (draft, id) of those that go on."""
        vlm = self._vlm
        running = [(row, i) for row, running in enumerate(rows.drafts) for i in running]
        at, who = torch.tensor(running, device=vlm.device).unbind(1)
        temperature = temperatures[who]
        divisor = torch.where(temperature == 0, 1.0, temperature)[:, None]
        logits = vlm.mask_forbidden(vlm.logits(rows.hidden)[at].float() / divisor)
        ids, logprobs = draw(logits, temperature == 0, numbers[who])
        going_on = []
        for (_, i), token, logprob in zip(running, ids.tolist(), logprobs.tolist(), strict=True):
            draft = drafts[i]
            draft.ids.append(token)
            draft.logprobs.append(logprob)
            if token in vlm.end_ids:
                draft.stop = StopReason.END_OF_TURN
            elif len(draft.ids) == draft.request.max_new_tokens:
                draft.stop = StopReason.LENGTH
            else:
                going_on.append((i, token))
        return going_on
