"""Drawing by pixel: shapes and words on Agg, the rasteriser of matplotlib, without figures and axes.

Nothing is placed for us, so nothing can move between twins; and words are measured before they are drawn.
Coordinates are pixels from the lower left corner.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends import backend_agg
from matplotlib.colors import to_rgba
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path
from matplotlib.transforms import Bbox, IdentityTransform
from numpy.typing import NDArray

from vision_zero.pairs.charts.styles import Font

RendererAgg: Any = backend_agg.RendererAgg  # not typed
_SETTINGS: Any = {"text.hinting": "force_autohint", "text.antialiased": True, "path.simplify": False}
"""The settings that reach the pixels, so that a user's matplotlibrc cannot."""
_DPI = 72
"""At which a point is a pixel."""


@dataclass(frozen=True)
class Box:
    """A rectangle. Example: `Box(40, 30, 470, 280)`"""

    left: float
    bottom: float
    right: float
    top: float

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.top - self.bottom

    def inside(self, other: Box) -> bool:
        return (
            self.left >= other.left
            and self.right <= other.right
            and self.bottom >= other.bottom
            and self.top <= other.top
        )

    def overlaps(self, other: Box) -> bool:
        return (
            self.left < other.right and other.left < self.right and self.bottom < other.top and other.bottom < self.top
        )


@dataclass(frozen=True)
class Label:
    """Words. `across` and `up` say which point of them stands at (x, y): 0 left and baseline, 1 right and top.

    They turn about that point by `turn` degrees, against the clock.
    Example: `Label("Norway", 80, 20, font, 12, "#222")`
    """

    text: str
    x: float
    y: float
    font: Font
    size: float
    color: str
    bold: bool = False
    across: float = 0.0
    up: float = 0.0
    turn: float = 0.0

    def origin(self) -> tuple[float, float]:
        """Where the baseline starts."""
        width, _, _ = _extent(self.text, self.font, self.bold, self.size)
        return self._turned(-self.across * width, -self.up * cap_height(self.font, self.size))

    def box(self) -> Box:
        """The smallest upright rectangle about the words."""
        width, above, below = _extent(self.text, self.font, self.bold, self.size)
        left, base = -self.across * width, -self.up * cap_height(self.font, self.size)
        corners = [self._turned(x, y) for x in (left, left + width) for y in (base - below, base + above)]
        xs, ys = zip(*corners, strict=True)
        return Box(min(xs), min(ys), max(xs), max(ys))

    def _turned(self, x: float, y: float) -> tuple[float, float]:
        c, s = math.cos(math.radians(self.turn)), math.sin(math.radians(self.turn))
        return self.x + c * x - s * y, self.y + s * x + c * y


@dataclass(frozen=True)
class Shape:
    """A filled or stroked path. `snap` moves its edges to whole pixels: for upright rectangles and straight rules."""

    path: Path
    fill: str | None = None
    stroke: str | None = None
    width: float = 0.0
    opacity: float = 1.0
    dash: tuple[float, ...] = ()
    snap: bool = False


def rectangle(box: Box, fill: str | None, stroke: str | None = None, width: float = 0.0) -> Shape:
    """An upright rectangle."""
    corners = [(box.left, box.bottom), (box.right, box.bottom), (box.right, box.top), (box.left, box.top)]
    return Shape(Path([*corners, corners[0]], closed=True), fill, stroke, width, snap=True)


def polygon(points: Sequence[tuple[float, float]], fill: str, opacity: float = 1.0) -> Shape:
    """A filled outline, closed by itself."""
    return Shape(Path([*points, points[0]], closed=True), fill, opacity=opacity)


def rule(a: tuple[float, float], b: tuple[float, float], stroke: str, width: float = 1.0) -> Shape:
    """A straight upright or level line."""
    return Shape(Path([a, b]), None, stroke, width, snap=True)


def curve(points: Sequence[tuple[float, float]], stroke: str, width: float, dash: tuple[float, ...] = ()) -> Shape:
    """A line through points."""
    return Shape(Path(points), None, stroke, width, dash=dash)


