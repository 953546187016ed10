"""A person's screen and keyboard, with the keyboard played by the test."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from tests.games.driving import play_with
from vision_zero.config import GameConfig
from vision_zero.errors import UserError
from vision_zero.games import make_game
from vision_zero.games.base import Deal, Result
from vision_zero.players.encoding import media_type
from vision_zero.players.human import HumanPlayer
from vision_zero.types import ABSTAIN, ImagePair, Picture, Role


def picture(color: str, format: str) -> Picture:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), color).save(file, format)
    return Picture(file.getvalue())


PAIR = ImagePair("p", picture("red", "PNG"), picture("blue", "JPEG"))


def play(lines: list[str], folder: Path, **settings: object) -> tuple[Result, str, list[str]]:
    """A two-civilian game (unless set otherwise) in which one person plays all seats."""
    left: Iterator[str] = iter(lines)

    def read_line() -> str:
        try:
            return next(left)
        except StopIteration:
            raise EOFError from None

    screen = Console(file=io.StringIO(), width=300)
    human = HumanPlayer(console=screen, read_line=read_line, folder=folder)
    game = make_game(GameConfig.model_validate({"civilians": 2, "rounds": 1, **settings}))
    cast = {Role.CIVILIAN: "human", Role.SPY: "human"}
    result = play_with(game, Deal("g", PAIR, 1, cast, spies=(2,)), {"human": human})
    return result, screen.file.getvalue(), list(left)  # type: ignore[attr-defined]


@pytest.mark.parametrize("wording", ["full", "compact"])
def test_a_game_at_the_keyboard(wording: str, tmp_path: Path) -> None:
    lines = ["", "A [red] square {x}", "...", "something \\boxed{red}", "blue", "4", "who?", "3", "n/a"]
    result, screen, left = play(lines, tmp_path, wording=wording)
    assert left == []
    assert [t.understood.clue for t in result.turns[:3]] == ["A (red) square x", "something red", "blue"]
    assert [t.understood.vote for t in result.turns[3:]] == [2, ABSTAIN]
    assert result.outcome.civilians_win
    assert "You are player 1, civilian" in screen
    assert "You are player 3, spy" in screen
    assert "Round 1, player 2: something red" in screen
    assert screen.count("That will not do") == 4
    assert "there is no number 4, only 1 to 3" in screen
    shown = {Path(path).name: Path(path).read_bytes() for path in re.findall(r"Your picture: (\S+)", screen)}
    assert set(shown.values()) == {PAIR.original.data, PAIR.modified and PAIR.modified.data}
    assert {name.rpartition(".")[2] for name in shown} == {"png", "jpeg"}


def test_a_judge_and_a_seat_with_two_pictures(tmp_path: Path) -> None:
    _, screen, _ = play(["a", "b", "c", "3"], tmp_path, voters="analyst")
    assert "You are the judge" in screen
    result, screen, left = play(["red", "3", "1"], tmp_path, name="pick")
    assert left == []
    assert "Picture 2:" in screen
    assert "Your choice, 1 to 2, or n/a" in screen
    assert result.turns[-1].understood.vote == 0


def test_the_end_of_input_and_a_broken_picture_are_errors_with_a_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the input ended"):
        play(["a red cube"], tmp_path)
    broken = Picture(b"not an image")
    with pytest.raises(UserError, match=f"picture {broken.sha[:12]} is not an image file"):
        media_type(broken)
