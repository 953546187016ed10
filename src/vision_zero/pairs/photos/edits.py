"""Edits that need no model: another colour, a thing gone, a thing twice. Deterministic for a generator's seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import ndimage

from vision_zero.pairs.photos.clone import best_match, clone
from vision_zero.pairs.photos.color import Floats, Pixels, between_hues, chroma, color_word, hue, to_lab, to_rgb
from vision_zero.pairs.photos.gate import refuse
from vision_zero.pairs.photos.regions import Region, hue_regions, thing_regions
from vision_zero.types import Change

EditName = Literal["recolour", "remove", "paste"]

_TURNS = (80.0, 110.0, 140.0, 180.0, 220.0, 250.0, 280.0)
"""Degrees by which a hue is turned."""
_MOST_MISMATCH = 14.0
"""CIELAB distance of the surroundings here and there (see `Match`) beyond which a seam or a wrong texture shows."""
_MOST_CLUTTER = 18.0
"""CIELAB distance of what is at the other place from its surroundings (see `Match`)."""
_MOST_MOVED = 0.06
"""Share of the picture beyond which a covered or doubled region looks wrong."""
_LEAST_DISTANCE = 0.15
"""Between a thing and its double, in units of the longer side."""
_TRIED = 6
"""Regions tried for each kind of edit, those of the strongest contrast."""


@dataclass(frozen=True)
class Edit:
    """A twin and what differs in it. `refused` says why it must not be used; None if it may."""

    name: EditName | Literal["model"]
    after: Pixels
    change: Change
    refused: str | None


def edits(pixels: Pixels, names: Sequence[EditName], area: tuple[float, float], seed: int) -> Iterator[Edit]:
    """Tries edits on a photo, the asked kinds in turn, good ones and refused ones.

    `area` is the least and most share of pixels that may change. The kinds and regions come in an order that
    depends on `seed` alone.
    """
    rng = np.random.default_rng(seed)
    lab = to_lab(pixels)
    hues = hue_regions(lab, rng, area) if "recolour" in names else []
    moved = (area[0], min(area[1], _MOST_MOVED))
    things = thing_regions(lab, rng, moved) if {"remove", "paste"} & set(names) else []
    rounds = []
    for order, name in enumerate(names[i] for i in rng.permutation(len(names))):
        regions = (hues if name == "recolour" else things)[:_TRIED]
        rounds += [(rank, order, name, region) for rank, region in enumerate(regions)]
    for _, _, name, region in sorted(rounds, key=lambda r: r[:2]):
        if name == "recolour":
            yield _recolour(pixels, lab, region, area, rng)
        else:
            yield _move(pixels, lab, region, name, area)


def _recolour(pixels: Pixels, lab: Floats, region: Region, area: tuple[float, float], rng: np.random.Generator) -> Edit:
    mask = _soft(region, lab)
    angle = np.radians(rng.choice(_TURNS))
    turned = lab.copy()
    a, b = lab[..., 1], lab[..., 2]
    turned[..., 1], turned[..., 2] = a * np.cos(angle) - b * np.sin(angle), a * np.sin(angle) + b * np.cos(angle)
    place = mask > 0
    after = pixels.copy()
    blend = mask[place, None]
    after[place] = np.rint(pixels[place] * (1 - blend) + to_rgb(turned[place]) * blend).astype(np.uint8)
    old, new = color_word(region.color), color_word(to_lab(after[region.mask]).mean(0))
    change = Change(_where(region, pixels), {"color": old}, {"color": new})
    same = f"the new colour is still {old}" if old == new else None
    return Edit("recolour", after, change, refuse(pixels, after, place, area) or same)


def _soft(region: Region, lab: Floats) -> Floats:
    """How much of each pixel belongs to the region, from 0 to 1: soft at its edge and where its hue fades."""
    assert region.hue is not None
    near = ndimage.binary_dilation(region.mask, iterations=3)
    away = between_hues(hue(lab), region.hue)
    by_hue = np.clip((50 - away) / 20, 0, 1) * np.clip((chroma(lab) - 6) / 10, 0, 1)
    by_place = ndimage.gaussian_filter(ndimage.binary_dilation(region.mask, iterations=1).astype(np.float32), 1.2)
    inside = np.maximum(by_hue, ndimage.binary_erosion(region.mask, iterations=3))
    return np.where(near, by_place * inside, 0).astype(np.float32)


def _move(pixels: Pixels, lab: Floats, region: Region, name: EditName, area: tuple[float, float]) -> Edit:
    """Cover a region by its like elsewhere (remove), or elsewhere by the region (paste)."""
    # squares, so that the corners that opening took off a region are covered too
    reach = max(3, round(max(region.mask.shape) / 120))
    mask = ndimage.binary_dilation(region.mask, ndimage.generate_binary_structure(2, 2), iterations=reach)
    what = _where(region, pixels)
    word = color_word(region.color)
    there = {"thing": f"a {word} thing"}
    change = Change(what, there, {}) if name == "remove" else Change(what, {"copies": 1}, {"copies": 2})
    match = best_match(lab, mask, _LEAST_DISTANCE if name == "paste" else 0.0)
    if match is None:
        return Edit(name, pixels, change, "there is no room for it elsewhere")
    if match.mismatch > _MOST_MISMATCH:
        return Edit(name, pixels, change, f"no place has like surroundings (CIELAB distance {match.mismatch:.0f})")
    if match.clutter > _MOST_CLUTTER:
        return Edit(name, pixels, change, f"no place is free of other things (CIELAB distance {match.clutter:.0f})")
    offset = match.offset
    place = mask
    if name == "paste":
        place, offset = np.roll(mask, offset, (0, 1)), (-offset[0], -offset[1])
    after = clone(pixels, place, offset)
    return Edit(name, after, change, refuse(pixels, after, place, area))


def _where(region: Region, pixels: Pixels) -> str:
    """Example: `"region at the upper left (40,22)-(120,90)"`"""
    height, width = pixels.shape[:2]
    left, top, right, bottom = region.box
    row = ("upper", "middle", "lower")[min(2, 3 * (top + bottom) // (2 * height))]
    column = ("left", "centre", "right")[min(2, 3 * (left + right) // (2 * width))]
    return f"region at the {row} {column} ({left},{top})-({right},{bottom})"
