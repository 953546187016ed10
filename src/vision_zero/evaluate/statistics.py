"""Shares and their differences with intervals that know that votes of one game are not independent.

A measure is counted game by game (`Counts`). Two measures of the same deals are compared pairwise. All
intervals are closed formulas: no resampling, no seed, the same figures on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Counts:
    """Hits out of trials, game by game. Example: `Counts((2, 0), (3, 3))`: two of three votes, then none."""

    hits: tuple[float, ...]
    trials: tuple[float, ...]

    @staticmethod
    def of(games: Iterable[Iterable[bool]]) -> Counts:
        """Count flags, one group a game. Example: `Counts.of([[True, True, False], [False] * 3])`."""
        flags = [list(game) for game in games]
        return Counts(tuple(float(sum(f)) for f in flags), tuple(float(len(f)) for f in flags))

    @property
    def total(self) -> int:
        """All trials of all games."""
        return round(sum(self.trials))


@dataclass(frozen=True)
class Estimate:
    """A share or a difference of shares with its 95 % interval. Example: `Estimate(0.35, 0.3, 0.4, 450, 150)`"""

    point: float
    low: float
    high: float
    trials: int
    games: int


def wilson(hits: float, trials: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's score interval of a share of independent trials; counts may be fractional.

    Never degenerate: 0 of 10 gives about (0, 0.28). Raises ValueError without trials.
    """
    if trials <= 0:
        raise ValueError("no trials: a share needs at least one")
    z = float(stats.norm.ppf((1 + confidence) / 2))
    p = hits / trials
    centre = (p + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials))
    return max(0.0, min(centre - half, p)), min(1.0, max(centre + half, p))


def rate(counts: Counts, confidence: float = CONFIDENCE) -> Estimate:
    """The share of hits, with Wilson's interval at the effective number of independent trials.

    That number is the trials divided by the design effect of the games (the variance of the share with
    games as units over that with trials as units); a share of 0 or 1 shows no variance, and there every
    game counts as one trial. Raises ValueError without trials.
    """
    hits, trials = _arrays(counts)
    total, games = float(trials.sum()), len(trials)
    if total <= 0:
        raise ValueError("no trials: a share needs at least one")
    p = float(hits.sum()) / total
    effective = float(games)
    if 0 < p < 1 and games > 1:
        by_game = games / (games - 1) * float((((hits - p * trials) / total) ** 2).sum())
        effective = min(total, p * (1 - p) / by_game) if by_game > 0 else total
    low, high = wilson(p * effective, effective, confidence)
    return Estimate(p, low, high, counts.total, games)


def difference(before: Counts, after: Counts, confidence: float = CONFIDENCE) -> Estimate:
    """Share after minus share before, on the same games in the same order.

    A t interval on the linearised per-game contributions of the difference. As in Agresti and Min's
    interval for paired shares, four pseudo-games of half weight (hit or miss before, hit or miss after)
    keep it honest at the edges: a few games that all agree prove little. `trials` are those after.

    Raises ValueError if the games do not correspond, if there are fewer than 2, or if a side has no trials.
    """
    if len(before.trials) != len(after.trials):
        raise ValueError(f"{len(before.trials)} games before and {len(after.trials)} after: they must be the same")
    games = len(before.trials)
    if games < 2:
        raise ValueError(f"{games} game(s): a paired difference needs at least 2")
    if before.total <= 0 or after.total <= 0:
        raise ValueError("no trials on one side: there is nothing to compare")
    point = sum(after.hits) / sum(after.trials) - sum(before.hits) / sum(before.trials)
    weights = np.array([1.0] * games + [0.5] * 4)
    share_before, part_before = _shrunk(before, (0, 0, 1, 1), weights)
    share_after, part_after = _shrunk(after, (0, 1, 0, 1), weights)
    units = float(weights.sum())
    variance = units / (units - 1) * float((weights * (part_after - part_before) ** 2).sum())
    half = float(stats.t.ppf((1 + confidence) / 2, games - 1)) * math.sqrt(variance)
    centre = share_after - share_before
    return Estimate(
        point, max(-1.0, min(centre - half, point)), min(1.0, max(centre + half, point)), after.total, games
    )


def _shrunk(counts: Counts, pseudo: tuple[int, ...], weights: np.ndarray) -> tuple[float, np.ndarray]:
    """The share with the pseudo-games, and each game's contribution to its error."""
    size = sum(counts.trials) / len(counts.trials)
    hits = np.array([*counts.hits, *(size * p for p in pseudo)])
    trials = np.array([*counts.trials, *(size for _ in pseudo)])
    total = float((weights * trials).sum())
    share = float((weights * hits).sum()) / total
    return share, (hits - share * trials) / total


def _arrays(counts: Counts) -> tuple[np.ndarray, np.ndarray]:
    """Hits and trials of the games that have any trial."""
    hits, trials = np.array(counts.hits), np.array(counts.trials)
    return hits[trials > 0], trials[trials > 0]
