"""Golden games must not change by accident."""

from __future__ import annotations

import pytest

from tests.playthroughs.regenerate import FOLDER, PLAYTHROUGHS, Playthrough, write


@pytest.mark.parametrize("game", PLAYTHROUGHS, ids=lambda game: game.name)
def test_a_golden_game_is_played_as_before(game: Playthrough) -> None:
    recorded = (FOLDER / f"{game.name}.txt").read_text(encoding="utf-8")
    assert write(game) == recorded, "meant to change? python -m tests.playthroughs.regenerate, and read the difference"


def test_every_recorded_game_is_still_played() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == {game.name for game in PLAYTHROUGHS}
