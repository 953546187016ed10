"""What a person sees while a run is training."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from vision_zero.runs.progress import Progress, _clock


class Clock:
    """A clock that the test moves, so that estimates can be checked to the second."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("vision_zero.runs.progress.time.monotonic", made)
    return made


def console(terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=100, color_system=None)


def one_step(progress: Progress, clock: Clock, metrics: dict[str, object]) -> None:
    progress.phase("play")
    clock.now += 3
    progress.phase("update")
    clock.now += 2
    progress.phase("play")
    clock.now += 1
    progress.phase("other")
    clock.now += 0.5
    progress.step(metrics)


def test_plain_output_is_one_line_a_step(clock: Clock) -> None:
    out = console(terminal=False)
    with Progress(20, out) as progress:
        one_step(
            progress,
            clock,
            {"step": 0, "stage": "decision", "win/civilian": 0.4, "votes/na": 0.125, "update/kl": 0.0123},
        )
        progress.note("step 1: decision -> clue, because accuracy 0.91 >= 0.9 [bold]")
        one_step(progress, clock, {"step": 1, "stage": "clue"})
    lines = out.file.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("step 1/20  decision  civilians win 40%  N/A 12%")
    assert "KL 0.0123" in lines[0]
    assert "seconds: play 4.0, update 2.0, other 0.5" in lines[0]
    assert lines[0].endswith("left 2:04")  # 19 steps of 6.5 s
    assert lines[1] == "step 1: decision -> clue, because accuracy 0.91 >= 0.9 [bold]"
    assert lines[2].startswith("step 2/20  clue  seconds: play 4.0")


def test_terminal_shows_stage_figures_and_time_left(clock: Clock) -> None:
    out = console(terminal=True)
    with Progress(4, out) as progress:
        one_step(progress, clock, {"step": 0, "stage": "decision", "votes/accuracy": 0.45})
        progress.phase("play")
        progress.note("a note")
        progress._live.refresh()
        shown = out.file.getvalue()
    for word in ("step 1/4", "stage decision", "now play", "votes right 45%", "play 4.0 s", "left 0:20", "a note"):
        assert word in shown
    assert (
        out.file.getvalue().rstrip().splitlines()[-1].endswith("left 0:20")
    )  # a last line stays when the display goes


def test_a_resumed_run_counts_from_where_it_was(clock: Clock) -> None:
    progress = Progress(10, console(terminal=False), first_step=8)
    with progress:
        one_step(progress, clock, {})
        assert progress.seconds_left() == pytest.approx(6.5)
        one_step(progress, clock, {})
        assert progress.seconds_left() == 0


def test_time_left_follows_the_last_steps(clock: Clock) -> None:
    progress = Progress(100, console(terminal=False))
    assert progress.seconds_left() is None
    with progress:
        clock.now += 1000  # a slow first step (compiling, loading) is forgotten
        progress.step({})
        for _ in range(10):
            clock.now += 2
            progress.step({})
        assert progress.seconds_left() == pytest.approx(2 * 89)


def test_an_error_ends_the_display_and_goes_on(clock: Clock) -> None:
    out = console(terminal=True)
    with pytest.raises(RuntimeError, match="boom"), Progress(3, out):
        raise RuntimeError("boom")
    assert out.file.getvalue().endswith("\x1b[?25h") or "\x1b[?25h" in out.file.getvalue()  # the cursor is back


def test_clock_words() -> None:
    assert [_clock(s) for s in (0, 59.6, 61, 3725)] == ["0:00", "1:00", "1:01", "1:02:05"]
