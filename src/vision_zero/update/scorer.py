"""Micro-batch to log-probs: the one way through the model for everything that trains or is compared."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.utils.checkpoint import checkpoint

from vision_zero.models.base import VLM
from vision_zero.types import Picture
from vision_zero.update.tree import MicroBatch

MAX_LOGITS = 2**27
"""Most logits held at once (0.5 GiB in float32). Beyond, the head runs in pieces and again in the backward."""


class Scorer(torch.nn.Module):
    """Log-probs of sampled tokens under a model, at the temperature they were sampled with.

    A module around the model, so that every gradient passes through its `forward` and whatever wraps modules
    (DDP, compilation) can wrap it.
    """

    def __init__(self, vlm: VLM, temperature: float) -> None:
        super().__init__()
        self.model = vlm.model
        self.vlm = vlm
        self.temperature = temperature
        self._vocabulary: int = vlm.network.get_output_embeddings().weight.shape[0]

    def forward(self, batch: MicroBatch, pictures: Mapping[str, Picture]) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probs (T,) of `batch.targets` and, without gradient, entropies (T,) of the distributions they
        were drawn from, both float32 and in the order of `batch.tokens`."""
        shown = [pictures[sha] for sha in batch.pictures]
        hidden = self.vlm.forward_hidden(batch.ids, batch.mask, batch.positions, shown)
        wanted = hidden[batch.rows, batch.columns]
        size = max(1, MAX_LOGITS // self._vocabulary)
        if len(wanted) <= size:
            return self._read(wanted, batch.node, batch.targets)
        logprobs, entropies = [], []
        for start in range(0, len(wanted), size):
            # Tokens are ordered by node: those of a piece of nodes are a slice.
            bounds = torch.tensor([start, start + size], device=batch.node.device)
            a, b = torch.searchsorted(batch.node, bounds).tolist()
            piece = (wanted[start : start + size], batch.node[a:b] - start, batch.targets[a:b])
            lp, entropy = checkpoint(self._read, *piece, use_reentrant=False)
            logprobs.append(lp)
            entropies.append(entropy)
        return torch.cat(logprobs), torch.cat(entropies)

    def _read(
        self, hidden: torch.Tensor, node: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logits = self.vlm.mask_forbidden(self.vlm.logits(hidden).float() / self.temperature)
        normaliser = torch.logsumexp(logits, dim=-1)
        with torch.no_grad():
            entropy = torch.special.entr(torch.exp(logits - normaliser[:, None])).sum(-1)
        return logits[node, targets] - normaliser[node], entropy[node]
