"""The rules of the runner, on a game and players made for the purpose."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from vision_zero.errors import UserError
from vision_zero.games.base import Ask, Asked, Deal, GameFacts, Result, Table, View
from vision_zero.rollouts.runner import Tick, play
from vision_zero.seeds import derive_seed
from vision_zero.types import (
    ImagePair,
    Message,
    Outcome,
    Picture,
    Role,
    Seat,
    Stage,
    StopReason,
    TextPart,
    Turn,
    Understood,
    Utterance,
)

PICTURE = Picture(b"not looked at")


class Counting:
    """Seats count aloud: seat 0 alone, then both seats at once, then both again if the sum so far is odd."""

    facts = GameFacts("counting", seats=2, spies=1, zero_sum=False, ticks=3, turns=5)

    async def play(self, table: Table) -> Result:
        seats = tuple(
            Seat(i, role, PICTURE, table.player_of(i, role)) for i, role in enumerate((Role.CIVILIAN, Role.SPY))
        )
        turns: list[Turn] = []

        def asked(seat: Seat, stage: Stage, round: int) -> Asked:
            said = "".join(t.utterance.text + "\n" for t in turns)
            seed = derive_seed(table.deal.seed, seat.index, stage, round)
            view = View(seat.index, seat.role, 2, PICTURE)
            messages = (Message("user", (TextPart(said),)),)
            return Asked(Ask(view, stage, round, 0, messages, 8, False, seed), seat.player, read)

        turns += await table.ask([asked(seats[0], Stage.CLUE, 1)])
        turns += await table.ask([asked(s, Stage.CLUE, 2) for s in seats])
        if sum(int(t.utterance.text) for t in turns) % 2:
            turns += await table.ask([asked(s, Stage.DECISION, 1) for s in seats])
        return Result(seats, tuple(turns), Outcome(None, False, (0.0, 0.0), 0.0, 0.0, 2))


def read(utterance: Utterance) -> Understood:
    return Understood(clue=str(int(utterance.text)))


class Teller:
    """Says a number that depends on its ask alone, and remembers what it was asked."""

    def __init__(self, name: str, says: str | None = None) -> None:
        self.name, self.version = name, f"{name}-weights"
        self.says = says
        self.batches: list[list[Ask]] = []

    def respond(self, asks: Sequence[Ask]) -> Sequence[Utterance]:
        self.batches.append(list(asks))
        return [Utterance(self.says or str(random.Random(a.seed).randrange(100)), StopReason.END_OF_TURN) for a in asks]


def deals(count: int, **cast: str) -> list[Deal]:
    pair = ImagePair("pair", PICTURE, PICTURE)
    roles = {Role.CIVILIAN: cast.get("civilian", "policy"), Role.SPY: cast.get("spy", "policy")}
    return [Deal(f"000003-{i:04d}", pair, seed=i, cast=roles) for i in range(count)]


def test_episodes_hold_everything_in_the_order_of_the_deals() -> None:
    episodes = play(Counting(), deals(20), {"policy": Teller("policy")})
    assert [e.id for e in episodes] == [d.id for d in deals(20)]
    assert {len(e.turns) for e in episodes} == {3, 5}, "some games are longer than others"
    for i, e in enumerate(episodes):
        assert (e.game, e.pair, e.seed) == ("counting", "pair", i)
        assert e.versions == {"policy": "policy-weights"}
        assert [(t.seat, t.stage, t.round) for t in e.turns[:3]] == [
            (0, Stage.CLUE, 1),
            (0, Stage.CLUE, 2),
            (1, Stage.CLUE, 2),
        ]
        for turn in e.turns:
            assert turn.understood.clue == turn.utterance.text
            assert turn.player == "policy"
        heard = e.turns[1].shown[0].parts[0]
        assert heard == TextPart(e.turns[0].utterance.text + "\n")


def test_all_games_share_a_tick_and_every_player_answers_once_in_it() -> None:
    a, b = Teller("a"), Teller("b")
    ticks: list[Tick] = []
    episodes = play(Counting(), deals(20, civilian="a", spy="b"), {"a": a, "b": b}, ticks.append)
    long = sum(len(e.turns) == 5 for e in episodes)
    assert [len(x) for x in a.batches] == [20, 20, long]
    assert [len(x) for x in b.batches] == [20, long]
    assert ticks == [Tick(1, 20, 20, 0), Tick(2, 40, long, 20 - long), Tick(3, 2 * long, 0, 20)]
    assert all(t.player == ("a" if t.seat == 0 else "b") for e in episodes for t in e.turns)
    assert episodes[0].versions == {"a": "a-weights", "b": "b-weights"}


def test_who_else_is_playing_changes_nothing() -> None:
    many = deals(30)
    together = {e.id: e for e in play(Counting(), many, {"policy": Teller("policy")})}
    shuffled = random.Random(0).sample(many, len(many))
    assert {e.id: e for e in play(Counting(), shuffled, {"policy": Teller("policy")})} == together
    for deal in many[:5]:
        assert play(Counting(), [deal], {"policy": Teller("policy")}) == [together[deal.id]]


def test_no_deals_no_episodes() -> None:
    assert play(Counting(), [], {}) == []


def test_an_unknown_player_is_a_users_mistake() -> None:
    with pytest.raises(UserError, match=r"000003-0000, seat 2, clue 2: no player is called 'ghost'.*policy"):
        play(Counting(), deals(3, spy="ghost"), {"policy": Teller("policy")})


@pytest.mark.parametrize("difference", [-1, 1])
def test_a_wrong_number_of_answers_is_an_error(difference: int) -> None:
    class Short(Teller):
        def respond(self, asks: Sequence[Ask]) -> Sequence[Utterance]:
            answers = list(super().respond(asks))
            return answers[:-1] if difference < 0 else [*answers, answers[0]]

    expected = rf"'policy' gave {6 + difference} answers to 6 asks \(game 000003-0000, seat 1, clue 1; .* and 2 more\)"
    with pytest.raises(RuntimeError, match=expected):
        play(Counting(), deals(6), {"policy": Short("policy")})


def test_a_failing_player_is_named_with_its_seats() -> None:
    class Broken(Teller):
        def respond(self, asks: Sequence[Ask]) -> Sequence[Utterance]:
            raise OSError("socket closed")

    with pytest.raises(
        RuntimeError, match=r"'b' failed .*game 000003-0000, seat 2, clue 2\): OSError: socket closed"
    ) as e:
        play(Counting(), deals(1, civilian="a", spy="b"), {"a": Teller("a"), "b": Broken("b")})
    assert isinstance(e.value.__cause__, OSError)


def test_a_users_mistake_stays_one() -> None:
    class Unpaid(Teller):
        def respond(self, asks: Sequence[Ask]) -> Sequence[Utterance]:
            raise UserError("set OPENAI_API_KEY")

    with pytest.raises(UserError, match=r"game 000003-0000, seat 1, clue 1.*set OPENAI_API_KEY"):
        play(Counting(), deals(1), {"policy": Unpaid("policy")})


def test_a_failing_referee_is_named_with_game_seat_and_stage() -> None:
    with pytest.raises(
        RuntimeError, match=r"game 000003-0000, seat 1, clue 1: the referee could not read 'seven'.*ValueError"
    ):
        play(Counting(), deals(2), {"policy": Teller("policy", says="seven")})


def test_failing_rules_are_named_with_the_game_and_where_it_stood() -> None:
    class Crashing(Counting):
        async def play(self, table: Table) -> Result:
            result = await super().play(table)
            if table.deal.seed == 2:
                raise ZeroDivisionError("no votes")
            return result

    with pytest.raises(
        RuntimeError, match=r"game 000003-0002, after seat 2, \w+ \d: the rules failed: ZeroDivisionError"
    ):
        play(Crashing(), deals(4), {"policy": Teller("policy")})


def test_seats_override_the_cast() -> None:
    deal = replace(deals(1)[0], seats={0: "guest"})
    [episode] = play(Counting(), [deal], {"policy": Teller("policy"), "guest": Teller("guest")})
    assert [t.player for t in episode.turns[:3]] == ["guest", "guest", "policy"]
