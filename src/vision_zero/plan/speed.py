"""Seconds of a step, from how fast a device was measured to be. An estimate: answers are taken at full length."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vision_zero.config import RunConfig
from vision_zero.plan.devices import Devices
from vision_zero.plan.longest import LongestGame
from vision_zero.plan.memory import packed
from vision_zero.plan.shapes import Shape
from vision_zero.types import Stage


@dataclass(frozen=True)
class Seconds:
    """Of one step."""

    play: float
    reference: float
    update: float

    @property
    def step(self) -> float:
        """All of it."""
        return self.play + self.reference + self.update


def seconds_of(config: RunConfig, shape: Shape, game: LongestGame, devices: Devices, read: Sequence[Stage]) -> Seconds:
    """A step whose update reads the samples of the stages `read`. Needs `devices.speed`."""
    speed = devices.speed
    assert speed is not None
    games = math.ceil(config.games_per_step / devices.count)
    language = shape.parameters - shape.vision_parameters
    nodes = games * (sum(game.trees(read)) if packed(config, shape.text) else game.unpacked(read))
    # two operations a weight and token in a forward, as many for the gradient of activations, and of weights
    passes = 4.0 + (0 if shape.adapter else 2) + (2 if config.model.gradient_checkpointing else 0)
    with_reference = config.update.kl > 0 or config.credit.anchor > 0
    updates = config.update.epochs
    if config.update.epochs * config.update.minibatches > 1:
        passes += 2 / updates  # old log-probs
    return Seconds(
        play=_play(config, shape, game, games, language, speed.read, speed.layer),
        reference=2 * nodes * language / speed.update if with_reference else 0.0,
        update=updates * passes * nodes * language / speed.update,
    )


def _play(
    config: RunConfig, shape: Shape, game: LongestGame, games: int, language: int, read: float, layer: float
) -> float:
    seconds = 0.0
    for tick in sorted({r.tick for r in game.requests}):
        asked = [r for r in game.requests if r.tick == tick]
        rows = games * sum(r.draws for r in asked)
        batches = math.ceil(rows / config.rollouts.batch_size)
        seconds += 2 * language * games * sum(len(r.ids) for r in asked) / read
        budget = max(r.budget for r in asked)
        at_least = batches * budget * int(shape.text.num_hidden_layers) * layer
        seconds += max(at_least, 2 * language * rows * budget / read)
    return seconds
