"""Votes to rewards. Pure arithmetic on numbers; knows no episode, no model, no stage.

Sources: the paper's eqs. 1 and 4 (arXiv 2509.25541 v2); the published code's shaping of decision
rewards is the same function with other constants (`recipes/published_code.yaml`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import StrEnum
from statistics import fmean

from vision_zero.config import CreditConfig
from vision_zero.types import ABSTAIN, Vote


class Verdict(StrEnum):
    """What a single vote was worth, before any reward."""

    CORRECT = "correct"
    ABSTAIN = "abstain"
    WRONG = "wrong"
    INVALID = "invalid"


def judge(vote: Vote, spies: Collection[int]) -> Verdict:
    """Whether a vote names a spy. Example: `judge(2, {2})` is `Verdict.CORRECT`."""
    if vote is None:
        return Verdict.INVALID
    if vote == ABSTAIN:
        return Verdict.ABSTAIN
    return Verdict.CORRECT if vote in spies else Verdict.WRONG


def whole_votes(votes: Sequence[Vote], seats: int) -> tuple[float, ...]:
    """Votes received by each seat if every answer counts as one vote (published code).

    Example: `whole_votes([1, 1, "N/A", 0], 3)` is `(1.0, 2.0, 0.0)`.
    """
    return tuple(float(sum(v == seat for v in votes)) for seat in range(seats))


def clue_rewards(votes: Sequence[float], spies: Collection[int], beta: float, lam: float) -> tuple[float, ...]:
    """One reward a seat from the votes that each seat received; they always sum to zero (paper eq. 1).

    With mean votes `s` over the `n_s` spies and `c` over the `n_c` civilians, and `v` the seat's own:

        spy       -beta           * (s - c) - lam * (v - s)
        civilian  +beta * n_s/n_c * (s - c) - lam * (v - c)

    The first term pits the sides against each other and cancels over all seats; the second shares blame
    inside a side and cancels within it. For one spy the spy's second term is 0 and this is eq. 1.

    Raises ValueError if a side is empty.
    """
    spy_votes = [v for seat, v in enumerate(votes) if seat in spies]
    civilian_votes = [v for seat, v in enumerate(votes) if seat not in spies]
    if not spy_votes or not civilian_votes:
        raise ValueError(f"{len(votes)} seats with spies {sorted(spies)}: clue rewards need at least one seat a side")
    s, c = fmean(spy_votes), fmean(civilian_votes)
    share = len(spy_votes) / len(civilian_votes)
    return tuple(
        -beta * (s - c) - lam * (v - s) if seat in spies else beta * share * (s - c) - lam * (v - c)
        for seat, v in enumerate(votes)
    )


def decision_reward(verdict: Verdict, well_formed: bool, config: CreditConfig) -> float:
    """Reward of one vote: its verdict's constant (paper eq. 4), plus or minus the format bonus, plus the
    bonus for a correct one (both 0 in the paper).

    Example: `decision_reward(Verdict.ABSTAIN, True, CreditConfig())` is -0.5.
    """
    constant = {
        Verdict.CORRECT: config.correct + config.correct_bonus,
        Verdict.ABSTAIN: config.abstain,
        Verdict.WRONG: config.wrong,
        Verdict.INVALID: config.invalid,
    }[verdict]
    return constant + (config.format_bonus if well_formed else -config.format_bonus)
