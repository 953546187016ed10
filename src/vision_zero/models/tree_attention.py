"""Attention by ancestry at the cost of the ancestors: a block of queries meets its own keys and those above it.

A mask over all pairs would have a game's branches score each other only to throw the scores away; with short rows of a
small model that is most of an update. Here the nodes of all rows are cut into blocks of equal size. In depth-first
order the nodes above a block are those before it whose subtree reaches into it, so that the keys of a block are few
whatever the width of the row. Transformers calls `attention` in place of its sdpa, which it is if no tree is given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.cache_utils import get_layer_types_and_kwargs
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "tree_sdpa"
BLOCK = 64
"""Queries of a block. More: fewer, larger products; fewer: less work thrown away where branches are short."""
PARTS = 3
"""Blocks are computed in so many parts, those with few keys together: each part is padded to its own longest."""
ALIGNED = 8
"""Kernels copy masks whose last size is no multiple of this."""
BRANCHES = 8
"""Most drafts of a row: each computes scores for the columns of all, of which it attends to its own."""


@dataclass(frozen=True, eq=False)
class TreeMask:
    """What B rows of N nodes attend to, in n blocks of Q queries with K keys: places in the flattened rows.

    Blocks with few keys come first: `place` (n,) is where each stands in the rows. `keys` (n, K); `allowed` (n, Q, K)
    bool. `parts`: (blocks, keys), so many blocks, the next ones, have at most so many keys.
    """

    place: Tensor
    keys: Tensor
    allowed: Tensor
    parts: tuple[tuple[int, int], ...]

    def to(self, device: torch.device) -> TreeMask:
        """The same on another device."""
        return TreeMask(self.place.to(device), self.keys.to(device), self.allowed.to(device), self.parts)

    def scores(self, groups: int, dtype: torch.dtype) -> Tensor:
        """What is added to the scores of `groups` heads that share keys: (n, 1, groups * Q, K), 0 or -inf.

        Made once for all layers: of a bool mask, sdpa makes and keeps such a tensor in every layer.
        """
        scores = torch.zeros(self.allowed.shape, dtype=dtype, device=self.allowed.device)
        return scores.masked_fill_(~self.allowed, -torch.inf).repeat(1, groups, 1)[:, None]

    def dense(self, nodes: int) -> Tensor:
        """All pairs of `nodes` (all rows' nodes together): (nodes, nodes) bool. For kernels that know no blocks."""
        blocks, length, _ = self.allowed.shape
        pairs = torch.zeros(blocks * length, nodes, dtype=torch.bool, device=self.keys.device)
        query = torch.arange(blocks * length, device=self.keys.device).view(blocks, length, 1)[self.place]
        pairs[query.expand_as(self.allowed)[self.allowed], self.keys[:, None].expand_as(self.allowed)[self.allowed]] = (
            True
        )
        return pairs[:nodes]


@dataclass(frozen=True, eq=False)
class BranchMask:
    """What n queries, one of each branch, attend to in the columns of P rows. At most r branches share a row.

    `place` (n,): where each stands among the P * r; `allowed` (P, r, columns) bool, all False where none stands.
    """

    place: Tensor
    allowed: Tensor

    def scores(self, groups: int, dtype: torch.dtype) -> Tensor:
        """What is added to the scores of `groups` heads that share keys: (P, 1, groups * r, columns), 0 or lowest.

        Made once for all layers.
        """
        scores = torch.zeros(self.allowed.shape, dtype=dtype, device=self.allowed.device)
        # Finite: where no branch stands, an empty softmax would be NaN.
        return scores.masked_fill_(~self.allowed, torch.finfo(dtype).min).repeat(1, groups, 1)[:, None]


def why_apart(implementation: str, text: Any) -> str | None:
    """Why samples cannot be packed as trees, None if they can: `implementation` of attention in a language model with
    the configuration `text`."""
    if implementation == "flash_attention_2":
        return "model.attention=flash_attention_2 takes no mask by ancestry"
    types, _ = get_layer_types_and_kwargs(text)
    if other := sorted(set(types) - {"full_attention"}):
        # Transformers takes a mask over all pairs as it is, and would widen a window in silence.
        return f"the model has {', '.join(other)} layers, and a tree needs layers that attend to everything"
    return None


def most_branches(drafts: Sequence[int], longest: int, budget: int) -> int:
    """How many drafts of a prompt, each of at most `budget` ids, should share a row so that all rows together need the
    fewest columns. `drafts`: those of each prompt. Rows have room for the longest prompt and equally many drafts.
    """
    rows = {most: sum(math.ceil(d / most) for d in drafts) for most in range(1, min(BRANCHES, max(drafts)) + 1)}
    return min(rows, key=lambda most: rows[most] * (longest + most * budget))


def tree_mask(end: npt.NDArray[np.int64]) -> TreeMask:
    """Blocks over rows of trees. `end` (B, N): one past each node's last descendant, within its row."""
    rows, width = end.shape
    size = BLOCK
    last = (end + np.arange(rows)[:, None] * width).reshape(-1)
    total = len(last)
    above = []
    for start in range(0, total, size):
        stop = min(start + size, total)
        above.append(np.concatenate([np.flatnonzero(last[:start] > start), np.arange(start, stop)]))
    place = np.array(sorted(range(len(above)), key=lambda block: len(above[block])))
    parts = [(len(p), _aligned(len(above[p[-1]]))) for p in np.array_split(place, PARTS) if len(p)]
    most = parts[-1][1]
    keys = np.zeros((len(above), most), np.int64)
    real = np.zeros((len(above), most), bool)
    for i, block in enumerate(place):
        keys[i, : len(above[block])], real[i, : len(above[block])] = above[block], True
    query = np.arange(len(above) * size).reshape(len(above), size, 1)[place]
    allowed = (keys[:, None] <= query) & (query < last[keys][:, None]) & real[:, None]
    # Queries past the end see one key: an empty softmax would be NaN, in the backward for everybody.
    allowed[np.argmax(place), total - size * (len(above) - 1) :, 0] = True
    return TreeMask(torch.from_numpy(place), torch.from_numpy(keys), torch.from_numpy(allowed), tuple(parts))


def _aligned(length: int) -> int:
    return length + -length % ALIGNED


def attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    tree: TreeMask | None = None,
    branches: BranchMask | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Transformers' interface: `query` (B, H, N, D), `key` and `value` (B, H / G, N, D) -> (B, N, H, D).

    With a `tree` or `branches`, `attention_mask` is its `scores` for G heads. Branches have one query each, (n, H, 1,
    D), and the keys of their rows, (P, H / G, columns, D).
    """
    rows, heads, width, size = query.shape
    groups = heads // key.shape[1]
    if branches is not None:
        shared, most, _ = branches.allowed.shape
        padded = query.new_zeros(shared * most, heads, size)
        padded[branches.place] = query[:, :, 0]
        # Branches and heads that share keys as queries of one head, so that keys are read once: told to share them
        # among heads itself, torch's kernel reads them for each, in bfloat16 on a CPU at several times the cost.
        queries = padded.view(shared, most, heads // groups, groups, size).permute(0, 2, 3, 1, 4)
        queries = queries.reshape(shared, heads // groups, groups * most, size)
        out = F.scaled_dot_product_attention(queries, key, value, attention_mask, dropout_p=dropout, scale=scaling)
        out = out.view(shared, heads // groups, groups, most, size).permute(0, 3, 1, 2, 4)
        return out.reshape(shared * most, 1, heads, size)[branches.place], None
    if tree is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)
    assert attention_mask is not None
    blocks, length, _ = tree.allowed.shape
    flat = query.transpose(1, 2).reshape(rows * width, heads * size)
    flat = F.pad(flat, (0, 0, 0, blocks * length - rows * width))
    # Heads that share keys stand side by side as more queries: keys need no copy for each.
    queries = flat.view(blocks, length, heads // groups, groups, size)[tree.place].permute(0, 2, 3, 1, 4)
    queries = queries.reshape(blocks, heads // groups, groups * length, size)
    keys, values = (states.transpose(1, 2).reshape(rows * width, -1) for states in (key, value))

    def gathered(nodes: Tensor, places: Tensor) -> Tensor:
        return nodes.index_select(0, places.reshape(-1)).view(*places.shape, -1, size).transpose(1, 2)

    outs, start = [], 0
    for count, most in tree.parts:
        part = slice(start, start + count)
        places = tree.keys[part, :most]
        scores = attention_mask[part, ..., :most]
        given = queries[part], gathered(keys, places), gathered(values, places), scores
        outs.append(F.scaled_dot_product_attention(*given, dropout_p=dropout, scale=scaling))
        start += count
    out = torch.cat(outs)[torch.argsort(tree.place)]
    out = out.view(blocks, heads // groups, groups, length, size).permute(0, 3, 1, 2, 4)
    return out.reshape(blocks * length, heads, size)[: rows * width].view(rows, width, heads, size), None


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
