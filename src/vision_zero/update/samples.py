"""Samples as flat tensors, one entry a sampled token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from vision_zero.types import Sample
from vision_zero.update.tree import Tree, name


@dataclass(frozen=True, eq=False)
class Scored:
    """The samples of a step, packed, with log-probs from before its first update.

    Flat tensors have one entry for each of the T sampled tokens of all samples, in order: `sampling` (T,):
    the engine's log-probs; `advantages` (T,), 0 for anchors; `anchor` (T,) bool; `owner` (T,): index of the
    token's sample; `lengths` (T,): sampled tokens of that sample. `offsets[i]`: where sample i starts.
    `old` (T,) is None if the step has a single update, whose own forward gives them; `reference` (T,) is None
    if no KL coefficient is set. `seconds`: time spent on this by phase.
    """

    samples: tuple[Sample, ...]
    trees: tuple[Tree, ...]
    offsets: tuple[int, ...]
    sampling: torch.Tensor
    advantages: torch.Tensor
    anchor: torch.Tensor
    owner: torch.Tensor
    lengths: torch.Tensor
    old: torch.Tensor | None = None
    reference: torch.Tensor | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)


def flatten(samples: Sequence[Sample], trees: Sequence[Tree], device: torch.device) -> Scored:
    """Lay out the samples; raises `ValueError` for one whose ids and log-probs do not match."""
    for s in samples:
        if len(s.sampling_logprobs) != len(s.ids):
            raise ValueError(f"sample {name(s)}: {len(s.ids)} ids but {len(s.sampling_logprobs)} log-probs")
    counts = np.array([len(s.ids) for s in samples], dtype=np.int64)
    owner = torch.from_numpy(np.repeat(np.arange(len(samples)), counts)).to(device)
    advantages = torch.tensor([s.advantage or 0.0 for s in samples], dtype=torch.float32, device=device)
    anchors = torch.tensor([s.advantage is None for s in samples], dtype=torch.bool, device=device)
    sampling = [lp for s in samples for lp in s.sampling_logprobs]
    return Scored(
        samples=tuple(samples),
        trees=tuple(trees),
        offsets=tuple((np.cumsum(counts) - counts).tolist()),
        sampling=torch.tensor(sampling, dtype=torch.float32, device=device),
        advantages=advantages[owner],
        anchor=anchors[owner],
        owner=owner,
        lengths=torch.from_numpy(counts).to(device)[owner],
    )
