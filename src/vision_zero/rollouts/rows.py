"""The rows of a decode loop: which drafts still run, what they read next and what they attend to.

In `Branches` drafts of a prompt share a row, and with it the prompt's keys; `Rows`, for attention that cannot, have
one each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vision_zero.models.tree_attention import BranchMask
from vision_zero.rollouts.columns import Columns

COMPACT_BELOW = 0.75
"""Rows that have ended are taken out of the batch once at most this share of it is still running."""


@dataclass
class Rows:
    """n rows, each of one draft."""

    drafts: list[list[int]]
    """Per row the number of its draft; none in a row that has ended."""
    cache: Columns
    hidden: Tensor
    """(n, H), from which the next ids are drawn."""
    seen: Tensor
    """(n, columns) bool, those read so far, False at padding."""
    positions: Tensor
    """(A, n, longest budget), of the drawn ids."""

    def grow(self, drawn: Sequence[tuple[int, int]]) -> list[int]:
        """Go on with what was drawn, as (draft, id); returns the id that each row reads next."""
        tokens = dict(drawn)
        drafts = [[d for d in row if d in tokens] for row in self.drafts]
        running = [i for i, row in enumerate(drafts) if row]
        if len(running) <= COMPACT_BELOW * len(drafts):
            rows = torch.tensor(running, device=self.seen.device)
            self.cache.select(rows)
            self.seen, self.positions = self.seen[rows], self.positions[:, rows]
            drafts = [drafts[i] for i in running]
        self.drafts = drafts
        self.seen = torch.cat([self.seen, self.seen.new_ones(len(drafts), 1)], dim=1)
        # A row that has ended reads any id.
        return [tokens[row[0]] if row else 0 for row in drafts]

    def mask(self) -> Tensor:
        """See `VLM.forward_hidden`."""
        return self.seen

    def positions_at(self, step: int) -> Tensor:
        """(A, n, 1)."""
        return self.positions[:, :, step : step + 1]


@dataclass
class Branches:
    """n branches in P rows. Drafts of a row are one branch for as long as they have drawn the same ids.

    In every step a branch adds a column to its row, to which only it and what branches from it attend.
    """

    drafts: list[list[int]]
    """Per branch the numbers of its drafts, all running."""
    cache: Columns
    hidden: Tensor
    """(n, H), from which the next ids are drawn."""
    seen: Tensor
    """(n, S) bool, the columns that a branch attends to; S: all that may come."""
    positions: Tensor
    """(A, P, longest budget), of the drawn ids."""
    rows: list[int] = field(init=False)
    """(n,), the row of each branch."""
    ends: list[int] = field(init=False)
    """(P,), the next free column of each row."""

    def __post_init__(self) -> None:
        self.rows = list(range(len(self.drafts)))
        self.ends = [self.cache.get_seq_length()] * len(self.drafts)

    def grow(self, drawn: Sequence[tuple[int, int]]) -> list[int]:
        """Make branches of what was drawn, as (draft, id); returns the id that each reads next."""
        branch_of = {draft: branch for branch, drafts in enumerate(self.drafts) for draft in drafts}
        grown: dict[tuple[int, int], list[int]] = defaultdict(list)
        for draft, token in drawn:
            grown[branch_of[draft], token].append(draft)
        self.drafts = list(grown.values())
        self.rows = [self.rows[parent] for parent, _ in grown]
        running = sorted(set(self.rows))
        if len(running) <= COMPACT_BELOW * len(self.ends):
            kept = torch.tensor(running, device=self.seen.device)
            self.cache.select(kept)
            self.positions = self.positions[:, kept]
            self.ends = [self.ends[row] for row in running]
            number = {row: i for i, row in enumerate(running)}
            self.rows = [number[row] for row in self.rows]
        columns = []
        for row in self.rows:
            columns.append(self.ends[row])
            self.ends[row] += 1
        device = self.seen.device
        places = torch.tensor(columns, device=device)
        self.seen = self.seen[torch.tensor([parent for parent, _ in grown], device=device)]
        self.seen.scatter_(1, places[:, None], True)
        self.cache.place(torch.tensor(self.rows, device=device), places, max(self.ends))
        return [token for _, token in grown]

    def mask(self) -> BranchMask:
        """See `VLM.forward_hidden`."""
        slots, used = [], [0] * len(self.ends)
        for row in self.rows:
            slots.append(used[row])
            used[row] += 1
        width = max(used)
        device = self.seen.device
        place = torch.tensor([row * width + slot for row, slot in zip(self.rows, slots, strict=True)], device=device)
        allowed = torch.zeros(len(self.ends) * width, max(self.ends), dtype=torch.bool, device=device)
        allowed[place] = self.seen[:, : max(self.ends)]
        return BranchMask(place, allowed.view(len(self.ends), width, -1))

    def positions_at(self, step: int) -> Tensor:
        """(A, n, 1)."""
        return self.positions[:, self.rows, step, None]
