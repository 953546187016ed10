"""Reading prompts: from ids and pictures to columns of keys and values, without reading anything twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vision_zero.models.base import VLM
from vision_zero.rollouts.columns import Columns
from vision_zero.rollouts.trunks import Trunks, whole_pictures
from vision_zero.types import Picture, Prompt

PADDING = 0.25
"""Prompts are read together while padding stays below this share of their tokens ..."""
FREE_PADDING = 64
"""... or below this number of tokens, which cost less than one more pass through the model."""


@dataclass(frozen=True)
class Read:
    """A prompt that was read."""

    columns: Tensor
    """(L, 2, K, length, D), see `Columns`."""
    hidden: Tensor
    """(H,), from which the first id is drawn."""
    positions: Tensor
    """(A, length + budget), on the CPU."""


@dataclass(frozen=True)
class _Rest:
    """What is left to read of a prompt."""

    prompt: Prompt
    start: int
    """So many ids are known already."""
    pictures: Sequence[Picture]
    """Those that are not."""
    trunk: Tensor | None
    """Columns of a prompt with the same first `start` ids and pictures."""
    positions: Tensor

    @property
    def length(self) -> int:
        return len(self.prompt.ids) - self.start


def read(
    vlm: VLM,
    layers: int,
    prompts: Mapping[Prompt, Sequence[Picture]],
    budget: int,
    trunks: Trunks | None,
    limit: int,
) -> dict[Prompt, Read]:
    """Read prompts, given with their pictures, each to be followed by at most `budget` ids, `limit` tokens at once.

    What `trunks` has of them is not read again, and they are added to it.
    """
    rests = [_rest(vlm, prompt, pictures, budget, trunks) for prompt, pictures in prompts.items()]
    done: dict[Prompt, Read] = {}
    for together in _alike(sorted(rests, key=lambda r: r.length), limit):
        done.update(_read(vlm, layers, together))
    if trunks is not None:
        for rest in rests:
            trunks.keep(rest.prompt, done[rest.prompt].columns, rest.trunk)
    return done


def _rest(vlm: VLM, prompt: Prompt, pictures: Sequence[Picture], budget: int, trunks: Trunks | None) -> _Rest:
    positions = vlm.positions(prompt, budget)
    known, trunk = trunks.longest(prompt) if trunks is not None else (0, None)
    # At least one id is read: the first draw needs its hidden state.
    known = min(known, len(prompt.ids) - 1)
    if trunk is not None:
        counts = [vlm.placeholders(p) for p in pictures]
        known, seen = whole_pictures(prompt.ids[:known], vlm.image_token_id, counts)
        pictures = pictures[seen:]
    return _Rest(prompt, known, pictures, trunk, positions)


def _alike(rests: Sequence[_Rest], limit: int) -> Iterator[list[_Rest]]:
    """Groups of like length, of rests in order of length. What is known of a prompt counts: it is attended to."""
    group: list[_Rest] = []
    tokens = known = 0
    for rest in rests:
        padding = rest.length * (len(group) + 1) - (tokens + rest.length)
        known = max(known, rest.start)
        full = (known + rest.length) * (len(group) + 1) > limit
        if group and (full or padding > max(FREE_PADDING, PADDING * (tokens + rest.length))):
            yield group
            group, tokens, known = [], 0, rest.start
        group.append(rest)
        tokens += rest.length
    if group:
        yield group


def _read(vlm: VLM, layers: int, rests: Sequence[_Rest]) -> dict[Prompt, Read]:
    """One pass. Columns: what is known, on the right of its half; then what is read, on the right of its own."""
    known, longest = max(r.start for r in rests), max(r.length for r in rests)
    width = known + longest
    ids = torch.full((len(rests), longest), vlm.pad_id)
    seen = torch.zeros(len(rests), width, dtype=torch.long)
    positions = torch.zeros(vlm.family.position_axes, len(rests), longest, dtype=torch.long)
    for i, rest in enumerate(rests):
        ids[i, longest - rest.length :] = torch.tensor(rest.prompt.ids[rest.start :])
        positions[:, i, longest - rest.length :] = rest.positions[:, rest.start : len(rest.prompt.ids)]
        seen[i, known - rest.start : known] = 1
        seen[i, width - rest.length :] = 1
    cache = Columns(layers, width)
    if known:
        cache.load([r.trunk[:, :, :, : r.start] if r.trunk is not None else None for r in rests], known)
    pictures = [p for r in rests for p in r.pictures]
    device = vlm.device
    hidden = vlm.forward_hidden(ids.to(device), seen.to(device), positions.to(device), pictures, cache)[:, -1]
    places = [row.nonzero()[:, 0].to(device) for row in seen]
    return {r.prompt: Read(cache.row(i, places[i]), hidden[i], r.positions) for i, r in enumerate(rests)}
