"""Which games are dealt in a step. A pure function of the run's seed and the step: nothing to save, nothing to lose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import torch

from vision_zero.config import RunConfig
from vision_zero.games.base import Deal
from vision_zero.models.base import VLM
from vision_zero.pairs.base import PairSource
from vision_zero.rollouts.ahead import Ahead, spare_workers
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
    return [
        Deal(
            id=f"{step:06d}-{game:04d}",
            pair=pairs[_pair_of(len(pairs), seed, step * games + game)],
            seed=derive_seed(seed, "game", step, game),
            cast=cast,
        )
        for game in (range(games) if only is None else only)
    ]


class Dealer:
    """Deals a run's steps one after another; those of the next are made while one is played and trained on."""

    def __init__(self, pairs: PairSource, config: RunConfig, cast: Mapping[Role, str], vlm: VLM) -> None:
        """`vlm`: the model that the pictures are read for. Nothing is started before the first deal."""
        self._config, self._cast = config, cast
        workers = config.rollouts.workers
        if workers is None:
            # A GPU is fed by one thread; a model on the CPU computes in as many as torch was given.
            workers = spare_workers(torch.get_num_threads() if vlm.device.type == "cpu" else 1)
        self._pairs = Ahead(pairs, vlm.reader, workers)

    def deal(self, step: int, only: Sequence[int]) -> list[Deal]:
        """Of the deals of a step those that are played here."""
        seed, games = self._config.seed, self._config.games_per_step
        deals = deals_of_step(self._pairs, seed, step, games, self._cast, only)
        after = range(step + 1, min(step + 2, self._config.steps))
        self._pairs.start(_pair_of(len(self._pairs), seed, s * games + game) for s in after for game in only)
        return deals

    def wait(self) -> None:
        """Until what was started ahead is done."""
        self._pairs.wait()

    def close(self) -> None:
        """End what makes pairs ahead."""
        self._pairs.close()


def _pair_of(pairs: int, seed: int, position: int) -> int:
    """Index of the pair of a run's game, counted from 0 over all steps."""
    return int(_order(seed, position // pairs, pairs)[position % pairs])


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, length: int) -> np.ndarray:
    return np.random.default_rng(derive_seed(seed, "order", epoch)).permutation(length)
