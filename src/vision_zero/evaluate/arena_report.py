"""An arena's result as a table to read and a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from vision_zero.evaluate.arena import ArenaResult
from vision_zero.evaluate.ratings import Comparison, Rating
from vision_zero.evaluate.statistics import Estimate
from vision_zero.runs.files import write_atomic

FEWEST = 10
"""Deals below which resampling them says too little of what other deals would give."""
COLORS = {"civilian": "#1f5a91", "spy": "#c8553d"}


def write_arena(result: ArenaResult, out: Path) -> None:
    """Write `result.json`, `table.md` and `arena.png` into the arena's directory."""
    write_atomic(out / "result.json", json.dumps(result.to_json(), indent=2).encode() + b"\n")
    write_atomic(out / "table.md", (table(result) + "\n").encode())
    draw(result, out / "arena.png")


def table(result: ArenaResult) -> str:
    """Win matrix, ratings and comparisons in Markdown."""
    names = result.players
    parts = [
        f"{result.games} games on {result.deals} deals, the same for all. 95 % intervals{_few(result)}.",
        "Games won by the civilians (rows) against the spy (columns):",
        markdown(["civilians \\ spy", *names], [[n, *map(_share, row)] for n, row in _rows(result)]),
    ]
    if result.ratings is not None:
        r = result.ratings
        order = sorted(range(len(names)), key=lambda k: -r.overall[k].points)
        rows = [[names[k], _points(r.civilian[k]), _points(r.spy[k]), _points(r.overall[k])] for k in order]
        parts += [
            "Ratings (Bradley-Terry, in Elo points from the mean of the role; 400 points are odds of ten to one). "
            f"Average civilians beat an average spy in {r.civilians_win.points:.0%} of games "
            f"({r.civilians_win.low:.0%} to {r.civilians_win.high:.0%}):",
            markdown(["player", "as civilians", "as spy", "overall"], rows),
        ]
    else:
        parts.append("No ratings: they need games of everybody against everybody.")
    parts += ["Two players side by side, over both roles:", "\n".join(f"- {_told(c)}" for c in result.comparisons)]
    return "\n\n".join(parts)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown with columns of equal width."""
    cells = [[cell.replace("|", r"\|") for cell in row] for row in (head, *rows)]
    widths = [max(len(row[k]) for row in cells) for k in range(len(head))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in cells]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])


def draw(result: ArenaResult, path: Path) -> None:
    """Write the win matrix beside the ratings as a PNG."""
    names, n = result.players, len(result.players)
    figure = Figure(figsize=(5 + 0.9 * n + (5 if result.ratings else 0), 2.2 + 0.7 * n), dpi=110, layout="constrained")
    axes = figure.subplots(1, 2 if result.ratings else 1, squeeze=False)[0]
    axis = axes[0]
    shares = [[cell.point if cell else float("nan") for cell in row] for row in result.matrix]
    axis.imshow(shares, cmap="RdBu", vmin=0, vmax=1, aspect="auto")
    for i, row in enumerate(result.matrix):
        for j, cell in enumerate(row):
            if cell is not None:
                color = "white" if abs(cell.point - 0.5) > 0.3 else "black"
                text = f"{cell.point:.0%}\n{cell.low:.0%}-{cell.high:.0%}"
                axis.text(j, i, text, ha="center", va="center", fontsize=9, color=color)
    axis.set_xticks(range(n), names, rotation=20, ha="right")
    axis.set_yticks(range(n), names)
    axis.set_xlabel("spy")
    axis.set_ylabel("civilians")
    axis.set_title("games won by the civilians", loc="left", fontsize=10)
    if result.ratings is not None:
        axis = axes[1]
        for shift, (role, color) in zip((-0.12, 0.12), COLORS.items(), strict=True):
            ratings: Sequence[Rating] = getattr(result.ratings, role)
            points = [r.points for r in ratings]
            # the percentile interval of a skewed bootstrap need not hold the point itself
            errors = [[max(0, r.points - r.low) for r in ratings], [max(0, r.high - r.points) for r in ratings]]
            places = [k + shift for k in range(n)]
            axis.errorbar(points, places, xerr=errors, fmt="o", color=color, capsize=3, label=f"as {role}")
        axis.axvline(0, color="#00000030", linewidth=1)
        axis.set_yticks(range(n), names)
        axis.set_ylim(n - 0.5, -0.5)
        axis.set_xlabel("Elo points from the mean of the role")
        axis.set_title("ratings, 95 % intervals", loc="left", fontsize=10)
        axis.legend(frameon=False, fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, format="png")


def _few(result: ArenaResult) -> str:
    few = result.ratings is not None and result.deals < FEWEST
    return f"; those of ratings resample deals, and are too narrow with fewer than {FEWEST}" if few else ""


def _rows(result: ArenaResult) -> list[tuple[str, tuple[Estimate | None, ...]]]:
    return list(zip(result.players, result.matrix, strict=True))


def _share(cell: Estimate | None) -> str:
    return "–" if cell is None else f"{cell.point:.0%} ({cell.low:.0%} to {cell.high:.0%})"


def _points(rating: Rating) -> str:
    return f"{round(rating.points):+d} ({round(rating.low):+d} to {round(rating.high):+d})"


def _told(c: Comparison) -> str:
    lead = "{:+d} points ({:+d} to {:+d})".format(*(round(100 * x) for x in (c.lead.point, c.lead.low, c.lead.high)))
    verdict = "told apart" if c.told_apart else "not told apart"
    if c.games_needed is None:
        return f"{c.first} - {c.second}: {lead}; came out equal in {2 * c.lead.games} games"
    needed = f"about {c.games_needed} games between them show such a difference four times in five"
    return f"{c.first} - {c.second}: {lead}; {verdict} by {2 * c.lead.games} games; {needed}"
