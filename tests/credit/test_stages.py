from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision_zero.config import StageConfig
from vision_zero.credit.stages import StageChange, StageScheduler
from vision_zero.types import Stage

PAPER = StageConfig()


def changes(config: StageConfig, steps: int, accuracy: float, na: float = 0.0) -> list[StageChange]:
    scheduler = StageScheduler(config)
    return [c for _ in range(steps) if (c := scheduler.update(accuracy, na)) is not None]


def short(found: list[StageChange]) -> list[tuple[str, int, str]]:
    return [(f"{c.old[0]}>{c.new[0]}", c.step, c.cause) for c in found]


P, T = "patience", "threshold"


@pytest.mark.parametrize(
    ("accuracy", "expected"),
    [
        (1.0, [(20, P), (40, P), (45, T), (65, P), (70, T), (90, P), (95, T)]),
        (0.8, [(20, P), (25, T), (45, P), (65, P), (85, P)]),
        (0.6, [(20, P), (25, T), (45, P), (50, T), (70, P), (75, T), (95, P), (100, T)]),
        (0.4, [(20, P), (25, T), (45, P), (50, T), (70, P), (75, T), (95, P), (100, T)]),
    ],
)
def test_switches_of_the_papers_constants_at_constant_accuracy(
    accuracy: float, expected: list[tuple[int, str]]
) -> None:
    found = changes(PAPER, 100, accuracy)
    assert [(c.step, c.cause) for c in found] == expected
    assert [c.new for c in found] == [Stage.CLUE, Stage.DECISION] * (len(found) // 2) + [Stage.CLUE] * (len(found) % 2)


def test_without_patience_the_papers_run_never_leaves_decision_at_ordinary_accuracy() -> None:
    patient = StageConfig(patience=None)
    assert changes(patient, 100, 0.9) == []
    assert short(changes(patient, 50, 1.0)) == [("d>c", 45, "threshold")]
    assert short(changes(patient, 60, 0.95)) == [("d>c", 58, "threshold")]


def test_bias_correction_lets_good_voters_switch_at_the_minimum_dwell() -> None:
    found = changes(StageConfig(bias_correction=True), 30, 0.95)
    assert short(found) == [("d>c", 5, "threshold"), ("c>d", 25, "patience"), ("d>c", 30, "threshold")]


def test_abstentions_keep_voters_in_school_and_send_them_back() -> None:
    config = StageConfig(bias_correction=True, rho=0.5)
    assert changes(config, 19, 0.95, na=0.2) == []
    scheduler = StageScheduler(config)
    for _ in range(5):
        scheduler.update(1.0, 0.0)
    assert scheduler.stage is Stage.CLUE
    back = [scheduler.update(1.0, 0.9) for _ in range(5)][-1]
    assert back is not None
    assert (back.cause, back.new) == ("threshold", Stage.DECISION)
    assert "abstain" in back.reason


def test_every_switch_says_why_in_a_sentence() -> None:
    forced, due = changes(PAPER, 25, 0.8)
    assert forced.reason.startswith("decision -> clue after step 20: forced after 20 steps")
    assert "0.513" in forced.reason  # 0.8 (1 - 0.95^20)
    assert due.reason == "clue -> decision after step 25: voters err too often: error EMA 0.422 >= 0.4"


@pytest.mark.parametrize("length", [1, 3])
def test_a_fixed_cycle(length: int) -> None:
    scheduler = StageScheduler(StageConfig(schedule="cycle", cycle_length=length, patience=None))
    trained = []
    for _ in range(4 * length):
        trained.append(scheduler.stage)
        scheduler.update(random.Random(0).random(), 0.9)
    assert trained == ([Stage.DECISION] * length + [Stage.CLUE] * length) * 2


@pytest.mark.parametrize("only", ["clue", "decision"])
def test_pure_schedules_stay(only: str) -> None:
    config = StageConfig(schedule=only, min_dwell=1, patience=1)
    assert changes(config, 50, 1.0) == []
    assert StageScheduler(config).stage == only


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=80),
    st.integers(0, 79),
    st.booleans(),
)
def test_a_reloaded_scheduler_goes_on_as_if_nothing_had_happened(
    measured: list[tuple[float, float]], cut: int, correction: bool
) -> None:
    config = StageConfig(min_dwell=2, patience=7, rho=0.8, accuracy_up=0.6, bias_correction=correction)
    whole, first = StageScheduler(config), StageScheduler(config)
    expected = [whole.update(*m) for m in measured]
    found = [first.update(*m) for m in measured[:cut]]
    second = StageScheduler(config)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    found += [second.update(*m) for m in measured[cut:]]
    assert found == expected
    assert (second.stage, second.accuracy, second.na) == (whole.stage, whole.accuracy, whole.na)


def test_a_dwell_is_never_shorter_than_the_minimum_nor_longer_than_the_patience() -> None:
    rng = random.Random(3)
    scheduler = StageScheduler(StageConfig(rho=0.3, accuracy_up=0.5, error_up=0.5, na_down=0.5))
    steps = [c.step for _ in range(500) if (c := scheduler.update(rng.random(), rng.random() / 2))]
    dwells = [b - a for a, b in zip([0, *steps], steps, strict=False)]
    assert min(dwells) == 5
    assert max(dwells) <= 20
    assert len(set(dwells)) > 3
