"""The second game: on the same interface, with other rules."""

from __future__ import annotations

import dataclasses

import pytest

from tests.games.driving import Answer, play_texts
from tests.games.test_spy import PAIR
from vision_zero.config import GameConfig
from vision_zero.errors import UserError
from vision_zero.games import make_game
from vision_zero.games.base import Ask, Deal
from vision_zero.types import PicturePart, Role, Stage


def with_answer(vote: str) -> Answer:
    """Describes, then always picks `vote` ("right" and "wrong" look at the pictures)."""

    def answer(ask: Ask) -> str:
        said = "a cube"
        if ask.stage is Stage.DECISION:
            pictures = [p.picture for p in ask.messages[0].parts if isinstance(p, PicturePart)]
            assert pictures == [ask.view.picture, *ask.view.more_pictures]
            right = 1 + pictures.index(PAIR.original)
            said = {"right": str(right), "wrong": str(3 - right)}.get(vote, vote)
        return rf"\boxed{{{said}}}" if ask.boxed else said

    return answer


@pytest.mark.parametrize("wording", ["full", "compact"])
@pytest.mark.parametrize(("vote", "wins"), [("right", True), ("wrong", False), ("N/A", False), ("3", False)])
def test_pick(wording: str, vote: str, wins: bool) -> None:
    config = GameConfig.model_validate({"name": "pick", "civilians": 4, "votes_per_voter": 2, "wording": wording})
    game = make_game(config)
    result, ticks = play_texts(game, Deal("g", PAIR, 4), with_answer(vote))
    assert (len(ticks), len(result.turns), len(result.seats)) == (2, 7, 4)
    assert (game.facts.ticks, game.facts.turns, game.facts.seats, game.facts.spies) == (2, 7, 4, 0)
    assert {s.role for s in result.seats} == {Role.CIVILIAN}
    outcome = result.outcome
    assert (outcome.civilians_win, outcome.accused, outcome.voters) == (wins, None, 3)
    assert outcome.abstained == (3 if vote == "N/A" else 0)
    assert outcome.invalid == (3 if vote == "3" else 0)
    texts = [[getattr(p, "text", None) for p in a.ask.messages[0].parts] for a in ticks[1]]
    assert all(any(t and "a cube" in t for t in parts) for parts in texts)


def test_the_order_of_the_pictures_is_drawn_from_the_seed() -> None:
    game = make_game(GameConfig(name="pick"))

    def orders(seed: int) -> list[bool]:
        _, ticks = play_texts(game, Deal("g", PAIR, seed), with_answer("1"))
        return [a.ask.view.picture == PAIR.original for a in ticks[1]]

    assert orders(1) == orders(1)
    assert {tuple(orders(seed)) for seed in range(30)} == {(a, b) for a in (True, False) for b in (True, False)}


def test_a_pair_without_a_twin_is_refused() -> None:
    single = dataclasses.replace(PAIR, modified=None)
    with pytest.raises(UserError, match="pair-1 has no twin"):
        play_texts(make_game(GameConfig(name="pick")), Deal("g", single, 1), with_answer("1"))
