"""The two looks of a CLEVR-like world, as numbers: `clevr` itself and `nano`, legible at 96x64."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Light:
    """A point light. `power` is the irradiance that it gives at the origin; it falls off with distance, softly."""

    position: Vector
    color: Vector
    power: float
    shadow: bool = True


@dataclass(frozen=True)
class Style:
    """How scenes of one style are laid out and lit. Lengths are in CLEVR's units, colours are linear albedos."""

    field: tuple[float, float]
    """Objects stand at |x| and |y| below these."""
    sizes: Mapping[str, float]
    """Radius (of a cube: half its edge) by the name of the size."""
    gap: float
    """Least distance between the surfaces of two objects, measured on the ground."""
    margin: float
    """Least distance between two objects along left-right and along front-behind, so that these words are clear."""
    camera: Vector
    target: Vector
    lens: float
    """Focal length for a sensor 32 wide."""
    camera_jitter: float
    lights: Mapping[str, Light]
    light_jitter: float
    palette: Mapping[str, Vector]
    ground: float
    """Albedo of the ground."""
    ambient: tuple[float, float]
    """Light from all around, on faces that look down and on faces that look up."""
    mirrored: tuple[float, float]
    """What metal reflects where no ray is followed: the ground below it and the sky above it."""
    bounces: int
    """How often a mirror ray is followed; 0: metal reflects a sky and a ground without objects."""


def _rgb(*of_255: int) -> Vector:
    r, g, b = (v / 255 for v in of_255)
    return r, g, b


CLEVR = Style(
    field=(3.0, 3.0),
    sizes={"large": 0.7, "small": 0.35},
    gap=0.25,
    margin=0.4,
    camera=(7.4811, -6.5076, 5.3437),
    target=(0.0, 0.0, 0.0),
    lens=35.0,
    camera_jitter=0.5,
    lights={
        "key": Light((6.4467, -2.9052, 4.2584), (1.0, 0.932, 0.817), 0.46),
        "fill": Light((-4.6711, -4.0136, 3.0112), (0.762, 0.818, 1.0), 0.22, shadow=False),
        "back": Light((-1.1685, 2.646, 5.8157), (1.0, 1.0, 1.0), 0.32),
    },
    light_jitter=1.0,
    palette={
        "gray": _rgb(87, 87, 87),
        "red": _rgb(173, 35, 35),
        "blue": _rgb(42, 75, 215),
        "green": _rgb(29, 105, 20),
        "brown": _rgb(129, 74, 25),
        "purple": _rgb(129, 38, 192),
        "cyan": _rgb(41, 208, 208),
        "yellow": _rgb(255, 238, 51),
    },
    ground=0.5,
    ambient=(0.14, 0.36),
    mirrored=(0.10, 1.05),
    bounces=1,
)

NANO = Style(
    field=(3.0, 2.5),
    sizes={"large": 0.8, "small": 0.5},
    gap=0.25,
    margin=0.3,
    camera=(0.0, -8.6, 6.4),
    target=(0.0, 0.1, 0.2),
    lens=38.0,
    camera_jitter=0.0,
    lights={"key": Light((-9.0, -11.0, 16.0), (1.0, 1.0, 1.0), 0.55)},
    light_jitter=1.0,
    palette={
        "gray": (0.20, 0.20, 0.21),
        "red": (0.80, 0.03, 0.04),
        "blue": (0.03, 0.10, 0.85),
        "green": (0.03, 0.42, 0.04),
        "brown": (0.26, 0.10, 0.02),
        "purple": (0.42, 0.04, 0.62),
        "cyan": (0.03, 0.70, 0.75),
        "yellow": (0.95, 0.75, 0.02),
    },
    ground=0.62,
    ambient=(0.36, 0.62),
    mirrored=(0.05, 1.45),
    bounces=0,
)

STYLES: Mapping[str, Style] = {"clevr": CLEVR, "nano": NANO}
