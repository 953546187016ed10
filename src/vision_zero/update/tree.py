"""Samples of a game as trees: every shared prefix is computed once.

All turns and votes of a game that look at the same pictures begin with the same tokens. They are stored as
one sequence, the depth-first order of their trie: the trunk once, each private tail and completion as a
branch. A token attends to its ancestors only and keeps the position it has in its own sample, so that
hidden states, log-probs and gradients equal those of the samples computed apart.

In depth-first order the descendants of node j are exactly the nodes j+1 ... end[j]-1. Ancestry is therefore
two comparisons, and N integers say who attends to whom (`models/tree_attention.py`). Several trees in one row are
kept apart by the same rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from vision_zero.errors import UserError
from vision_zero.models.tree_attention import TreeMask, tree_mask
from vision_zero.types import Prompt, Sample

Ints = npt.NDArray[np.int64]
Positions = Callable[[Prompt, int], torch.Tensor]
"""(prompt, completion length) -> position ids (A, L) of prompt and completion, A = 3 for M-RoPE, else 1."""


@dataclass(frozen=True, eq=False)
class Tree:
    """One packed sequence of N nodes in depth-first order.

    `ids` (N,), `positions` (A, N); `end` (N,): one past the last descendant of each node; `pictures`: hashes
    in the order in which their placeholders stand in `ids` (twice if two branches show the same one);
    `samples` (S,): indices of the samples it holds; `predictors`: for each of them the nodes (C,) whose
    logits predict its C sampled tokens; `unpacked`: how many tokens the samples have when stored apart.
    """

    ids: Ints
    positions: Ints
    end: Ints
    pictures: tuple[str, ...]
    samples: tuple[int, ...]
    predictors: tuple[Ints, ...]
    unpacked: int

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class MicroBatch:
    """B rows of at most N nodes that go through the model together: one row of whole trees, or a sample in each.

    `ids` (B, N), padded on the right, `positions` (A, B, N) as in `Tree`; `mask`: who attends to whom, or (B, N), True
    at real nodes, if each row is one sequence: causal order is all there is to say then, and kernels that take no
    other mask can run; `pictures`: hashes in the order of their placeholders; `rows`, `columns` (U,): the nodes whose
    logits are needed. The T sampled tokens, ordered by node: `node` (T,) is an index into those U, `targets` (T,) the
    sampled ids and `tokens` (T,) their places in the concatenation of all samples' completions.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor | TreeMask
    pictures: tuple[str, ...]
    rows: torch.Tensor
    columns: torch.Tensor
    node: torch.Tensor
    targets: torch.Tensor
    tokens: torch.Tensor
    samples: tuple[int, ...]

    def to(self, device: torch.device) -> MicroBatch:
        """The same batch with its tensors on `device`."""
        movable = {k: v for k, v in vars(self).items() if isinstance(v, torch.Tensor | TreeMask)}
        moved: dict[str, Any] = {k: v.to(device) for k, v in movable.items()}
        return replace(self, **moved)


def build_trees(
    samples: Sequence[Sample],
    positions: Positions,
    placeholders: Sequence[int],
    limit: int,
    pack: Literal["tree", "none"] = "tree",
) -> list[Tree]:
    """Pack the samples of each episode that look at the same pictures into trees of at most `limit` nodes.

    Samples with equal picture tuples have equal pictures behind equal prefixes, so that equality of ids and
    positions is equality of the computation; samples with other pictures are never merged. `placeholders` are
    the ids behind which picture features stand. A tree over the limit is cut between samples. `pack="none"`
    stores every sample apart. The order of `samples` does not change the trees.

    Raises `UserError` if one sample alone exceeds `limit`, `ValueError` for a sample without sampled tokens.
    """
    groups: dict[tuple[object, ...], list[int]] = {}
    for i, s in enumerate(samples):
        if not s.ids:
            raise ValueError(f"sample {name(s)} has no sampled tokens")
        key = (s.episode, s.prompt.pictures) if pack == "tree" else (i,)
        groups.setdefault(key, []).append(i)
    known: dict[tuple[Prompt, int], Ints] = {}
    trees: list[Tree] = []
    for members in groups.values():
        sequences = []
        for i in members:
            s = samples[i]
            asked = (s.prompt, len(s.ids))
            if asked not in known:
                known[asked] = positions(*asked).cpu().numpy().astype(np.int64)
            # The last sampled token predicts nothing: it is a target and never an input.
            ids = np.array((*s.prompt.ids, *s.ids[:-1]), dtype=np.int64)
            sequences.append(np.concatenate([ids[:, None], known[asked][:, : len(ids)].T], axis=1))
            if len(ids) > limit:
                raise UserError(
                    f"sample {name(s)} has {len(ids)} tokens, more than update.tokens_per_batch={limit}: "
                    "raise it, or shorten prompts (model.max_pixels, game.rounds, game.max_clue_tokens)"
                )
        trees += _pack(samples, members, sequences, placeholders, limit)
    return trees


def _pack(
    samples: Sequence[Sample],
    members: Sequence[int],
    sequences: Sequence[Ints],
    placeholders: Sequence[int],
    limit: int,
) -> list[Tree]:
    """Trees over `sequences`, rows of (id, positions...). Sorted sequences share most with their neighbour."""
    order = sorted(range(len(members)), key=lambda k: (sequences[k].tobytes(), samples[members[k]].ids[-1], members[k]))
    trees: list[Tree] = []
    trunk = _Growing()
    for k in order:
        sample = samples[members[k]]
        pictures = np.flatnonzero(np.isin(sequences[k][:, 0], placeholders))
        shared = trunk.shares(sequences[k])
        if len(pictures) and pictures[0] < shared <= pictures[-1]:
            shared = int(pictures[0])  # pictures are shared all or none
        if trunk.size + len(sequences[k]) - shared > limit:
            trees.append(trunk.finish())
            trunk, shared = _Growing(), 0
        fresh = not len(pictures) or shared <= pictures[0]
        trunk.add(sequences[k], shared, members[k], len(sample.ids), sample.prompt.pictures if fresh else ())
    trees.append(trunk.finish())
    return trees


