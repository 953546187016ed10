"""Training curves as one picture: what is played above, what is learned below, the stages as bands behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from vision_zero.errors import UserError

Metrics = Mapping[str, float | int | str]
"""One step's flat metrics. Example: `{"step": 3, "stage": "clue", "win/civilian": 0.4, "update/kl": 0.01}`"""

PANELS: Mapping[str, Mapping[str, str]] = {
    "games won": {"win/civilian": "civilians", "win/spy": "spy"},
    "votes": {
        "votes/accuracy": "name the spy",
        "votes/plurality": "plurality is the spy",
        "votes/na": "abstain",
        "votes/invalid": "unreadable",
    },
    "KL to the start": {"update/kl": "KL"},
    "entropy (nats a token)": {"update/entropy": "entropy"},
}
"""Panel title -> metric -> label. A metric that no step has is left out, and so is an empty panel."""

SHARES = ("games won", "votes")
STAGE_COLORS = {"clue": "#f2c14e", "decision": "#7fb7be"}
LINE_COLORS = ("#1f5a91", "#c8553d", "#5d8a3a", "#7a4f9a")
SMOOTHING = 0.7
"""Weight of the past in the bold lines; the thin ones are the raw figures."""


def plot_curves(metrics: Sequence[Metrics], path: Path) -> None:
    """Write the curves of a run's steps as a PNG, about 1100 pixels wide.

    Steps are counted from 1 in the picture, from 0 in the metrics' `step` (or by position without it).
    Raises UserError if no step has any of the plotted metrics.
    """
    panels = {
        title: {key: label for key, label in lines.items() if any(key in m for m in metrics)}
        for title, lines in PANELS.items()
    }
    panels = {title: lines for title, lines in panels.items() if lines}
    if not panels:
        raise UserError("nothing to plot: metrics.jsonl has no step with any of the usual metrics; restore the file")
    steps = [int(m.get("step", position)) + 1 for position, m in enumerate(metrics)]
    figure = Figure(figsize=(10, 0.6 + 2.1 * len(panels)), dpi=110, layout="constrained")
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (title, lines) in zip(axes, panels.items(), strict=True):
        _shade_stages(axis, steps, [str(m.get("stage", "")) for m in metrics])
        for color, (key, label) in zip(LINE_COLORS, lines.items(), strict=False):
            points = [(s, float(m[key])) for s, m in zip(steps, metrics, strict=True) if key in m]
            _draw_line(axis, points, label, color)
        axis.set_title(title, loc="left", fontsize=10)
        axis.grid(axis="y", color="#00000018")
        axis.spines[["top", "right"]].set_visible(False)
        if title in SHARES:
            axis.set_ylim(0, 1)
            axis.yaxis.set_major_formatter("{x:.0%}")
        else:
            axis.set_ylim(bottom=0)
        if len(lines) > 1:
            axis.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=9)
    trained = [s for s in STAGE_COLORS if any(m.get("stage") == s for m in metrics)]
    bands = [Patch(color=STAGE_COLORS[s], alpha=0.3, label=f"{s} stage") for s in trained]
    if bands:
        figure.legend(handles=bands, loc="outside upper right", ncols=len(bands), frameon=False, fontsize=9)
    axes[-1].set_xlabel("step")
    axes[-1].set_xlim(steps[0] - 0.5, steps[-1] + 0.5)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")


def _shade_stages(axis: Axes, steps: Sequence[int], stages: Sequence[str]) -> None:
    for stage, group in groupby(zip(steps, stages, strict=True), key=lambda pair: pair[1]):
        members = [step for step, _ in group]
        if stage in STAGE_COLORS:
            axis.axvspan(members[0] - 0.5, members[-1] + 0.5, color=STAGE_COLORS[stage], alpha=0.3, linewidth=0)


def _draw_line(axis: Axes, points: Sequence[tuple[int, float]], label: str, color: str) -> None:
    steps, values = [s for s, _ in points], [v for _, v in points]
    smooth: list[float] = []
    for value in values:
        smooth.append(SMOOTHING * smooth[-1] + (1 - SMOOTHING) * value if smooth else value)
    axis.plot(steps, values, color=color, alpha=0.35, linewidth=0.8)
    axis.plot(steps, smooth, color=color, linewidth=2, label=label, marker="o" if len(steps) == 1 else None)
