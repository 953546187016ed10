"""A step's games in waves: when a player is lost, what has ended stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vision_zero.errors import UserError
from vision_zero.games.base import Deal, Game, Player
from vision_zero.rollouts.runner import play
from vision_zero.types import Episode


def play_in_waves(
    game: Game,
    deals: Sequence[Deal],
    players: Mapping[str, Player],
    at_once: int | None,
    kept: Mapping[str, Episode],
) -> tuple[list[Episode], UserError | None]:
    """Play the deals, `at_once` games side by side (None: all), but for those whose game, by id, was `kept` before.

    Returns the episodes that ended, in the order of the deals, and what a player failed of, None if all games ended.
    Waves are counted from the first deal whatever was kept, so that the same games are together again.
    """
    size = at_once or max(1, len(deals))
    ended: list[Episode] = []
    for start in range(0, len(deals), size):
        wave = deals[start : start + size]
        if all(deal.id in kept for deal in wave):
            ended += [kept[deal.id] for deal in wave]
            continue
        try:
            ended += play(game, wave, players)
        except UserError as e:
            return ended, e
    return ended, None
