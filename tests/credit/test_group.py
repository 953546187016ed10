from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision_zero.credit.group import is_flat, normalise


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        ([1, 1, 1, -0.5], [0.57735, 0.57735, 0.57735, -1.73205]),
        ([1, -1, -1, -0.5], [1.6775, -0.7625, -0.7625, -0.1525]),
        ([-1, -1, -1], [0, 0, 0]),
        ([2.49] * 7 + [-0.9], [0.37796] * 7 + [-2.64575]),
        ([1], [0]),
    ],
)
def test_normalised_groups(rewards: list[float], expected: list[float]) -> None:
    assert normalise(rewards, divide_by_std=True) == pytest.approx(expected, abs=5e-5)


def test_without_division_the_scale_of_the_rewards_stays() -> None:
    assert normalise([1, 1, 1, -0.5], divide_by_std=False) == pytest.approx([0.375, 0.375, 0.375, -1.125])
    # what division does to a group in which nobody is right: abstaining looks as good as being right
    assert max(normalise([-1, -1, -1, -0.5], True)) > 4 * max(normalise([-1, -1, -1, -0.5], False))


@pytest.mark.parametrize("divide", [True, False])
def test_noise_below_the_threshold_is_no_signal(divide: bool) -> None:
    assert normalise([0.3, 0.3 + 1e-9], divide) == [0.0, 0.0]


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=16), st.booleans())
def test_advantages_of_a_group_cancel_and_keep_the_order(rewards: list[float], divide: bool) -> None:
    advantages = normalise(rewards, divide)
    assert sum(advantages) == pytest.approx(0, abs=1e-6)
    if not is_flat(rewards):
        # rewards that differ by less than rounding may get equal advantages, but never swapped ones
        ordered = [a for _, a in sorted(zip(rewards, advantages, strict=True))]
        assert ordered == sorted(ordered)
