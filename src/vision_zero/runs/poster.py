"""A stored game on one sheet: both pictures, every clue, every vote. For READMEs, slides and reports."""

from __future__ import annotations

import io
from pathlib import Path
from textwrap import wrap

from matplotlib.figure import Figure
from PIL import Image

from vision_zero.runs.replay import ballots
from vision_zero.types import Episode, Role, Stage

COLORS = {Role.CIVILIAN: "#2f6f4f", Role.SPY: "#b3362b"}
WIDTH = 62
"""Characters in a line of text."""
LINE = 0.26
"""Inches that a line takes."""


def draw_poster(episode: Episode, path: Path) -> None:
    """Write the game as a PNG, about 1100 pixels wide: the common picture above the odd one, the talk beside them."""
    lines: list[tuple[str, str]] = []
    heard = None
    for turn in episode.turns:
        if turn.stage is not Stage.CLUE or turn.seat is None:
            continue
        if turn.round != heard:
            lines.append((f"round {turn.round}", "black"))
            heard = turn.round
        role = episode.seats[turn.seat].role
        name = f"player {turn.seat + 1}" + (" (spy)" if role is Role.SPY else "")
        lines += [(part, COLORS[role]) for part in wrap(f"{name}: {turn.understood.clue or '(no clue)'}", WIDTH)]
    lines.append(("votes", "black"))
    for seat, answers in ballots(episode).items():
        said = ", ".join(f"{answer} ({n} of {answers.total()})" for answer, n in answers.most_common())
        text = said if seat is None else f"player {seat + 1}: {said}"
        lines += [(part, COLORS[Role.CIVILIAN]) for part in wrap(text, WIDTH)]
    lines.append(("the spy is caught" if episode.outcome.civilians_win else "the spy gets away", "black"))

    figure = Figure(figsize=(10, max(5.2, LINE * (len(lines) + 2))), dpi=110, facecolor="white")
    titles = {Role.CIVILIAN: "what civilians see", Role.SPY: "what the spy sees"}
    held = {seat.role: seat.picture for seat in episode.seats}
    for role, picture in held.items():
        axis = figure.add_axes((0.02, 0.53 if role is Role.CIVILIAN else 0.03, 0.42, 0.42))
        axis.imshow(Image.open(io.BytesIO(picture.data)).convert("RGB"), interpolation="nearest")
        axis.set_title(titles[role], color=COLORS[role], fontsize=11)
        axis.set_axis_off()
    for row, (text, color) in enumerate(lines):
        heading = color == "black"
        height = 0.95 - row * 0.92 / len(lines)
        figure.text(0.48, height, text, color=color, fontsize=11, weight="bold" if heading else "normal", va="top")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")
