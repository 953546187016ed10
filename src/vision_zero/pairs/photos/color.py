"""sRGB and CIELAB (D65), and words for colours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""(height, width, 3), sRGB."""
Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
"""(height, width)."""

# IEC 61966-2-1, with the reference white D65 divided out
_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
) / np.array([[0.95047], [1.0], [1.08883]])
_FROM_XYZ = np.linalg.inv(_TO_XYZ)
_LINEAR = np.array([c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in np.arange(256) / 255])

_HUES = ((45, "red"), (70, "orange"), (105, "yellow"), (165, "green"), (235, "cyan"), (308, "blue"), (340, "purple"))
"""Upper ends of hue angles in the a, b plane, in degrees; red goes on after pink."""


def to_lab(rgb: Pixels) -> Floats:
    """(..., 3) sRGB bytes to L in 0-100 and a, b in about -110..110."""
    xyz = _LINEAR[rgb] @ _TO_XYZ.T
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), xyz * (24389 / 27 / 116) + 16 / 116)
    lab = np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)
    return lab.astype(np.float32)


def to_rgb(lab: Floats) -> Pixels:
    """The inverse of `to_lab`; colours that sRGB cannot show are cut to what it can."""
    fy = (lab[..., 0] + 16) / 116
    f = np.stack([fy + lab[..., 1] / 500, fy, fy - lab[..., 2] / 200], -1)
    xyz = np.where(f > 6 / 29, f**3, (f - 16 / 116) * (116 * 27 / 24389))
    linear = np.clip(xyz @ _FROM_XYZ.T, 0, 1)
    srgb = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    pixels: Pixels = np.rint(srgb * 255).astype(np.uint8)
    return pixels


def hue(lab: Floats) -> Floats:
    """Angle in the a, b plane, in degrees from 0 to 360."""
    return np.degrees(np.arctan2(lab[..., 2], lab[..., 1])) % 360


def chroma(lab: Floats) -> Floats:
    """Distance from grey."""
    return np.hypot(lab[..., 1], lab[..., 2])


def between_hues(one: Floats | float, other: Floats | float) -> Floats:
    """The smaller angle between two hues, in degrees from 0 to 180."""
    return np.asarray(np.abs((np.asarray(one) - other + 180) % 360 - 180), np.float32)


def color_word(lab: Floats) -> str:
    """A plain word for a colour of shape (3,). Example: `"dark red"`"""
    light, strength, angle = float(lab[0]), float(chroma(lab)), float(hue(lab))
    if strength < 12:
        return "black" if light < 22 else "white" if light > 85 else "gray"
    name = next((word for end, word in _HUES if angle < end), "pink")
    if name == "pink" and light < 45:
        name = "red"
    if name == "orange" and light < 50:
        name = "brown"
    return f"dark {name}" if light < 30 and name != "brown" else name


def is_skin(rgb: Pixels) -> Mask:
    """Pixels that may be human skin (Kovac et al. 2003, with the chroma box of Chai and Ngan 1999).

    Colours stronger than any skin (CIELAB chroma over 42) are let pass; some wood, sand and fur is taken for
    skin all the same: a face of a wrong colour is worse than a missed edit.
    """
    r, g, b = (rgb[..., i].astype(np.int16) for i in range(3))
    spread = rgb.max(-1).astype(np.int16) - rgb.min(-1)
    kovac = (r > 95) & (g > 40) & (b > 20) & (spread > 15) & (np.abs(r - g) > 15) & (r > g) & (r > b)
    cb = 128 - 0.168736 * r - 0.331264 * g + 0.5 * b
    cr = 128 + 0.5 * r - 0.418688 * g - 0.081312 * b
    box = (cb >= 77) & (cb <= 127) & (cr >= 133) & (cr <= 173)
    return np.asarray(kovac & box & (chroma(to_lab(rgb)) < 42))