class _Growing:
    """A tree under construction; leaves arrive in sorted order."""

    def __init__(self) -> None:
        self.size = 0
        self._nodes: list[Ints] = []
        self._closed: list[tuple[Ints, int]] = []
        self._last: Ints = np.empty((0, 0), np.int64)
        self._path: Ints = np.empty(0, np.int64)
        self._pictures: list[str] = []
        self._samples: list[int] = []
        self._predictors: list[Ints] = []
        self._unpacked = 0

    def shares(self, sequence: Ints) -> int:
        """Length of the prefix that `sequence` shares with the leaf added last."""
        n = min(len(sequence), len(self._last))
        if n == 0:
            return 0
        differs = (sequence[:n] != self._last[:n]).any(axis=1)
        return int(differs.argmax()) if differs.any() else n

    def add(self, sequence: Ints, shared: int, sample: int, completion: int, pictures: Sequence[str]) -> None:
        self._closed.append((self._path[shared:], self.size))
        self._nodes.append(sequence[shared:])
        new = np.arange(self.size, self.size + len(sequence) - shared)
        self._path = np.concatenate([self._path[:shared], new])
        self.size += len(new)
        self._last = sequence
        self._pictures += pictures
        self._samples.append(sample)
        self._predictors.append(self._path[len(sequence) - completion :])
        self._unpacked += len(sequence)

    def finish(self) -> Tree:
        nodes = np.concatenate(self._nodes)
        end = np.full(self.size, self.size, np.int64)
        for path, at in self._closed:
            end[path] = at
        return Tree(
            ids=nodes[:, 0],
            positions=np.ascontiguousarray(nodes[:, 1:].T),
            end=end,
            pictures=tuple(self._pictures),
            samples=tuple(self._samples),
            predictors=tuple(self._predictors),
            unpacked=self._unpacked,
        )


def plan(
    trees: Sequence[Tree], tokens_per_batch: int, pack: Literal["tree", "none"] = "tree"
) -> list[list[list[Tree]]]:
    """Batches of rows of trees, of at most `tokens_per_batch` tokens with padding. Longest first.

    Trees stand in one row, without padding: each goes to the first batch that has room. With `pack="none"` a row
    is one tree.
    """
    batches: list[list[list[Tree]]] = []
    for tree in sorted(trees, key=len, reverse=True):
        if pack == "none":
            if not batches or (len(batches[-1]) + 1) * len(batches[-1][0][0]) > tokens_per_batch:
                batches.append([])
            batches[-1].append([tree])
        else:
            full = (b for b in batches if sum(map(len, b[0])) + len(tree) <= tokens_per_batch)
            place = next(full, None)
            if place is None:
                batches.append([[tree]])
            else:
                place[0].append(tree)
    return batches


def collate(
    rows: Sequence[Sequence[Tree]], samples: Sequence[Sample], offsets: Sequence[int], pad_id: int
) -> MicroBatch:
    """Rows of trees as one padded batch. `offsets[i]`: where sample i starts in the concatenation of completions."""
    trees = [t for row in rows for t in row]
    lengths = [sum(map(len, row)) for row in rows]
    width = max(lengths)
    ids = np.full((len(rows), width), pad_id, np.int64)
    positions = np.zeros((trees[0].positions.shape[0], len(rows), width), np.int64)
    end = np.tile(np.arange(1, width + 1), (len(rows), 1))
    nodes: list[Ints] = []
    targets: list[Ints] = []
    tokens: list[Ints] = []
    for r, row in enumerate(rows):
        start = 0
        for tree in row:
            place = slice(start, start + len(tree))
            ids[r, place], positions[:, r, place], end[r, place] = tree.ids, tree.positions, tree.end + start
            for i, predictors in zip(tree.samples, tree.predictors, strict=True):
                nodes.append(r * width + start + predictors)
                targets.append(np.array(samples[i].ids, np.int64))
                tokens.append(np.arange(offsets[i], offsets[i] + len(predictors)))
            start += len(tree)
    flat = np.concatenate(nodes)
    by_node = np.argsort(flat, kind="stable")
    unique, node = np.unique(flat[by_node], return_inverse=True)
    branched = len(trees) > len(rows) or any(bool((t.end < len(t)).any()) for t in trees)
    return MicroBatch(
        ids=torch.from_numpy(ids),
        positions=torch.from_numpy(positions),
        mask=tree_mask(end) if branched else torch.arange(width) < torch.tensor(lengths)[:, None],
        pictures=tuple(p for t in trees for p in t.pictures),
        rows=torch.from_numpy(unique // width),
        columns=torch.from_numpy(unique % width),
        node=torch.from_numpy(node),
        targets=torch.from_numpy(np.concatenate(targets)[by_node]),
        tokens=torch.from_numpy(np.concatenate(tokens)[by_node]),
        samples=tuple(i for t in trees for i in t.samples),
    )


def name(sample: Sample) -> str:
    """How messages call a sample, e.g. `000012-0007 turn 3 (clue/spy)`."""
    return f"{sample.episode} turn {sample.turn} ({sample.label})"
