"""Scripted players follow their rule, checked against the scenes behind real pictures."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from typing import Any, get_args

import pytest

from tests.games.driving import play_with
from vision_zero.config import ClevrPairs, GameConfig
from vision_zero.errors import UserError
from vision_zero.games import make_game
from vision_zero.games.base import Ask, Deal, PublicClue, View
from vision_zero.pairs.clevr import language
from vision_zero.pairs.clevr.source import ClevrSource
from vision_zero.players.scripted import VAGUE_CLUE, Kind, ScriptedPlayer
from vision_zero.types import ABSTAIN, Picture, Role, Stage, Turn

PLAYERS = {kind: ScriptedPlayer(kind) for kind in get_args(Kind)}
SCENE: Mapping[str, Any] = {
    "objects": [
        {"size": "large", "material": "rubber", "color": "red", "shape": "cube"},
        {"size": "small", "material": "metal", "color": "blue", "shape": "sphere"},
    ]
}
CLUES = tuple(
    PublicClue(seat, 1, text)
    for seat, text in enumerate(["a red cube .", "a green cube .", "", "a yellow sphere .", "banana", "a sphere ."])
)


@pytest.fixture(scope="module")
def source() -> ClevrSource:
    return ClevrSource(ClevrPairs(count=12, width=96, height=64, style="nano"), 5, "train")


def ask(seat: int | None, stage: Stage, clues: tuple[PublicClue, ...], seed: int = 0, boxed: bool = False) -> Ask:
    view = View(seat, None if seat is None else Role.CIVILIAN, 6, Picture(b"x", SCENE), clues)
    return Ask(view, stage, 1, 0, (), 16, boxed, seed)


def said(kind: Kind, asked: Ask) -> str:
    (utterance,) = PLAYERS[kind].respond([asked])
    return utterance.text


def played(source: ClevrSource, civilian: Kind, spy: Kind, games: int = 12, **settings: Any) -> list[Turn]:
    game = make_game(GameConfig.model_validate({"wording": "compact", **settings}))
    turns: list[Turn] = []
    for seed in range(games):
        deal = Deal("g", source[seed], seed, {Role.CIVILIAN: civilian, Role.SPY: spy})
        turns += play_with(game, deal, PLAYERS).turns
    return turns


@pytest.mark.parametrize("wording", ["full", "compact"])
@pytest.mark.parametrize("kind", get_args(Kind))
def test_every_kind_is_understood_by_the_referee_in_every_game(source: ClevrSource, kind: Kind, wording: str) -> None:
    for settings in ({}, {"spy_picture": "blank"}, {"voters": "analyst", "votes_per_voter": 3}, {"name": "pick"}):
        turns = played(source, kind, kind, 2, wording=wording, **settings)
        assert [t.understood.problem for t in turns if t.understood.problem] == []
        assert all(t.understood.clue is not None for t in turns if t.stage is Stage.CLUE)


def test_honest_and_perfect_civilians_speak_the_truth(source: ClevrSource) -> None:
    for kind in ("honest", "perfect", "cautious"):
        for t in played(source, kind, kind, 6):  # type: ignore[arg-type]
            if t.stage is Stage.CLUE and t.understood.clue:
                picture = t.shown[0].parts[0].picture  # type: ignore[union-attr]
                assert language.is_true(t.understood.clue, picture.facts or {}) is True


def test_perfect_voters_beat_chance_and_honest_spies(source: ClevrSource) -> None:
    def caught(civilian: Kind, spy: Kind) -> int:
        game = make_game(GameConfig(wording="compact"))
        cast = {Role.CIVILIAN: civilian, Role.SPY: spy}
        results = [play_with(game, Deal("g", source[seed % 12], seed, cast), PLAYERS) for seed in range(48)]
        return sum(r.outcome.civilians_win for r in results)

    honest, careful, chance = caught("perfect", "honest"), caught("perfect", "perfect"), caught("random", "honest")
    assert honest > 24 > chance
    assert careful < honest, "a spy that only agrees is harder to catch"


def test_a_voter_names_a_seat_with_most_false_clues() -> None:
    assert {said("perfect", ask(0, Stage.DECISION, CLUES, seed)) for seed in range(40)} == {"2", "4"}
    twice = (*CLUES, PublicClue(3, 2, "a cyan cube ."))
    assert {said("perfect", ask(None, Stage.DECISION, twice, seed)) for seed in range(9)} == {"4"}
    assert said("perfect", ask(3, Stage.DECISION, twice)) == "2", "nobody suspects itself"
    true = tuple(c for c in CLUES if c.seat in (0, 5))
    assert {said("honest", ask(0, Stage.DECISION, true, seed)) for seed in range(60)} == {"2", "3", "4", "5", "6"}
    assert said("cautious", ask(0, Stage.DECISION, true)) == "n/a"
    assert said("cautious", ask(0, Stage.DECISION, true, boxed=True)).endswith(r"\boxed{N/A}")
    assert said("cautious", ask(0, Stage.DECISION, twice)) == "4"
    guesses = Counter(said("random", ask(0, Stage.DECISION, twice, seed)) for seed in range(99))
    assert set(guesses) == {"2", "3", "4", "5", "6", "n/a"}


def test_ways_to_speak() -> None:
    assert said("vague", ask(0, Stage.CLUE, CLUES)) == VAGUE_CLUE
    assert said("copying", ask(0, Stage.CLUE, CLUES)) == "a sphere ."
    assert said("copying", ask(0, Stage.CLUE, ())) == VAGUE_CLUE
    assert said("honest", ask(0, Stage.CLUE, CLUES, boxed=True)).startswith(r"I am honest. \boxed{a ")
    random = {said("random", ask(0, Stage.CLUE, (), seed)) for seed in range(20)}
    assert len(random) > 10
    assert {language.is_true(text, SCENE) for text in random} <= {True, False}
    new = {said("perfect", ask(1, Stage.CLUE, CLUES[:1], seed)) for seed in range(30)}
    assert "a red cube ." not in new
    assert all(language.is_true(text, SCENE) for text in new)


def test_equal_asks_get_equal_answers_whatever_else_is_in_the_batch() -> None:
    asks = [ask(0, Stage.CLUE, CLUES, seed) for seed in range(8)]
    player = ScriptedPlayer("random", "someone")
    assert (player.name, player.version) == ("someone", "scripted-random")
    assert [u.text for u in player.respond(asks)] == [player.respond([a])[0].text for a in asks]


def test_a_picture_without_a_scene_is_refused_but_a_blind_spy_plays(source: ClevrSource) -> None:
    asked = ask(0, Stage.CLUE, CLUES)
    blank = dataclasses.replace(asked, view=dataclasses.replace(asked.view, picture=Picture(b"photo")))
    with pytest.raises(UserError, match=r"has no scene.*pairs\.kind=clevr"):
        PLAYERS["honest"].respond([blank])
    spy = dataclasses.replace(blank, view=dataclasses.replace(blank.view, role=Role.SPY))
    assert said("perfect", spy) == "a sphere ."


def test_pickers_find_the_described_picture(source: ClevrSource) -> None:
    game = make_game(GameConfig(name="pick", wording="compact"))
    right = [0, 0]
    for seed in range(24):
        for who, kind in enumerate(("perfect", "random")):
            cast = {Role.CIVILIAN: kind, Role.SPY: kind}
            deal = Deal("g", source[seed % 12], seed, cast, {0: "perfect"})
            right[who] += play_with(game, deal, PLAYERS).outcome.civilians_win
    assert right[0] > right[1]
    votes = [t.understood.vote for t in played(source, "cautious", "cautious", 12, name="pick")]
    assert ABSTAIN in votes, "some clues are true of both pictures"
