from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator

from vision_zero.update import tally as module
from vision_zero.update.tally import Clock, Tally, TokenFigures


def test_means_are_over_values_totals_are_sums_and_peaks_maxima() -> None:
    tally = Tally()
    tally.mean("m", torch.tensor([1.0, 2.0]))
    tally.mean("m", torch.tensor([6.0]))
    tally.mean("nothing", torch.empty(0))
    tally.total("t", 2)
    tally.total("t", 3)
    tally.peak("p", torch.tensor([1.0, 7.0]))
    tally.peak("p", torch.tensor([-2.0]))
    assert tally.gathered(Accelerator(cpu=True)) == {"m": 3.0, "p": 7.0, "t": 5.0}


def test_processes_are_weighed_by_what_they_have(monkeypatch: pytest.MonkeyPatch) -> None:
    mine, other = Tally(), Tally()
    mine.mean("m", torch.tensor([1.0]))
    other.mean("m", torch.tensor([4.0, 4.0]))
    other.mean("only there", torch.tensor([5.0]))
    other.peak("p", torch.tensor([1.0]))
    monkeypatch.setattr(module, "gather_object", lambda tallies: [*tallies, other])

    class Two:
        num_processes = 2

    assert mine.gathered(Two()) == {"m": 3.0, "only there": 5.0, "p": 1.0}  # type: ignore[arg-type]


def test_token_figures_by_label_over_passes() -> None:
    figures = TokenFigures(3, torch.device("cpu"))
    for ratio in (1.0, 2.0):
        figures.add(torch.tensor([2, 0]), ratio=torch.tensor([ratio, 1.0]), kl=torch.tensor([0.0, 4.0]) * ratio)
        figures.add(torch.tensor([1]), ratio=torch.tensor([1.0]), kl=torch.tensor([3.0]))
    tally = Tally()
    figures.report(tally, ["vote", "clue"], owner=torch.tensor([0, 1, 1]))
    got = tally.gathered(Accelerator(cpu=True))
    assert got == {
        "kl": 3.0,
        "kl/clue": 1.5,
        "kl/vote": 6.0,
        "ratio": pytest.approx(3.5 / 3),
        "ratio/clue": 1.25,
        "ratio/vote": 1.0,
        "ratio/max": 2.0,
    }


def test_clock_goes_on_from_earlier_seconds() -> None:
    clock = Clock({"a": 5.0})
    with clock("a"), clock("b"):
        pass
    assert clock.seconds["a"] > 5
    assert 0 < clock.seconds["b"] < 5
