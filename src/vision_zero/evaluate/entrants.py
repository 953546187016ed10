"""Who can be invited to an arena, by name."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from vision_zero.config import RunConfig
from vision_zero.errors import UserError
from vision_zero.evaluate.weights import Weights, find_weights
from vision_zero.games.base import Player
from vision_zero.players.api import ApiPlayer
from vision_zero.players.scripted import Kind, ScriptedPlayer

START, API = "start", "api:"
AT_ONCE = 2
"""Models in memory: two players meet at a time."""


@dataclass(frozen=True)
class Entrant:
    """A player that can be opened when it is its turn. `label` is its name in tables; `weights` is None for
    players that are not models of this machine."""

    label: str
    player: str
    version: str
    weights: Weights | None = None


def find_entrant(text: str, config: RunConfig) -> Entrant:
    """`PLAYER` or `LABEL=PLAYER`. PLAYER is `start`, `api:MODEL`, a scripted player, or a model as in `find_weights`.

    Raises `UserError` for what cannot be found.
    """
    label, equals, player = text.partition("=")
    if not equals:
        player = text
    if not label or not player:
        raise UserError(f"player {text!r} is not of the form PLAYER or LABEL=PLAYER")
    if player.startswith(API):
        return Entrant(label, player, player.removeprefix(API))
    if player in get_args(Kind):
        return Entrant(label, player, f"scripted-{player}")
    weights = find_weights(config.model.path if player == START else player, config.model)
    return Entrant(label, player, weights.version, weights)


class Players:
    """Opens players when they are needed and keeps few models in memory."""

    def __init__(self, entrants: Sequence[Entrant], config: RunConfig) -> None:
        self._entrants, self._config = {e.label: e for e in entrants}, config
        self._open: OrderedDict[str, Player] = OrderedDict()

    def open(self, *labels: str) -> Mapping[str, Player]:
        """These players by label. Models that are not among them may be let go."""
        for label in labels:
            if label not in self._open:
                loaded = [name for name in self._open if self._entrants[name].weights is not None]
                for name in [name for name in loaded if name not in labels][: max(0, len(loaded) - AT_ONCE + 1)]:
                    del self._open[name]
                self._open[label] = _open(self._entrants[label], self._config)
        return {label: self._open[label] for label in labels}


def _open(entrant: Entrant, config: RunConfig) -> Player:
    temperature = config.rollouts.temperature
    if entrant.weights is not None:
        # imported here: an arena of scripted and remote players needs no torch
        from vision_zero.models.base import load
        from vision_zero.players.policy import PolicyPlayer
        from vision_zero.rollouts.hf import HfEngine

        vlm = load(entrant.weights.model)
        engine = HfEngine.of(vlm, config.rollouts)
        return PolicyPlayer(entrant.label, vlm, engine, temperature, entrant.version)
    if entrant.player.startswith(API):
        return ApiPlayer(entrant.version, name=entrant.label, temperature=temperature)
    for kind in get_args(Kind):
        if entrant.player == kind:
            return ScriptedPlayer(kind, entrant.label)
    raise AssertionError(f"find_entrant let {entrant.player!r} through")
