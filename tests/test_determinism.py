"""The same seed gives the same games, whatever they are played beside.

Global random state is forbidden in `tests/test_house.py`. That a run which was killed ends with the bits of one that
was not is shown in `tests/test_restart.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.kills import command, live, live_together, ranks

OF_THE_UPDATE = ("seconds/", "speed/", "update/", "sight", "engine/", "conduct/")
GAMES = Path("episodes") / "step_000000.jsonl"


def first_step(run: Path, **settings: Any) -> Path:
    """A run of one step, in as many processes as the settings say."""
    processes = int(settings.get("processes", 1))
    words = command(run, steps=1, games_per_step=5, **settings)
    lives = live_together(run, words, [None] * processes, ranks(processes)) if processes > 1 else [live(run, words)]
    assert [life.code for life in lives] == [0] * processes, lives[0].said
    return run


def played(run: Path) -> list[Any]:
    """Of every game what was drawn and what came of it, without log-probs."""
    games = [json.loads(line) for line in (run / GAMES).read_text().splitlines()]
    assert games
    for game in games:
        for turn in game["turns"]:
            del turn["utterance"]["logprobs"]
        del game["advantages"]
    return games


def metrics(run: Path) -> dict[str, Any]:
    """What is measured of games."""
    [line] = [json.loads(text) for text in (run / "metrics.jsonl").read_text().splitlines()]
    return {name: value for name, value in line.items() if not name.startswith(OF_THE_UPDATE)}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every game by itself."""
    return first_step(tmp_path_factory.mktemp("alone") / "run", rollouts__games_at_once=1)


@pytest.mark.slow
def test_games_played_one_by_one_have_the_same_bytes(alone: Path, tmp_path: Path) -> None:
    other = first_step(tmp_path / "run", rollouts__games_at_once=1, rollouts__batch_size=7)
    assert (other / GAMES).read_bytes() == (alone / GAMES).read_bytes()
    assert metrics(other) == metrics(alone)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [{"rollouts__batch_size": 3, "rollouts__trunk_cache_gib": 0}, {"processes": 2}], ids=str
)
def test_side_by_side_they_are_the_same_but_for_rounding(alone: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    other = first_step(tmp_path / "run", **settings)
    assert played(other) == played(alone)
    assert metrics(other) == metrics(alone)
