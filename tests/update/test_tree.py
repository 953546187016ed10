from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vision_zero.errors import UserError
from vision_zero.models.tree_attention import TreeMask
from vision_zero.types import Prompt, Sample
from vision_zero.update.tree import Tree, build_trees, collate, plan

PICTURE = 9


def positions(prompt: Prompt, completion: int) -> torch.Tensor:
    """A stand-in for M-RoPE: three axes, after a picture the count goes on from another number."""
    ids = torch.tensor(prompt.ids + (0,) * completion)
    return torch.stack([torch.arange(len(ids)), (ids == PICTURE).cumsum(0), torch.arange(len(ids)) // 2])


def sample(prompt: tuple[int, ...], ids: tuple[int, ...], pictures: tuple[str, ...] = (), episode: str = "e") -> Sample:
    return Sample(Prompt(prompt, pictures), ids, (-1.0,) * len(ids), 0.5, "clue", episode, 0)


def trees_of(samples: list[Sample], limit: int = 1000) -> list[Tree]:
    return build_trees(samples, positions, [PICTURE], limit)


def check(samples: list[Sample], trees: list[Tree], limit: int = 1000) -> None:
    """Every sample is exactly once in the batches, and what its last predictor can see, in storage order, is its
    own sequence: ids, positions and targets."""
    offsets = np.cumsum([0, *(len(s.ids) for s in samples)])[:-1].tolist()
    seen: list[int] = []
    for rows in plan(trees, limit):
        batch = collate(rows, samples, offsets, pad_id=0)
        size = batch.ids.shape[1]
        if isinstance(batch.mask, TreeMask):
            mask = batch.mask.dense(size)[None]
        else:
            mask = torch.ones(size, size).tril().bool() & batch.mask[:, None, :]
        node_of = dict(zip(batch.tokens.tolist(), batch.node.tolist(), strict=True))
        target_of = dict(zip(batch.tokens.tolist(), batch.targets.tolist(), strict=True))
        assert (batch.node.diff() >= 0).all()
        for i in batch.samples:
            s = samples[i]
            own = range(offsets[i], offsets[i] + len(s.ids))
            nodes = [node_of[t] for t in own]
            [row] = set(batch.rows[nodes].tolist())
            columns = batch.columns[nodes].tolist()
            path = mask[row, columns[-1]].nonzero().flatten().tolist()
            assert batch.ids[row, path].tolist() == list(s.prompt.ids + s.ids[:-1])
            assert batch.positions[:, row, path].tolist() == positions(s.prompt, len(s.ids))[:, : len(path)].tolist()
            assert columns == path[len(s.prompt.ids) - 1 :]
            assert [target_of[t] for t in own] == list(s.ids)
            seen.append(i)
    assert sorted(seen) == list(range(len(samples)))


def test_a_game_becomes_its_trie() -> None:
    samples = [sample((1, 2, 3), (4, 5)), sample((1, 2, 3), (4, 6)), sample((1, 2, 7), (8,)), sample((1, 2, 3), (4, 5))]
    [tree] = trees_of(samples)
    assert tree.ids.tolist() == [1, 2, 3, 4, 7]
    assert tree.end.tolist() == [5, 5, 4, 4, 5]
    assert tree.unpacked == 4 + 4 + 3 + 4
    assert tree.predictors[tree.samples.index(0)].tolist() == [2, 3]
    check(samples, [tree])


def test_equal_ids_of_other_pictures_are_never_merged() -> None:
    prompt = (1, PICTURE, PICTURE, 2)
    samples = [sample(prompt, (3,), ("a",)), sample(prompt, (3,), ("b",)), sample(prompt, (4,), ("a",))]
    trees = trees_of(samples)
    assert sorted((t.samples, t.pictures) for t in trees) == [((0, 2), ("a",)), ((1,), ("b",))]


def test_a_picture_after_the_branching_is_listed_once_a_branch() -> None:
    samples = [sample((1, n, PICTURE, PICTURE, 2, n), (3,), ("a",)) for n in (5, 6)]
    [tree] = trees_of(samples)
    assert tree.pictures == ("a", "a")
    assert (tree.ids == PICTURE).sum() == 4


def test_pictures_are_shared_all_or_none() -> None:
    # Both show (a, b), but the branching lies between the two pictures.
    samples = [sample((1, PICTURE, n, PICTURE, 2), (3,), ("a", "b")) for n in (5, 6)]
    [tree] = trees_of(samples)
    assert tree.pictures == ("a", "b", "a", "b")
    assert tree.ids.tolist().count(1) == 1
    check(samples, [tree])


def test_episodes_are_apart_and_packing_can_be_off() -> None:
    samples = [sample((1, 2), (3,), episode=e) for e in "aab"]
    assert [t.samples for t in trees_of(samples)] == [(0, 1), (2,)]
    apart = build_trees(samples, positions, [PICTURE], 100, pack="none")
    assert [t.samples for t in apart] == [(0,), (1,), (2,)]
    [rows] = plan(apart, 100, pack="none")
    assert collate(rows, samples, [0, 1, 2], 0).mask.tolist() == 3 * [[True, True]]


def test_a_tree_over_the_limit_is_cut_between_samples() -> None:
    samples = [sample((1, 2, 3, n), (n, n + 1, n + 2)) for n in range(10, 16)]
    trees = trees_of(samples, limit=12)
    assert [len(t) for t in trees] == [12, 12]
    check(samples, trees)


def test_a_sample_over_the_limit_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"game-7 turn 0 \(clue\) has 6 tokens, more than update.tokens_per_batch=5"):
        trees_of([sample((1, 2, 3, 4), (5, 6, 7), episode="game-7")], limit=5)


def test_a_sample_without_sampled_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="no sampled tokens"):
        trees_of([sample((1, 2), ())])


