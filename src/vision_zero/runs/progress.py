"""What a person sees while a run is training: a live display on a terminal, one plain line a step elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

SHOWN = {
    "speed/games_per_second": ("games/s", "{:.1f}"),
    "win/civilian": ("civilians win", "{:.0%}"),
    "win/spy": ("spy wins", "{:.0%}"),
    "votes/accuracy": ("votes right", "{:.0%}"),
    "votes/na": ("N/A", "{:.0%}"),
    "update/kl": ("KL", "{:.4f}"),
    "update/entropy": ("entropy", "{:.2f}"),
}
"""Metric -> label and format. A metric that a step does not have is not shown."""

_OTHER = "other"
_RECENT = 10
"""Steps over which the time left is estimated."""


class Progress:
    """Shows a run of `total_steps` steps, of which `first_step` were done before (a resumed run).

    Use as a context manager. Anything else that is to be printed meanwhile goes through `note` or through
    the same console, so that it does not tear the live display.
    """

    def __init__(self, total_steps: int, console: Console | None = None, first_step: int = 0) -> None:
        self._total, self._done = total_steps, first_step
        self._console = console or Console()
        self._phase, self._phase_began = _OTHER, time.monotonic()
        self._spent: dict[str, float] = {}
        self._split: dict[str, float] = {}
        self._metrics: Mapping[str, Any] = {}
        self._ends: deque[float] = deque(maxlen=_RECENT + 1)
        self._started = time.monotonic()
        # Live asks for the picture four times a second, so that the clock and the phase stay fresh in long phases
        self._live = Live(get_renderable=self._render, console=self._console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Progress:
        self._started = self._phase_began = time.monotonic()
        self._ends.append(self._started)
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._console.is_terminal:
            self._live.stop()
            if self._metrics:
                self._console.print(self._line())

    def phase(self, name: str) -> None:
        """Say what is being done from now on, e.g. "play"; its time is shown under that name."""
        now = time.monotonic()
        self._spent[self._phase] = self._spent.get(self._phase, 0.0) + now - self._phase_began
        self._phase, self._phase_began = name, now

    def step(self, metrics: Mapping[str, Any]) -> None:
        """A step has ended, with these metrics (`step`, counted from 0, is optional)."""
        self.phase(_OTHER)
        other = self._spent.pop(_OTHER, 0.0)
        self._split, self._spent = {**self._spent, _OTHER: other}, {}
        self._done = int(metrics["step"]) + 1 if "step" in metrics else self._done + 1
        self._ends.append(time.monotonic())
        self._metrics = dict(metrics)
        if not self._console.is_terminal:
            self._console.print(self._line(), soft_wrap=True)

    def note(self, text: str) -> None:
        """Print a line that stays, e.g. why the stage was switched."""
        self._console.print(Text(text), soft_wrap=True)

    def seconds_left(self) -> float | None:
        """Estimate from the last few steps; None before the first step has ended."""
        steps = len(self._ends) - 1
        if steps < 1:
            return None
        return (self._ends[-1] - self._ends[0]) / steps * (self._total - self._done)

    def _line(self) -> Text:
        parts = [f"step {self._done}/{self._total}"]
        if "stage" in self._metrics:
            parts.append(str(self._metrics["stage"]))
        parts += [f"{label} {value}" for label, value in self._figures()]
        split = ", ".join(f"{name} {seconds:.1f}" for name, seconds in self._split.items())
        if split:
            parts.append(f"seconds: {split}")
        left = self.seconds_left()
        parts.append(f"left {_clock(left)}" if left is not None else "")
        return Text("  ".join(parts))

    def _figures(self) -> list[tuple[str, str]]:
        return [
            (label, form.format(self._metrics[name])) for name, (label, form) in SHOWN.items() if name in self._metrics
        ]

    def _render(self) -> Panel:
        head = Table.grid(expand=True, padding=(0, 1))
        head.add_column(no_wrap=True)
        head.add_column(ratio=1)
        head.add_column(no_wrap=True, justify="right")
        left = self.seconds_left()
        elapsed = time.monotonic() - self._started
        clock = _clock(elapsed) + (f", left {_clock(left)}" if left is not None else "")
        head.add_row(
            Text(f"step {self._done}/{self._total}", style="bold"),
            ProgressBar(total=self._total, completed=self._done),
            Text(clock),
        )
        now = Text()
        if "stage" in self._metrics:
            now.append("stage ").append(str(self._metrics["stage"]), style="bold cyan").append("   ")
        now.append("now ").append(self._phase, style="bold")
        figures = Text("   ").join(Text(label + " ").append(value, style="bold") for label, value in self._figures())
        split = Text("   ").join(Text(f"{name} {seconds:.1f} s") for name, seconds in self._split.items())
        split.stylize("dim")
        return Panel(Group(head, now, *[line for line in (figures, split) if line]), title="Vision-Zero")


def _clock(seconds: float) -> str:
    """Example: `_clock(3725) == "1:02:05"`"""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
