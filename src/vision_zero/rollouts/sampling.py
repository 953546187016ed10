"""Drawing tokens so that a row's draw depends on nothing but its own seed and logits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def uniforms(seeds: Sequence[int], length: int) -> Tensor:
    """(rows, length) numbers in [0, 1), float64. Number t of a row depends only on the row's seed and t."""
    rows = [np.random.Generator(np.random.Philox(key=seed)).random(length) for seed in seeds]
    return torch.from_numpy(np.stack(rows))


def draw(logits: Tensor, greedy: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """One id a row, and its log-probability under the distribution that it was drawn from.

    `logits` (rows, V) are already divided by the temperature, with forbidden ids masked; `uniform` (rows,) is
    in [0, 1). `greedy` (rows,) bool: such rows take the likeliest id, which then has probability 1.

    Inverse CDF in float64: in float32 the sum over a vocabulary of 150,000 would distort rare tokens.
    """
    logprobs = torch.log_softmax(logits, dim=-1)
    cdf = logprobs.double().exp().cumsum(-1)
    sampled = torch.searchsorted(cdf, (uniform * cdf[:, -1])[:, None], right=True)[:, 0]
    ids = torch.where(greedy, logprobs.argmax(-1), sampled)
    return ids, logprobs.gather(1, ids[:, None])[:, 0].masked_fill(greedy, 0.0)
