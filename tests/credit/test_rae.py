from __future__ import annotations

import json

import pytest

from vision_zero.credit.rae import Order, RoleAdvantage
from vision_zero.types import Role

SPY, CIVILIAN = Role.SPY, Role.CIVILIAN


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("update_then_subtract", [-0.285, -0.27075, -0.2572125, 0.1356481]),
        ("subtract_then_update", [-0.3, -0.285, -0.27075, 0.1427875]),
    ],
)
def test_a_sequence_of_rewards(order: Order, expected: list[float]) -> None:
    rae = RoleAdvantage(0.95, order)
    advantages = [r - rae.baselines_for({SPY: r})[SPY] for r in (-0.3, -0.3, -0.3, 0.1)]
    assert advantages == pytest.approx(expected, abs=1e-6)
    assert rae.baselines[SPY] == pytest.approx(-0.03565, abs=1e-5)
    assert rae.baselines[CIVILIAN] == 0


@pytest.mark.parametrize("order", ["update_then_subtract", "subtract_then_update"])
def test_without_update_the_baselines_are_only_read(order: Order) -> None:
    rae = RoleAdvantage(0.5, order)
    rae.baselines_for({SPY: -1.0, CIVILIAN: 0.5})
    before = dict(rae.baselines)
    assert rae.baselines_for({SPY: 9.0, CIVILIAN: 9.0}, update=False) == before == rae.baselines


def test_state_survives_json() -> None:
    rae = RoleAdvantage(0.9, "subtract_then_update")
    rae.baselines_for({SPY: -0.1, CIVILIAN: 0.7})
    again = RoleAdvantage(0.9, "subtract_then_update")
    again.load_state_dict(json.loads(json.dumps(rae.state_dict())))
    assert again.baselines == rae.baselines
    with pytest.raises(KeyError):
        again.load_state_dict({"spy": 0.0})
