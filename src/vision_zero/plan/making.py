"""A recipe and devices to a plan, with what to change if it does not fit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from pydantic import ValidationError

from vision_zero.config import LoraConfig, RunConfig
from vision_zero.errors import UserError
from vision_zero.plan.devices import Devices
from vision_zero.plan.longest import LongestGame, longest_game, picture_sizes, play_longest, refuse_what_does_not_fit
from vision_zero.plan.memory import Bill, bill, checkpoint_bytes, steps_of
from vision_zero.plan.shapes import Shape, shape_of
from vision_zero.plan.speed import Seconds, seconds_of
from vision_zero.types import Stage

MOST_CHANGES = 3


@dataclass(frozen=True)
class Change:
    """Something to set, and what it costs. Example: `Change({"model.dtype": "bfloat16"}, "weights are rounded", 2)`"""

    settings: Mapping[str, Any]
    price: str
    rank: int


@dataclass(frozen=True)
class Advice:
    """The cheapest changes that were found, and the peak with them. `fits` False: even so it is too much."""

    changes: tuple[Change, ...]
    peak: int
    fits: bool


@dataclass(frozen=True)
class Plan:
    """Everything that `print_plan` tells."""

    config: RunConfig
    devices: Devices
    shape: Shape
    game: LongestGame
    bill: Bill
    advice: Advice | None
    """None if it fits as it is."""
    seconds: Mapping[Stage, Seconds] | None
    """A step on each stage, every answer at full length; None if nobody has measured this device."""
    checkpoint: int

    @property
    def fits(self) -> bool:
        """Whether one device holds its part."""
        return self.bill.peak <= self.devices.usable

    @property
    def optimizer_steps(self) -> int:
        """Of the whole run."""
        return self.config.steps * self.config.update.epochs * self.config.update.minibatches

    @property
    def disk(self) -> int:
        """Bytes of the checkpoints that are kept, with the best and the one being written."""
        return (self.config.save.keep + 2) * self.checkpoint


def make_plan(config: RunConfig, devices: Devices) -> Plan:
    """Plan a run. Raises `UserError` if its longest game does not fit the model, or nothing is known of the model."""
    shape = shape_of(config.model)
    game = longest_game(config, shape)
    made = bill(config, shape, game, devices.count, devices.gpu)
    fits = made.peak <= devices.usable
    return Plan(
        config=config,
        devices=devices,
        shape=shape,
        game=game,
        bill=made,
        advice=None if fits else advise(config, devices),
        seconds={stage: seconds_of(config, shape, game, devices, read) for stage, read in steps_of(config)}
        if devices.speed
        else None,
        checkpoint=checkpoint_bytes(shape),
    )


def advise(config: RunConfig, devices: Devices) -> Advice:
    """The cheapest of all sets of at most three changes after which the run fits; else the set that saves most."""
    closest: Advice | None = None
    games: dict[int | None, LongestGame] = {}
    for changes in sorted(_sets(list(_candidates(config, devices.count))), key=lambda s: sum(c.rank for c in s)):
        peak = _peak(config, changes, devices, games)
        if peak is not None and (closest is None or peak < closest.peak):
            closest = Advice(changes, peak, peak <= devices.usable)
            if closest.fits:
                return closest
    return closest or Advice((), 0, False)


def _peak(
    config: RunConfig, changes: Sequence[Change], devices: Devices, games: dict[int | None, LongestGame]
) -> int | None:
    """The peak with these changes; None if they contradict each other, or if the model or the longest game rules them
    out. `games`: played so far."""
    try:
        changed = with_settings(config, {k: v for change in changes for k, v in change.settings.items()})
        shape, pixels = shape_of(changed.model), changed.model.max_pixels
        if pixels not in games:
            games[pixels] = play_longest(changed, shape)
        refuse_what_does_not_fit(games[pixels], changed, shape)
    except (UserError, ValidationError):
        return None
    return bill(changed, shape, games[pixels], devices.count, devices.gpu).peak


def with_settings(config: RunConfig, settings: Mapping[str, Any]) -> RunConfig:
    """The configuration with `a.b` set to other values, checked again."""
    tree = config.model_dump(mode="json")
    for key, value in settings.items():
        node = tree
        *above, last = key.split(".")
        for name in above:
            node = node[name]
        node[last] = value
    return RunConfig.model_validate(tree)


def _candidates(config: RunConfig, devices: int) -> Iterator[Change]:
    model = config.model
    if model.lora is None and config.devices.reference == "device":
        yield Change({"devices.reference": "cpu"}, "the frozen start travels to the device every step", 2)
    if model.lora is None and config.devices.shard == "none" and devices > 1:
        yield Change({"devices.shard": "fsdp"}, "weights travel between devices in every pass of an update", 3)
    if not model.gradient_checkpointing:
        yield Change({"model.gradient_checkpointing": True}, "a third more time in the update", 2)
    for times in (1, 2, 3, 5):
        if (rows := config.rollouts.batch_size >> times) >= 1:
            yield Change({"rollouts.batch_size": rows}, "slower play, the same games", times)
        if (tokens := config.update.tokens_per_batch >> times) >= 256:
            yield Change({"update.tokens_per_batch": tokens}, "slower update, the same result", times)
    width, height = max(picture_sizes(config.pairs), key=lambda s: s[0] * s[1])
    for times in (1, 2):
        yield Change({"model.max_pixels": width * height >> times}, "pictures are seen more coarsely", 3 + 2 * times)
    if model.dtype == "float32":
        yield Change({"model.dtype": "bfloat16"}, "weights are rounded; their float32 masters are trained", 6)
    if model.train == "all" and model.lora is None:
        yield Change({"model.train": "language"}, "the vision tower is not trained", 8)
    if model.lora is None:
        lora = LoraConfig().model_dump(mode="json")
        price = "adapters are trained instead of all weights"
        yield Change({"model.train": "language", "model.lora": lora, "update.learning_rate": 1e-4}, price, 16)


def _sets(candidates: Sequence[Change]) -> Iterator[tuple[Change, ...]]:
    for number in range(1, MOST_CHANGES + 1):
        for chosen in combinations(candidates, number):
            keys = [k for c in chosen for k in c.settings]
            if len(keys) == len(set(keys)):
                yield chosen


def hours(plan: Plan) -> float | None:
    """Of the whole run, a stage as often as the other; None if no speed is known."""
    if plan.seconds is None:
        return None
    mean = math.fsum(s.step for s in plan.seconds.values()) / len(plan.seconds)
    return plan.config.steps * mean / 3600