def test_plan_fills_rows_and_keeps_them_within_the_limit() -> None:
    rng = random.Random(0)
    samples = [
        sample(tuple(rng.randrange(1, 9) for _ in range(rng.randint(2, 40))), (1, 2), episode=str(e)) for e in range(50)
    ]
    trees = trees_of(samples)
    check(samples, trees, limit=100)
    padded = []
    for pack in ("tree", "none"):
        batches = plan(trees, 100, pack)  # type: ignore[arg-type]
        sizes = [(len(rows), max(sum(map(len, row)) for row in rows)) for rows in batches]
        assert all(rows * width <= 100 for rows, width in sizes)
        assert sorted(i for rows in batches for row in rows for t in row for i in t.samples) == list(range(50))
        assert pack == "tree" or all(len(row) == 1 for rows in batches for row in rows)
        padded.append(sum(rows * width for rows, width in sizes))
    total = sum(map(len, trees))
    assert total <= padded[0] < 1.05 * total < padded[1]


tokens = st.integers(1, 3)


@st.composite
def made_games(draw: st.DrawFn) -> list[Sample]:
    samples = []
    for _ in range(draw(st.integers(1, 8))):
        pictures = draw(st.sampled_from([(), ("a",), ("b",)]))
        head = tuple(draw(st.lists(tokens, min_size=1, max_size=2))) + (PICTURE,) * 2 * len(pictures)
        prompt = head + tuple(draw(st.lists(tokens, max_size=4)))
        samples.append(sample(prompt, tuple(draw(st.lists(tokens, min_size=1, max_size=4))), pictures))
    return samples


@given(made_games(), st.integers(14, 60))
@settings(max_examples=150, deadline=None)
def test_any_tree_reads_like_its_samples(samples: list[Sample], limit: int) -> None:
    trees = trees_of(samples, limit)
    assert all(len(t) <= limit for t in trees)
    check(samples, trees, limit)


@given(made_games(), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_the_order_of_samples_does_not_change_the_trees(samples: list[Sample], rng: random.Random) -> None:
    shuffled = [replace(s, turn=i) for i, s in enumerate(samples)]
    rng.shuffle(shuffled)

    def sizes(trees: list[Tree]) -> list[tuple[list[int], list[int], tuple[str, ...]]]:
        return sorted((t.ids.tolist(), t.end.tolist(), t.pictures) for t in trees)

    assert sizes(trees_of(samples)) == sizes(trees_of(shuffled))
