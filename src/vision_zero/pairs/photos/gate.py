"""Whether an edit may be used: it must be seen, look natural, and touch nothing but its place."""

from __future__ import annotations

import numpy as np

from vision_zero.pairs.photos.color import Mask, Pixels, is_skin, to_lab
from vision_zero.pairs.photos.regions import MARGIN

_SEEN = 10
"""Difference of a channel (0-255) above which a pixel counts as changed."""
_LEAST_DISTANCE = 14.0
"""Mean CIELAB distance over the changed pixels."""
_MOST_SKIN = 0.15


def refuse(before: Pixels, after: Pixels, place: Mask, area: tuple[float, float]) -> str | None:
    """Why an edit must not be used, in a few words; None if it may.

    `place` is where the edit was meant to act, `area` the least and most share of pixels that may change.
    """
    if before.shape != after.shape:
        return f"size changed from {before.shape[1::-1]} to {after.shape[1::-1]}"
    difference = np.abs(after.astype(np.int16) - before).max(-1)
    if difference[~place].any():
        return "changed outside its place"
    if _border(difference > 0):
        return "reaches the border"
    changed = difference > _SEEN
    share = float(changed.mean())
    if share < area[0]:
        return f"too small ({share:.1%} of the pixels)"
    if share > area[1]:
        return f"too large ({share:.1%} of the pixels)"
    distance = float(np.linalg.norm(to_lab(after[changed]) - to_lab(before[changed]), axis=-1).mean())
    if distance < _LEAST_DISTANCE:
        return f"too faint (CIELAB distance {distance:.0f})"
    skin = float(is_skin(before[changed]).mean())
    if skin > _MOST_SKIN:
        return f"touches what may be skin ({skin:.0%} of it)"
    return None


def _border(mask: Mask) -> bool:
    inner = np.zeros_like(mask)
    inner[MARGIN - 1 : 1 - MARGIN, MARGIN - 1 : 1 - MARGIN] = True
    return bool((mask & ~inner).any())
