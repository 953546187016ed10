from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision_zero.config import CreditConfig
from vision_zero.credit.rewards import Verdict, clue_rewards, decision_reward, judge, whole_votes
from vision_zero.types import ABSTAIN

NA = None


def rewards_of(votes: list[int | None], seats: int) -> list[float]:
    """Seats counted from 1 and spy 2, as in the facts; None is an abstention."""
    cast = [ABSTAIN if v is None else v - 1 for v in votes]
    return list(clue_rewards(whole_votes(cast, seats), {1}, 0.1, 0.1))


@pytest.mark.parametrize(
    ("seats", "votes", "expected"),
    [
        (5, [2, 2, 2, 2], [0.1, -0.4, 0.1, 0.1, 0.1]),
        (5, [1, 1, 1, 1], [-0.325, 0.1, 0.075, 0.075, 0.075]),
        (5, [1, 3, 4, 5], [-0.025, 0.1, -0.025, -0.025, -0.025]),
        (5, [2, 2, 1, NA], [-0.03125, -0.175, 0.06875, 0.06875, 0.06875]),
        (4, [2, 2, 2, 2, 1, 1, 3, NA], [0.0, -0.3, 0.1, 0.2]),
        (4, [2] * 8, [0.8 / 3, -0.8, 0.8 / 3, 0.8 / 3]),
        (4, [1] * 8, [-0.8 * 7 / 9, 0.8 / 3, 0.8 * 2 / 9, 0.8 * 2 / 9]),
        (4, [NA] * 8, [0.0, 0.0, 0.0, 0.0]),
    ],
)
def test_clue_rewards_of_known_votes(seats: int, votes: list[int | None], expected: list[float]) -> None:
    assert rewards_of(votes, seats) == pytest.approx(expected, abs=1e-9)


@given(
    votes=st.lists(st.floats(0, 64), min_size=2, max_size=9),
    spies=st.integers(1, 8),
    beta=st.floats(-2, 2),
    lam=st.floats(-2, 2),
)
def test_clue_rewards_sum_to_zero_for_any_votes(votes: list[float], spies: int, beta: float, lam: float) -> None:
    spies = min(spies, len(votes) - 1)
    assert sum(clue_rewards(votes, range(spies), beta, lam)) == pytest.approx(0, abs=1e-9)


def test_of_two_spies_the_suspected_one_pays_more_and_both_pay_for_the_side() -> None:
    suspected, quiet, *civilians = clue_rewards([3, 0, 0, 0, 0], {0, 1}, 0.1, 0.1)
    assert (suspected, quiet) == pytest.approx((-0.3, 0.0))
    assert civilians == pytest.approx([0.1, 0.1, 0.1])


@pytest.mark.parametrize("spies", [set(), {0, 1, 2}])
def test_a_game_with_one_side_only_is_refused(spies: set[int]) -> None:
    with pytest.raises(ValueError, match="at least one seat a side"):
        clue_rewards([1, 0, 0], spies, 0.1, 0.1)


def test_votes_are_judged_against_the_spies() -> None:
    assert [judge(v, {1, 3}) for v in (1, 3, 0, ABSTAIN, None)] == [
        Verdict.CORRECT,
        Verdict.CORRECT,
        Verdict.WRONG,
        Verdict.ABSTAIN,
        Verdict.INVALID,
    ]


def test_decision_rewards_of_the_paper_and_of_the_published_code() -> None:
    paper = CreditConfig()
    assert [decision_reward(v, False, paper) for v in Verdict] == [1.0, -0.5, -1.0, -1.0]
    code = CreditConfig(correct=1.2, abstain=-0.6, wrong=-1.2, invalid=-1.2, format_bonus=0.3, correct_bonus=0.99)
    assert [decision_reward(v, True, code) for v in Verdict] == pytest.approx([2.49, -0.3, -0.9, -0.9])
    assert [decision_reward(v, False, code) for v in Verdict] == pytest.approx([1.89, -0.9, -1.5, -1.5])