def dot(x: float, y: float, radius: float, fill: str, stroke: str, square: bool = False) -> Shape:
    """A round or square mark with a thin outline."""
    if square:
        return rectangle(Box(x - radius, y - radius, x + radius, y + radius), fill, stroke, 1.0)
    return Shape(Path.circle((x, y), radius), fill, stroke, 1.0)


def slice_of_ring(
    x: float, y: float, inner: float, outer: float, start: float, end: float, fill: str, edge: str
) -> Shape:
    """The part of a disc, or of a ring, between two angles in degrees."""
    arc = Path.arc(start, end)
    circle, codes = np.asarray(arc.vertices), np.array(arc.codes)
    rim = circle * outer
    if inner > 0:
        back, back_codes = circle[::-1] * inner, codes.copy()
    else:
        back, back_codes = np.zeros((1, 2)), np.array([Path.LINETO])
    back_codes[0] = Path.LINETO
    points = np.concatenate([rim, back, rim[:1]]) + np.array([x, y])
    return Shape(Path(points, np.concatenate([codes, back_codes, [Path.CLOSEPOLY]])), fill, edge, 1.2)


class Canvas:
    """A picture being drawn. Use as a context: inside it matplotlib's settings are ours."""

    def __init__(self, width: int, height: int, background: str) -> None:
        self.box = Box(0, 0, width, height)
        self._settings = matplotlib.rc_context(_SETTINGS)
        self._renderer = RendererAgg(width, height, _DPI)
        self._background = background

    def __enter__(self) -> Canvas:
        self._settings.__enter__()
        self.draw([rectangle(self.box, self._background)])
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._settings.__exit__(kind, error, at)

    def draw(self, things: Iterable[Shape | Label]) -> None:
        """Draw, later things over earlier ones."""
        for thing in things:
            if isinstance(thing, Label):
                self._write(thing)
            else:
                self._trace(thing)

    def pixels(self) -> NDArray[np.uint8]:
        """The picture so far, (height, width, 3), a copy."""
        return np.array(self._renderer.buffer_rgba())[..., :3]

    def keep(self) -> Any:
        """The picture so far, to come back to with `back_to`."""
        return self._renderer.copy_from_bbox(Bbox.from_extents(0, 0, self.box.right, self.box.top))

    def back_to(self, kept: Any) -> None:
        self._renderer.restore_region(kept)

    def _write(self, label: Label) -> None:
        gc = self._renderer.new_gc()
        gc.set_foreground(label.color)
        x, y = label.origin()
        # this one renderer counts rows of words from the top
        self._renderer.draw_text(
            gc,
            round(x),
            round(self.box.top - y),
            label.text,
            _properties(label.font, label.bold, label.size),
            label.turn,
        )

    def _trace(self, shape: Shape) -> None:
        gc = self._renderer.new_gc()
        gc.set_alpha(shape.opacity)
        gc.set_linewidth(shape.width if shape.stroke else 0.0)
        gc.set_foreground(to_rgba(shape.stroke or shape.fill or "none", shape.opacity), isRGBA=True)
        gc.set_snap(shape.snap)
        gc.set_joinstyle("round")
        if shape.dash:
            gc.set_dashes(0, list(shape.dash))
        face = None if shape.fill is None else to_rgba(shape.fill, shape.opacity)
        self._renderer.draw_path(gc, shape.path, IdentityTransform(), face)


@lru_cache(maxsize=256)
def cap_height(font: Font, size: float) -> float:
    """Height of a capital letter above the baseline."""
    return _extent("H", font, False, size)[1]


@lru_cache(maxsize=4096)
def _extent(text: str, font: Font, bold: bool, size: float) -> tuple[float, float, float]:
    """Width, height above the baseline, depth below it."""
    with matplotlib.rc_context(_SETTINGS):
        width, height, depth = _ruler().get_text_width_height_descent(text, _properties(font, bold, size), False)
    return width, height - depth, depth


@lru_cache(maxsize=1)
def _ruler() -> Any:
    return RendererAgg(8, 8, _DPI)


@lru_cache(maxsize=256)
def _properties(font: Font, bold: bool, size: float) -> FontProperties:
    return FontProperties(fname=font.bold if bold else font.regular, size=size)
