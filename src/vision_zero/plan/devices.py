"""Devices: how much they hold, and how fast they were measured to be."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import torch

from vision_zero.config import RunConfig
from vision_zero.errors import UserError
from vision_zero.plan.memory import GIB

USABLE = 0.95
"""Share of a GPU's memory that a plan may fill."""


@dataclass(frozen=True)
class Speed:
    """What a device was measured to do with this package. `where` says on what and with which command.

    `update`: floating-point operations a second in an update; `read`: likewise when prompts are read;
    `layer`: seconds that one layer needs for one more token of every row, at least.
    """

    update: float
    read: float
    layer: float
    where: str


@dataclass(frozen=True)
class Devices:
    """`count` equal devices with `memory` bytes each. `speed` is None if nobody has measured one."""

    name: str
    count: int
    memory: int
    gpu: bool
    speed: Speed | None

    @property
    def usable(self) -> int:
        """Bytes that a plan may fill."""
        return int(self.memory * USABLE)


def find_devices(asked: str | None, config: RunConfig) -> Devices:
    """The devices that `NAME:COUNT` names; None: those of this machine, one for each of the run's processes.

    NAME is one of the table, `cpu`, or a size such as `24gb`. Raises `UserError`.
    """
    if asked is None:
        return _here(config.processes)
    name, _, count = asked.lower().partition(":")
    if count and not (count.isascii() and count.isdigit() and int(count) > 0):
        raise UserError(f"--devices {asked!r} is not of the form NAME:COUNT, e.g. a100:8 or 24gb:1")
    number, table = int(count or 1), _table()
    if name == "cpu":
        return Devices("cpu", number, _memory_here() // number, False, _speed("cpu"))
    if size := re.fullmatch(r"(\d+)gi?b", name):
        return Devices(name, number, int(size[1]) * GIB, True, None)
    if name not in table:
        known = ", ".join(table)
        raise UserError(f"--devices: there is no {name!r}; known are {known}, or give its memory, e.g. 24gb:{number}")
    return Devices(name, number, int(table[name]["memory_gib"] * GIB), True, _speed(name))


@cache
def _table() -> Mapping[str, Any]:
    table: Mapping[str, Any] = json.loads(files(__package__).joinpath("devices.json").read_text(encoding="utf-8"))
    return table


def _speed(name: str) -> Speed | None:
    measured = _table().get(name, {}).get("measured")
    return Speed(**measured) if measured else None


def _here(processes: int) -> Devices:
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        known = next((n for n in _table() if n in properties.name.lower().replace(" ", "")), None)
        speed = _speed(known) if known else None
        return Devices(properties.name, processes, int(properties.total_memory), True, speed)
    return Devices("cpu", processes, _memory_here() // processes, False, _speed("cpu"))


def _memory_here() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
