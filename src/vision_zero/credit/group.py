"""Group-relative advantages: how much better a sample did than the others of its group (paper eq. 5)."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, pstdev

EPSILON = 1e-8


def is_flat(rewards: Sequence[float]) -> bool:
    """True if the group has nothing to compare: deviation or range at most 1e-8, as for a group of one."""
    return max(rewards) - min(rewards) <= EPSILON or pstdev(rewards) <= EPSILON


def normalise(rewards: Sequence[float], divide_by_std: bool) -> list[float]:
    """`(r - mean) / (population std + 1e-8)`, or `r - mean`; all zeros for a flat group.

    Dividing makes the best answer of a hopeless group look as good as the best of a good one: where
    nobody is right, abstaining gets the full advantage, and small models slide into abstaining.

    Example: `normalise([1, 1, 1, -0.5], True)` is about `[0.577, 0.577, 0.577, -1.732]`.
    """
    if is_flat(rewards):
        return [0.0] * len(rewards)
    mean = fmean(rewards)
    scale = pstdev(rewards, mean) + EPSILON if divide_by_std else 1.0
    return [(r - mean) / scale for r in rewards]
