from __future__ import annotations

from dataclasses import replace

import pytest
from made_games import clue, game, vote

from vision_zero.config import CreditConfig
from vision_zero.credit.measures import measures, stage_measures
from vision_zero.types import ABSTAIN, StopReason


def test_accuracy_is_that_of_the_plurality_and_a_tie_identifies_nobody() -> None:
    found = game([vote(0, 1), vote(2, 1), vote(3, 0)])
    tied = game([vote(0, 1), vote(2, 0), vote(3, ABSTAIN)])
    missed = game([vote(0, 2), vote(2, 0), vote(3, 2)])
    silent = game([vote(0, ABSTAIN), vote(2, None), vote(3, ABSTAIN)])
    assert stage_measures([found, tied, missed, silent]) == (0.25, 0.25)
    with pytest.raises(ValueError, match="no games"):
        stage_measures([])


def test_measures_of_a_small_step() -> None:
    clues = [clue(0, "a cube ."), clue(1, None), clue(2, "a cube ."), clue(3, "a sphere .", ids=7)]
    cut = replace(clues[3], utterance=replace(clues[3].utterance, stop=StopReason.LENGTH))
    mixed = game([vote(0, 1), vote(2, None), vote(3, ABSTAIN)], [*clues[:3], cut])
    flat = game([vote(0, 0), vote(2, 0), vote(3, 0)], [clue(0, player="human", ids=0)])
    assert measures([mixed, flat], CreditConfig()) == pytest.approx(
        {
            "win/civilian": 0.5,
            "win/spy": 0.5,
            "votes/plurality": 0.5,
            "votes/accuracy": 1 / 6,
            "votes/na": 1 / 6,
            "votes/invalid": 1 / 6,
            "clues/malformed": 1 / 5,
            "clues/repeated": 1 / 4,
            "clues/tokens": 16 / 4,
            "clues/cut_off": 1 / 4,
            "votes/tokens": 3.0,
            "votes/cut_off": 0.0,
            "reward/clue/spy": (-0.1 + 0.1) / 2,
            "reward/clue/civilian": 0.0,
            "reward/decision": (1 - 1 - 0.5 - 3) / 6,
            "credit/flat_groups": 0.5,
        }
    )
