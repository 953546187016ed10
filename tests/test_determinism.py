"""The same seed gives the same games, whatever they are played beside.

Global random state is forbidden in `tests/test_house.py`. That a run which was killed ends with the bits of one that
was not is shown in `tests/test_restart.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.kills import command, differences, live, live_together, ranks

OF_THE_UPDATE = ("seconds/", "speed/", "update/", "sight", "engine/", "conduct/")
RECIPE = "recipe.yaml"
"""What a run was told; all else of two equal runs is the same."""
GAMES = Path("episodes") / "step_000000.jsonl"


def first_step(run: Path, **settings: Any) -> Path:
    """A run of one step."""
    return trained(run, steps=1, games_per_step=5, **settings)


def trained(run: Path, **settings: Any) -> Path:
    """A run in as many processes as the settings say."""
    processes = int(settings.get("processes", 1))
    words = command(run, **settings)
    lives = live_together(run, words, [None] * processes, ranks(processes)) if processes > 1 else [live(run, words)]
    assert [life.code for life in lives] == [0] * processes, lives[0].said
    return run


def reproduced(run: Path, **settings: Any) -> Path:
    """A run of two steps, on both stages, with held-out games."""
    return trained(run, steps=2, games_per_step=4, reproducible=True, evaluation__games=2, **settings)


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
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One step with the settings of the tests."""
    return first_step(tmp_path_factory.mktemp("first") / "run")


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [{"rollouts__batch_size": 3, "rollouts__trunk_cache_gib": 0}, {"processes": 2}], ids=str
)
def test_the_same_games_but_for_rounding(first: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    other = first_step(tmp_path / "run", **settings)
    assert played(other) == played(first)
    assert metrics(other) == metrics(first)


@pytest.mark.slow
def test_reproducible_runs_have_the_same_bytes(tmp_path: Path) -> None:
    one = reproduced(tmp_path / "one")
    other = reproduced(tmp_path / "other", processes=3, rollouts__batch_size=1)
    assert differences(one, other) == [RECIPE]
