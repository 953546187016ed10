"""Who can be invited to a table, by name."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from vision_zero.config import RunConfig
from vision_zero.errors import UserError
from vision_zero.evaluate.entrants import API, START, Entrant, find_entrant
from vision_zero.players.scripted import Kind

HUMAN, POLICY = "human", "policy"


def find_guest(name: str, config: RunConfig, run: Path | None) -> Entrant:
    """Whom `name` means: `policy` is the newest checkpoint of `run`, or without one the recipe's model; else as
    in an arena. Raises `UserError` for what cannot be found."""
    if name == POLICY:
        return find_entrant(f"{POLICY}={run or START}", config)
    player = name.partition("=")[2] or name
    here = player in (START, *get_args(Kind)) or player.startswith(API)
    # a Hub id has a slash; without one it is a folder, or a slip of the pen
    if not here and "/" not in player and not Path(player.partition("@")[0]).exists():
        known = ", ".join((POLICY, HUMAN, START, f"{API}MODEL", *get_args(Kind)))
        raise UserError(f"there is no player {player!r}: choose one of {known}, or a run, a model's folder, a Hub id")
    return find_entrant(name, config)
