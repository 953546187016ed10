"""A table with scripted players on real rendered scenes, and a person who is played by the test."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vision_zero.config import RunConfig
from vision_zero.evaluate.entrants import Entrant
from vision_zero.games.base import Deal
from vision_zero.pairs import open_pairs
from vision_zero.runs.store import RunStore
from vision_zero.tabletop.evening import Evening, Wish

CONFIG = RunConfig.model_validate(
    {
        "name": "people-test",
        "games_per_step": 1,
        "pairs": {"kind": "clevr", "count": 40, "width": 96, "height": 64, "style": "nano", "objects": [3, 6]},
        "game": {"rounds": 2, "wording": "full", "max_clue_characters": 80},
    }
)
PAIRS = open_pairs(CONFIG.pairs, 0, "held_out")
PATIENCE = 30


def guest(kind: str, label: str | None = None) -> Entrant:
    return Entrant(label or kind, kind, f"scripted-{kind}")


def evening(path: Path, *guests: Entrant, deal: Callable[[int, Wish], Deal] | None = None, **game: Any) -> Evening:
    config = CONFIG.model_copy(update={"game": CONFIG.game.model_copy(update=game)})
    store = RunStore.open(path) if path.exists() else RunStore.create(path.parent, config, path)
    return Evening(config, guests or (guest("perfect"),), PAIRS, store, 7, deal)


def until(holds: Callable[[], Any]) -> Any:
    """What `holds` says, once it says anything."""
    deadline = time.monotonic() + PATIENCE
    while not (found := holds()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return found


def until_asked_or_ended(state: Callable[[], Any]) -> Any:
    def waiting() -> Any:
        told = state()
        return told if told["game"]["ask"] or told["game"]["ended"] else None

    return until(waiting)


def play_out(table: Evening, wish: Wish, vote: str = "n/a") -> Any:
    """One game to its end; what the person was told then."""
    table.begin(wish)
    while not (told := until_asked_or_ended(table.state))["game"]["ended"]:
        ask = told["game"]["ask"]
        table.say(ask["number"], "a red cube" if ask["stage"] == "clue" else vote)
    return told
