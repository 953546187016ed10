"""Which games are dealt in a step. A pure function of the run's seed and the step: nothing to save, nothing to lose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from vision_zero.games.base import Deal
from vision_zero.pairs.base import PairSource
from vision_zero.seeds import derive_seed
from vision_zero.types import Role


def deals_of_step(
    pairs: PairSource,
    seed: int,
    step: int,
    games: int,
    cast: Mapping[Role, str],
    only: Sequence[int] | None = None,
) -> list[Deal]:
    """The `games` deals of a step (counted from 0), with ids like `"000012-0007"`; or, of these, `only` some.

    Pairs are drawn without replacement: every pair is played once before any is played twice, in an
    order that is drawn anew in each pass over the set. Only the pairs of the deals that are asked for are made.
    """
    deals = []
    for game in range(games) if only is None else only:
        position = step * games + game
        order = _order(seed, position // len(pairs), len(pairs))
        deals.append(
            Deal(
                id=f"{step:06d}-{game:04d}",
                pair=pairs[int(order[position % len(pairs)])],
                seed=derive_seed(seed, "game", step, game),
                cast=cast,
            )
        )
    return deals


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, length: int) -> np.ndarray:
    return np.random.default_rng(derive_seed(seed, "order", epoch)).permutation(length)
