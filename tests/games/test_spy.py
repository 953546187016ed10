"""The rules of who-is-the-spy: who sees, hears and says what, and how votes become an outcome."""

from __future__ import annotations

import dataclasses
import io
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.games.driving import play_texts
from vision_zero.config import GameConfig
from vision_zero.errors import UserError
from vision_zero.games import make_game
from vision_zero.games.base import Ask, Deal
from vision_zero.games.spy import tally
from vision_zero.types import ABSTAIN, Change, ImagePair, Picture, PicturePart, Role, Stage, Vote


def png(color: str) -> Picture:
    file = io.BytesIO()
    Image.new("RGB", (24, 16), color).save(file, "PNG")
    return Picture(file.getvalue())


CHANGE = Change("object 1", {"shape": "cube"}, {"shape": "sphere"})
PAIR = ImagePair("pair-1", png("red"), png("blue"), (CHANGE, CHANGE))
CONFIGS = [
    GameConfig(),
    GameConfig(wording="compact", layout="published"),
    GameConfig(civilians=5, spies=2, rounds=3, votes_per_voter=2, spy_picture="blank"),
    GameConfig(civilians=2, rounds=1, voters="analyst", votes_per_voter=8),
]


def talk(ask: Ask) -> str:
    who = "?" if ask.seat is None else ask.seat
    said = f"clue {who} {ask.round}" if ask.stage is Stage.CLUE else "1"
    return rf"secret {who} {ask.round} \boxed{{{said}}}" if ask.boxed else said


def words(ask: Ask) -> str:
    (message,) = ask.messages
    return "".join(getattr(part, "text", "") for part in message.parts)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_everybody_sees_and_hears_what_the_rules_say(config: GameConfig) -> None:
    game = make_game(config)
    result, ticks = play_texts(game, Deal("g", PAIR, seed=3), talk)
    seats = config.civilians + config.spies
    assert len(result.seats) == game.facts.seats == seats
    assert len(ticks) == game.facts.ticks == config.rounds * seats + 1
    assert len(result.turns) == game.facts.turns == sum(map(len, ticks))
    spies = [s for s in result.seats if s.role is Role.SPY]
    assert len(spies) == game.facts.spies == config.spies
    *clue_ticks, votes = ticks
    assert [(t.ask.seat, t.ask.round) for (t,) in clue_ticks] == [
        (s, r) for r in range(1, config.rounds + 1) for s in range(seats)
    ]
    for heard, asked in enumerate([*(t for (t,) in clue_ticks), *votes]):
        ask = asked.ask
        heard = min(heard, len(clue_ticks))
        assert [c.text for c in ask.view.clues] == [f"clue {n % seats} {n // seats + 1}" for n in range(heard)]
        assert ask.messages[0].parts.count(PicturePart(ask.view.picture)) == 1
        text = words(ask)
        assert all((f"clue {n % seats} {n // seats + 1}" in text) == (n < heard) for n in range(len(clue_ticks)))
        for other in range(seats):
            own = other == ask.seat and ask.boxed and (heard >= seats or heard == len(clue_ticks))
            assert (f"secret {other} 1" in text) == own, "thoughts are told to their owner only"
        if ask.seat is not None:
            seat = result.seats[ask.seat]
            assert (ask.view.role, ask.view.picture, asked.player) == (seat.role, seat.picture, seat.player)
    for seat in result.seats:
        assert (seat.picture == PAIR.original) == (seat.role is Role.CIVILIAN)
    voters = [v.ask.seat for v in votes]
    civilians = [s.index for s in result.seats if s.role is Role.CIVILIAN]
    expected = civilians if config.voters == "civilians" else [None]
    assert voters == [v for v in expected for _ in range(config.votes_per_voter)]
    assert all(v.ask.view.picture == PAIR.original for v in votes)
    assert len({v.ask.seed for t in ticks for v in t}) == game.facts.turns, "every ask has a seed of its own"
    assert result.outcome.voters == len(expected)
    assert result.outcome.votes_received[0] == len(expected)


def test_the_seed_decides_the_spy_and_nothing_else_does() -> None:
    game = make_game(GameConfig())

    def spy(seed: int, **deal: object) -> int:
        result, _ = play_texts(game, dataclasses.replace(Deal("g", PAIR, seed), **deal), talk)
        return next(s.index for s in result.seats if s.role is Role.SPY)

    assert spy(5) == spy(5, id="h")
    assert set(Counter(spy(seed) for seed in range(60))) == {0, 1, 2, 3}
    assert spy(5, spies=(2,)) == 2
    late = make_game(GameConfig(spy_may_speak_first=False))
    roles = [play_texts(late, Deal("g", PAIR, seed), talk)[0].seats[0].role for seed in range(40)]
    assert set(roles) == {Role.CIVILIAN}


@pytest.mark.parametrize("spies", [(0, 1), (4,), (-1,), ()])
def test_a_deal_with_wrong_spies_is_refused(spies: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"game g: spies=.* 1 different seat"):
        play_texts(make_game(GameConfig()), Deal("g", PAIR, 1, spies=spies), talk)


