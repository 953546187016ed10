"""How charts look: fonts, palettes, themes. What is drawn from is listed here; who draws is `look`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from random import Random

import matplotlib
from matplotlib.colors import to_hex, to_rgb

from vision_zero.errors import UserError


@dataclass(frozen=True)
class Font:
    """Two files of a family. Example: `Font("DejaVu Sans", ".../DejaVuSans.ttf", ".../DejaVuSans-Bold.ttf")`"""

    name: str
    regular: str
    bold: str


@dataclass(frozen=True)
class Theme:
    """Colours of everything that is not data."""

    background: str
    plot: str
    ink: str
    faint: str
    """Second line of the title, source, ticks."""
    grid: str
    dark: bool = False


@dataclass(frozen=True)
class Look:
    """All choices of a picture that have nothing to do with its table."""

    font: Font
    theme: Theme
    colors: tuple[str, ...]
    one_color: bool
    """Bars of a single series have one colour, or one each."""
    grid: bool
    frame: bool
    """A line all about the plot, or only where its axes are."""
    title_left: bool
    legend: str
    """`right`, `top` or `bottom`."""
    thickness: float
    """Of bars, as a share of the room they have."""
    markers: str
    """`round`, `square` or `none`."""
    ticks: int
    """About how many steps a value axis has."""
    thousands: bool
    """Ticks as 12k, or as 12,000."""
    names_beside: bool
    """The names of a pie's slices stand beside them, not in a legend."""

    def color(self, index: int) -> str:
        """The colour of a series or slice; past the palette's end paler ones."""
        color = self.colors[index % len(self.colors)]
        return color if index < len(self.colors) else mix(color, self.theme.background, 0.5)


SHIPPED = {
    "DejaVu Sans": ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf"),
    "DejaVu Serif": ("DejaVuSerif.ttf", "DejaVuSerif-Bold.ttf"),
    "DejaVu Sans Mono": ("DejaVuSansMono.ttf", "DejaVuSansMono-Bold.ttf"),
    "STIX": ("STIXGeneral.ttf", "STIXGeneralBol.ttf"),
}
"""The fonts that come with matplotlib and have all characters that charts use."""

THEMES = (
    Theme("#ffffff", "#ffffff", "#222222", "#5a5a5a", "#dddddd"),
    Theme("#fbf7ee", "#fbf7ee", "#2e2a25", "#6b6357", "#e3dccd"),
    Theme("#ffffff", "#ebebf0", "#262626", "#595959", "#ffffff"),
    Theme("#f2f5f8", "#ffffff", "#1f2d3d", "#52606d", "#dfe6ed"),
    Theme("#1e1f26", "#1e1f26", "#f0f0f0", "#b4b4bd", "#3a3c47", dark=True),
    Theme("#10202b", "#152a38", "#e8f1f5", "#a9bcc7", "#2c4555", dark=True),
)

PALETTES = {
    "okabe-ito": ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"),
    "tol-bright": ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377"),
    "tol-muted": ("#332288", "#ddcc77", "#117733", "#cc6677", "#88ccee", "#882255"),
    "tableau": ("#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#b07aa1", "#76b7b2"),
    "set": ("#1b9e77", "#d95f02", "#7570b3", "#e7298a", "#66a61e", "#a6761d"),
    "earth": ("#8c510a", "#35978f", "#bf812d", "#01665e", "#c7914a", "#543005"),
    "office": ("#2f5597", "#c55a11", "#7f7f7f", "#bf9000", "#5b9bd5", "#548235"),
    "news": ("#006ba2", "#db444b", "#379a8b", "#e3a30c", "#9a607f", "#3ebcd2"),
}
DARK_PALETTES = {
    "neon": ("#4cc9f0", "#f9c74f", "#90be6d", "#f94144", "#c77dff", "#f8961e"),
    "pastel": ("#8dd3c7", "#fdb462", "#bebada", "#fb8072", "#b3de69", "#80b1d3"),
    "okabe-ito": ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#d55e00"),
}
COLOR_BLIND_SAFE = ("okabe-ito", "tol-bright", "tol-muted")
"""Palettes by Okabe and Ito (2008) and Paul Tol (2021) that stay apart in the common kinds of colour blindness."""


def look(rng: Random, fonts: Sequence[Font]) -> Look:
    """Draw a look."""
    theme = rng.choice(THEMES)
    colors = list(rng.choice(list((DARK_PALETTES if theme.dark else PALETTES).values())))
    start = rng.randrange(len(colors))
    return Look(
        font=rng.choice(fonts),
        theme=theme,
        colors=tuple(colors[start:] + colors[:start]),
        one_color=rng.random() < 0.65,
        grid=theme.plot != theme.background or rng.random() < 0.7,
        frame=rng.random() < 0.3,
        title_left=rng.random() < 0.5,
        legend=rng.choice(("right", "top", "bottom")),
        thickness=rng.uniform(0.55, 0.85),
        markers=rng.choice(("round", "square", "none")),
        ticks=rng.randint(4, 6),
        thousands=rng.random() < 0.4,
        names_beside=rng.random() < 0.5,
    )


def mix(a: str, b: str, share: float) -> str:
    """A colour between two: `share` of the way from a to b."""
    red, green, blue = ((1 - share) * x + share * y for x, y in zip(to_rgb(a), to_rgb(b), strict=True))
    return to_hex((red, green, blue))


def ink_on(color: str) -> str:
    """Black or white, whichever is easier to read on a colour."""
    red, green, blue = to_rgb(color)
    return "#111111" if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else "#ffffff"


@cache
def find_font(name: str) -> Font:
    """A font that matplotlib ships, or one of an installed package in the entry point group `fonts_ttf`.

    Raises `UserError` listing what is there.
    """
    if name in SHIPPED:
        folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
        regular, bold = (str(folder / file) for file in SHIPPED[name])
        return Font(name, regular, bold)
    installed: dict[str, str] = {}
    for point in entry_points(group="fonts_ttf"):
        installed.update(point.load())
    if name not in installed:
        raise UserError(
            f"pairs.fonts: no font {name!r}; there are {', '.join([*SHIPPED, *sorted(installed)])}. "
            "More come with packages such as font-roboto, font-lato and font-source-sans-pro: install one"
        )
    bold_name = name.removesuffix("Regular").removesuffix("Medium") + "Bold"
    return Font(name, installed[name], installed.get(bold_name, installed[name]))


def print_of(font: Font) -> str:
    """Hash of a font's files: other files draw other pictures."""
    digest = hashlib.sha256()
    for file in (font.regular, font.bold):
        digest.update(Path(file).read_bytes())
    return digest.hexdigest()
