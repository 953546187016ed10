"""Blocks say the same as ancestry, whatever their size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vision_zero.models import tree_attention
from vision_zero.models.tree_attention import BranchMask, attention, tree_mask


@st.composite
def forests(draw: st.DrawFn) -> np.ndarray:
    """`end` (1, N) of trees in depth-first order: each node hangs below the one before it or one of its ancestors."""
    path: list[int] = []
    above: list[tuple[int, ...]] = []
    for node in range(draw(st.integers(1, 40))):
        path = [*path[: draw(st.integers(0, len(path)))], node]
        above.append(tuple(path))
    return np.array([[max(i for i, p in enumerate(above) if node in p) + 1 for node in range(len(above))]])


def ancestry(end: np.ndarray) -> torch.Tensor:
    node = np.arange(end.shape[1])
    return torch.from_numpy((node <= node[:, None]) & (node[:, None] < end[0]))


@given(forests(), st.integers(1, 50))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_blocks_hold_every_ancestor_and_nobody_else(end: np.ndarray, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tree_attention, "BLOCK", size)
        mask = tree_mask(end)
    assert mask.dense(end.shape[1]).tolist() == ancestry(end).tolist()
    assert mask.allowed.any(-1).all(), "a query without a key is NaN"


@given(forests(), st.sampled_from([3, 8, 64]), st.sampled_from([(4, 4), (6, 2), (4, 1)]))
@settings(max_examples=25, deadline=None)
def test_equals_attention_over_all_pairs(end: np.ndarray, size: int, heads: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(end.shape[1])
    query, key, value = (
        torch.randn(1, n, end.shape[1], 8, generator=generator).requires_grad_() for n in (heads[0], heads[1], heads[1])
    )
    groups = heads[0] // heads[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tree_attention, "BLOCK", size)
        mask = tree_mask(end)
    found, _ = attention(torch.nn.Module(), query, key, value, mask.scores(groups, torch.float32), tree=mask)
    repeated = [states.repeat_interleave(groups, 1) for states in (key, value)]
    expected = torch.nn.functional.scaled_dot_product_attention(query, *repeated, attn_mask=ancestry(end))
    torch.testing.assert_close(found, expected.transpose(1, 2))
    weights = torch.randn(found.shape, generator=generator)
    for a, b in zip(
        torch.autograd.grad((found * weights).sum(), (query, key, value)),
        torch.autograd.grad((expected.transpose(1, 2) * weights).sum(), (query, key, value)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("heads", [(4, 4), (6, 2), (4, 1)])
def test_branches_of_a_row_equal_queries_apart(heads: tuple[int, int]) -> None:
    """The way of a decode step: 2, 1 and 3 branches in three rows of 11 columns."""
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(6, heads[0], 1, 8, generator=generator)
    key, value = (torch.randn(3, heads[1], 11, 8, generator=generator) for _ in range(2))
    rows, place = torch.tensor([0, 0, 1, 2, 2, 2]), torch.tensor([0, 1, 3, 6, 7, 8])
    seen = torch.rand(6, 11, generator=generator) > 0.4
    seen[:, 0] = True
    allowed = torch.zeros(9, 11, dtype=torch.bool)
    allowed[place] = seen
    branches = BranchMask(place, allowed.view(3, 3, 11))
    groups = heads[0] // heads[1]
    scores = branches.scores(groups, torch.float32)
    found, _ = attention(torch.nn.Module(), query, key, value, scores, scaling=0.3, branches=branches)
    repeated = [states[rows].repeat_interleave(groups, 1) for states in (key, value)]
    expected = torch.nn.functional.scaled_dot_product_attention(query, *repeated, seen[:, None, None], scale=0.3)
    torch.testing.assert_close(found, expected.transpose(1, 2))