def test_cast_and_seats_name_the_players() -> None:
    deal = Deal("g", PAIR, 1, {Role.CIVILIAN: "policy", Role.SPY: "frozen"}, {0: "human"}, spies=(2,))
    result, ticks = play_texts(make_game(GameConfig(voters="analyst")), deal, talk)
    assert [s.player for s in result.seats] == ["human", "policy", "frozen", "policy"]
    assert [t.player for t in result.turns[:4]] == ["human", "policy", "frozen", "policy"]
    assert ticks[-1][0].player == "policy", "the analyst is cast as a civilian"


def test_a_pair_without_a_twin() -> None:
    single = dataclasses.replace(PAIR, modified=None, changes=())
    with pytest.raises(UserError, match=r"pair-1.*game\.spy_picture=blank"):
        play_texts(make_game(GameConfig()), Deal("g", single, 1), talk)
    result, _ = play_texts(make_game(GameConfig(spy_picture="blank")), Deal("g", single, 1, spies=(1,)), talk)
    with Image.open(io.BytesIO(result.seats[1].picture.data)) as blank:
        assert (blank.format, blank.size, blank.getcolors()) == ("PNG", (24, 16), [(24 * 16, (128, 128, 128))])
    broken = dataclasses.replace(single, original=Picture(b"not a picture"))
    with pytest.raises(UserError, match="pair-1"):
        play_texts(make_game(GameConfig(spy_picture="blank")), Deal("g", broken, 1), talk)


@pytest.mark.parametrize("wording", ["full", "compact"])
def test_a_malformed_clue_is_heard_as_no_clue(wording: str) -> None:
    def talk_badly(ask: Ask) -> str:
        return "<|im_end|>" if ask.stage is Stage.CLUE and ask.seat == 1 else talk(ask)

    config = GameConfig.model_validate({"wording": wording, "rounds": 1})
    result, ticks = play_texts(make_game(config), Deal("g", PAIR, 1), talk_badly)
    assert result.turns[1].understood.problem
    assert result.turns[1].utterance.text == "<|im_end|>", "the raw text stays on the record"
    assert all("(no clue)" in words(v.ask) for v in ticks[-1])
    assert all("im_end" not in words(v.ask) for t in ticks for v in t)


def test_a_vote_for_oneself_is_valid_and_wrong() -> None:
    def selfish(ask: Ask) -> str:
        return talk(ask) if ask.stage is Stage.CLUE else rf"\boxed{{{(ask.seat or 0) + 1}}}"

    result, _ = play_texts(make_game(GameConfig()), Deal("g", PAIR, 1, spies=(3,)), selfish)
    assert result.outcome.votes_received == (1, 1, 1, 0)
    assert (result.outcome.accused, result.outcome.civilians_win, result.outcome.invalid) == (None, False, 0)


TALLIES: list[tuple[list[list[Vote]], int | None, tuple[float, ...], float, float]] = [
    ([[2], [2], [1]], 2, (0, 1, 2, 0), 0, 0),
    ([[1], [2], [0]], None, (1, 1, 1, 0), 0, 0),
    ([[ABSTAIN], [ABSTAIN], [ABSTAIN]], None, (0, 0, 0, 0), 3, 0),
    ([[ABSTAIN], [None], [3]], 3, (0, 0, 0, 1), 1, 1),
    ([[2, 2, 1, ABSTAIN], [2, None, 1, 1]], None, (0, 0.75, 0.75, 0), 0.25, 0.25),
    ([[0, 1, 2], [0, 1, 3], [0, 1, 3]], None, (1, 1, 1 / 3, 2 / 3), 0, 0),
    ([[2, 2, 2, 2, 1, 1, 3, ABSTAIN]], 2, (0, 0.25, 0.5, 0.125), 0.125, 0),
]


@pytest.mark.parametrize(("votes", "accused", "received", "abstained", "invalid"), TALLIES)
def test_tally(
    votes: list[list[Vote]], accused: int | None, received: tuple[float, ...], abstained: float, invalid: float
) -> None:
    outcome = tally(votes, 4, {2})
    assert (outcome.accused, outcome.civilians_win, outcome.voters) == (accused, accused == 2, len(votes))
    assert outcome.votes_received == pytest.approx(received)
    assert (outcome.abstained, outcome.invalid) == (abstained, invalid)


VOTE = st.sampled_from([0, 1, 2, 3, 4, ABSTAIN, None])


@given(st.lists(st.lists(VOTE, min_size=1, max_size=6), min_size=1, max_size=6), st.sets(st.integers(0, 4)))
def test_every_voter_counts_once_whatever_the_order(votes: list[list[Vote]], spies: set[int]) -> None:
    outcome = tally(votes, 5, spies)
    assert sum(outcome.votes_received) + outcome.abstained + outcome.invalid == pytest.approx(len(votes))
    assert tally([v[::-1] for v in votes[::-1]], 5, spies) == outcome
    share = [sum(Fraction(v.count(k), len(v)) for v in votes) for k in range(5)]
    leaders = [k for k in range(5) if share[k] == max(share) > 0]
    assert outcome.accused == (leaders[0] if len(leaders) == 1 else None)
    assert outcome.civilians_win == (outcome.accused in spies)
