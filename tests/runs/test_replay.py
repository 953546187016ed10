"""A stored game, told so that a person can follow it."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from tests.runs.stored_games import PAIR, game
from vision_zero.runs.poster import draw_poster
from vision_zero.runs.replay import ballots, ending, render_episode
from vision_zero.types import ABSTAIN, Episode, Stage, Turn


def told(episode: Episode, folder: Path, **options: object) -> str:
    console = Console(file=io.StringIO(), width=200, color_system=None)
    render_episode(episode, console, folder, **options)  # type: ignore[arg-type]
    return console.file.getvalue()


def with_turn(episode: Episode, index: int, **changes: object) -> Episode:
    turns: list[Turn] = list(episode.turns)
    turns[index] = dataclasses.replace(turns[index], **changes)
    return dataclasses.replace(episode, turns=tuple(turns))


def test_the_whole_game_is_told_in_order(tmp_path: Path) -> None:
    lines = [line.strip() for line in told(game(), tmp_path, changes=PAIR.changes).splitlines() if line.strip()]
    assert lines[0].strip("─ ") == "game 000000-0000: spy on clevr-0"
    assert lines[1] == "differs: object 0: color=red -> color=blue"
    assert lines[2:6] == [
        "player 1 civilian  policy start  reward +0.050",
        "player 2 spy  policy start  reward -0.150",
        "player 3 civilian  policy start  reward +0.050",
        "player 4 civilian  policy start  reward +0.050",
    ]
    assert lines[6:11] == [
        "round 1",
        "private thought of 1",
        "player 1: a cube that 1 sees  advantage +0.100",
        "private thought of 2",
        "player 2: a cube that 2 sees",
    ]
    assert lines[14] == r"player 4: (no clue)  [no box; said: 'hm \\boxed{None}']  advantage +0.300"
    assert lines[15:19] == [
        "votes",
        "player 1: votes 2  advantage +1.000",
        "player 3: votes 2  advantage +1.000",
        "player 4: abstains (N/A)  advantage -2.000",
    ]
    assert lines[19] == "3 voters: 2 against player 2, N/A 1, invalid 0"
    assert lines[20] == "player 2 is accused: the spy is caught"


@pytest.mark.parametrize(
    ("votes", "end", "sentence"),
    [
        ((1, 1, 1), "caught", "player 2 is accused: the spy is caught"),
        ((2, 0, 2), "escaped", "player 3 is accused: spy 2 gets away"),
        ((2, 0, None), "tie", "nobody is accused: spy 2 gets away"),
        ((ABSTAIN, ABSTAIN, ABSTAIN), "tie", "nobody is accused: spy 2 gets away"),
    ],
)
def test_endings(votes: tuple[object, ...], end: str, sentence: str, tmp_path: Path) -> None:
    episode = game(votes=votes)
    assert ending(episode) == end
    assert sentence in told(episode, tmp_path)


def test_a_game_without_credit_or_words_on_the_pair_is_told_too(tmp_path: Path) -> None:
    text = told(dataclasses.replace(game(), rewards=None, advantages=None), tmp_path)
    assert "reward" not in text
    assert "advantage" not in text
    assert "differs" not in text


def test_the_analyst_and_an_invalid_vote(tmp_path: Path) -> None:
    understood = dataclasses.replace(game().turns[-1].understood, vote=None, problem="no player 9")
    assert "analyst: invalid vote  [no player 9;" in told(
        with_turn(game(), -1, seat=None, understood=understood), tmp_path
    )


def test_what_was_said_cannot_steer_the_terminal(tmp_path: Path) -> None:
    evil = dataclasses.replace(game().turns[0].understood, clue="a\x1b[2Jb\u202ec [bold red]d[/]", thought="\x07")
    text = told(with_turn(game(), 0, understood=evil), tmp_path)
    assert r"a\u001b[2Jb\u202ec [bold red]d[/]" in text
    assert not {"\x1b", "\u202e", "\x07"} & set(text)


def test_thumbnails_show_each_seat_and_the_pair(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    paths = render_episode(game(), console, tmp_path / "thumbnails")
    assert [p.name for p in paths] == [
        "000000-0000-player1-civilian.png",
        "000000-0000-player2-spy.png",
        "000000-0000-player3-civilian.png",
        "000000-0000-player4-civilian.png",
        "000000-0000-pair.png",
    ]
    assert all(str(p) in console.file.getvalue() for p in paths)
    with Image.open(paths[1]) as spy, Image.open(paths[-1]) as pair:
        assert max(spy.size) == 320  # 12x8 is scaled up
        assert pair.size == (2 * spy.width + 8, spy.height)
        assert pair.getpixel((5, 5)) == (255, 0, 0)
        assert pair.getpixel((pair.width - 5, 5)) == spy.getpixel((5, 5)) == (0, 0, 255)


def asked_again(episode: Episode) -> Episode:
    """The game with every voter asked a second time, with the same answer."""
    again = [dataclasses.replace(turn, draw=1) for turn in episode.turns if turn.stage is Stage.DECISION]
    return dataclasses.replace(episode, turns=(*episode.turns, *again))


def test_answers_of_a_voter_that_was_asked_several_times_are_counted(tmp_path: Path) -> None:
    episode = asked_again(game(votes=(1, 1, ABSTAIN)))
    assert ballots(episode) == {0: {"votes 2": 2}, 2: {"votes 2": 2}, 3: {"abstains (N/A)": 2}}
    lines = told(episode, tmp_path)
    assert lines.count("votes 2 (2 of 2)") == 2
    assert "abstains (N/A) (2 of 2)" in lines


def test_the_poster_shows_both_pictures(tmp_path: Path) -> None:
    path = tmp_path / "posters" / "game.png"
    draw_poster(game(), path)
    with Image.open(path) as image:
        colors = {color for _, color in image.convert("RGB").getcolors(1 << 20)}
    assert {(255, 0, 0), (0, 0, 255)} <= colors
