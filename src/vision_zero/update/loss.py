"""The objective, on flat lists of tokens. Knows no model, no batch and no device.

A step's sampled tokens are one list of T entries, however they were packed. What a token counts for is a
weight that already contains the global number of sequences or tokens of the optimizer step, so that the sum
of the losses of all micro-batches on all processes is the loss of the step: neither accumulation nor the
number of processes changes the gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch


@dataclass(frozen=True)
class Terms:
    """`loss` (): to be minimised, differentiable. Per token (T,), detached: the ratio, whether it was
    clipped away, the weight that corrects for the sampler and whether it was cut to its cap, and the `kl`
    estimate, None without a reference."""

    loss: torch.Tensor
    ratio: torch.Tensor
    clipped: torch.Tensor
    importance: torch.Tensor
    truncated: torch.Tensor
    kl: torch.Tensor | None


def token_weights(
    lengths: torch.Tensor, sequences: int, tokens: int, average: Literal["sequence", "token"]
) -> torch.Tensor:
    """Weight (T,) of each token in the mean of a step.

    `lengths` (T,): number of sampled tokens of the sequence that the token belongs to; `sequences`, `tokens`:
    how many there are in the whole step, on all processes. `sequence`: mean over the tokens of a sequence,
    then over sequences; `token`: one mean over all tokens.
    """
    if average == "token":
        return torch.full(lengths.shape, 1.0 / max(tokens, 1), device=lengths.device)
    return 1.0 / (lengths * max(sequences, 1)).to(torch.float32)


def k3(logprobs: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Estimate of KL(policy || reference) from samples of the policy, never negative: exp(d) - d - 1 with
    d = reference - log-prob (the loss that the published code executes). Shapes (T,)."""
    d = reference - logprobs
    return torch.exp(d) - d - 1


def importance(old: torch.Tensor, sampling: torch.Tensor, cap: float | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight (T,) of each token for having been drawn by an engine whose probabilities are not quite the trainer's,
    min(exp(old - sampling), cap), and where it was cut to `cap` (truncated importance sampling, Ionides 2008).

    No gradient. `cap` None: no correction, all ones.
    """
    if cap is None:
        return torch.ones_like(old), torch.zeros_like(old, dtype=torch.bool)
    weight = torch.exp(old.detach() - sampling)
    return weight.clamp(max=cap), weight > cap


def objective(
    logprobs: torch.Tensor,
    old: torch.Tensor,
    sampling: torch.Tensor,
    reference: torch.Tensor | None,
    advantages: torch.Tensor,
    policy_weights: torch.Tensor,
    kl_weights: torch.Tensor,
    clip_low: float,
    clip_high: float,
    importance_cap: float | None,
) -> Terms:
    """Clipped policy gradient plus KL to the reference. All tensors (T,); only `logprobs` carries a gradient.

    loss = sum policy_weights * -w min(r A, clip(r, 1 - low, 1 + high) A) + sum kl_weights * k3, with
    r = exp(logprobs - old) and w the `importance` of a token that was drawn with log-prob `sampling`. An anchor
    has policy weight 0: it is only pulled towards the reference.
    """
    ratio = torch.exp(logprobs - old)
    gain = torch.minimum(ratio * advantages, ratio.clamp(1 - clip_low, 1 + clip_high) * advantages)
    correction, truncated = importance(old, sampling, importance_cap)
    shares = -policy_weights * correction * gain
    kl = None
    if reference is not None:
        divergence = k3(logprobs, reference)
        shares = shares + kl_weights * divergence
        kl = divergence.detach()
    r = ratio.detach()
    clipped = ((r > 1 + clip_high) & (advantages > 0)) | ((r < 1 - clip_low) & (advantages < 0))
    return Terms(shares.sum(), r, clipped, correction, truncated, kl)
