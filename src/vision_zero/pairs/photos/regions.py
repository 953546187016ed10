"""Regions of a photo that look like one thing: compact, of one colour, unlike what surrounds them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from vision_zero.pairs.photos.color import Floats, Mask, between_hues, chroma, hue

MARGIN = 3
"""Pixels at the border of the picture that no region reaches."""
_NEAR = 14
"""Pixels within which a part of the same hue belongs to the same thing."""
_AKIN, _MOST_AKIN = 35.0, 0.35
"""A region is a shade of a larger thing if more than this share of its surroundings is within this angle of its hue."""
_SAMPLE = 4000
"""Pixels that the clusters are found on."""
_LEAST_CHROMA = 22.0
_HUE_WINDOW = 22.0
_RING = 4
"""Width in pixels of what counts as surrounding a region."""
_LEAST_CONTRAST = 12.0
"""CIELAB distance of the colours on both sides of a region's edge, its median along the edge."""
_LEAST_FILL = {"hue": 0.28, "thing": 0.45}
"""Share of its bounding box that a region covers: what is moved must be more compact than what is coloured."""


@dataclass(frozen=True)
class Region:
    """One connected part of a photo. `hue` is that of its colour window, None where colour did not define it.

    Example: `Region(mask, box=(40, 22, 120, 90), color=lab, contrast=35.2, hue=28.0)`; `box` is left, top,
    right, bottom in pixels, the ends excluded.
    """

    mask: Mask
    box: tuple[int, int, int, int]
    color: Floats
    contrast: float
    hue: float | None

    @property
    def area(self) -> int:
        return int(self.mask.sum())


def hue_regions(lab: Floats, rng: np.random.Generator, area: tuple[float, float]) -> list[Region]:
    """Connected parts that share a hue, strongest contrast first. `area`: least and most share of the picture."""
    strength, angles = chroma(lab), hue(lab)
    colorful = strength > _LEAST_CHROMA
    if colorful.mean() < area[0]:
        return []
    found = []
    for center in _centers(lab[colorful][:, 1:], 6, rng):
        angle = float(np.degrees(np.arctan2(center[1], center[0])) % 360)
        window = (between_hues(angles, angle) < _HUE_WINDOW) & (strength > max(15.0, 0.4 * float(np.hypot(*center))))
        closed = ndimage.binary_opening(ndimage.binary_closing(window, iterations=2), iterations=2)
        akin = (between_hues(angles, angle) < _AKIN) & (strength > 15)
        for region in _parts(closed, lab, area, angle):
            if _is_whole(region, closed, window) and akin[ring_of(region.mask)].mean() < _MOST_AKIN:
                found.append(region)
    return _distinct(found)


def thing_regions(lab: Floats, rng: np.random.Generator, area: tuple[float, float]) -> list[Region]:
    """Connected parts that share colour and lightness, holes filled, strongest contrast first."""
    found: list[Region] = []
    smooth = np.stack([ndimage.gaussian_filter(lab[..., c], 1.0) for c in range(3)], -1)
    centers = _centers(smooth.reshape(-1, 3), 7, rng)
    nearest = ((smooth[:, :, None] - centers) ** 2).sum(-1).argmin(-1)
    for cluster in range(len(centers)):
        mask = ndimage.binary_opening(ndimage.binary_closing(nearest == cluster, iterations=2), iterations=2)
        found += _parts(ndimage.binary_fill_holes(mask), lab, area, None)
    return _distinct(found)


def ring_of(mask: Mask, width: int = _RING) -> Mask:
    """The pixels around a region, a step away from its blurred edge."""
    near = ndimage.binary_dilation(mask, iterations=2)
    return np.asarray(ndimage.binary_dilation(near, iterations=width) & ~near)


def _centers(points: Floats, count: int, rng: np.random.Generator) -> Floats:
    """k-means (Lloyd, seeded by k-means++) on a sample; fewer centers where there are fewer distinct points."""
    sample = points[rng.choice(len(points), min(_SAMPLE, len(points)), replace=False)].astype(np.float64)
    centers = sample[rng.integers(len(sample))][None]
    for _ in range(count - 1):
        away = ((sample[:, None] - centers) ** 2).sum(-1).min(1)
        if away.max() < 1e-6:
            break
        centers = np.concatenate([centers, sample[rng.choice(len(sample), p=away / away.sum())][None]])
    for _ in range(12):
        nearest = ((sample[:, None] - centers) ** 2).sum(-1).argmin(1)
        centers = np.stack([sample[nearest == k].mean(0) for k in np.unique(nearest)])
    return np.asarray(centers, np.float32)


def _parts(mask: Mask, lab: Floats, area: tuple[float, float], angle: float | None) -> Iterator[Region]:
    height, width = mask.shape
    labels, _ = ndimage.label(mask)
    sizes = np.bincount(labels.ravel())
    for index, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        size = sizes[index]
        if not area[0] * mask.size <= size <= area[1] * mask.size:
            continue
        box = (columns.start, rows.start, columns.stop, rows.stop)
        if min(box[:2]) < MARGIN or box[2] > width - MARGIN or box[3] > height - MARGIN:
            continue
        if size < _LEAST_FILL["thing" if angle is None else "hue"] * (box[2] - box[0]) * (box[3] - box[1]):
            continue
        part = labels == index
        color = lab[part].mean(0)
        contrast = _edge_contrast(part, lab)
        if contrast >= _LEAST_CONTRAST:
            yield Region(part, box, color, contrast, angle)


def _is_whole(region: Region, closed: Mask, window: Mask) -> bool:
    """Whether most of what has this hue hereabouts is in the region; else half a thing would change."""
    left, top, right, bottom = region.box
    around = (slice(max(0, top - _NEAR), bottom + _NEAR), slice(max(0, left - _NEAR), right + _NEAR))
    if region.area < 0.6 * window[around].sum():
        return False
    labels, _ = ndimage.label(closed)
    close = np.unique(labels[around][ndimage.binary_dilation(region.mask[around], iterations=_NEAR)])
    sizes = np.bincount(labels.ravel())
    return bool(sizes[close[close > 0]].max() < 2 * region.area)


def _edge_contrast(mask: Mask, lab: Floats) -> float:
    """Median along the edge of the CIELAB distance between the mean colours within a few pixels on both sides."""
    rows, columns = np.nonzero(mask)
    pad = 3 * _RING
    around = (
        slice(max(0, rows.min() - pad), rows.max() + pad),
        slice(max(0, columns.min() - pad), columns.max() + pad),
    )
    mask, lab = mask[around], lab[around]

    def local_mean(where: Mask) -> Floats:
        weight = ndimage.uniform_filter(where.astype(np.float32), 2 * _RING + 5)
        sums = [ndimage.uniform_filter(lab[..., c] * where, 2 * _RING + 5) for c in range(3)]
        mean: Floats = np.stack(sums, -1)[edge] / np.maximum(weight[edge], 1e-6)[:, None]
        return mean

    edge = mask & ~ndimage.binary_erosion(mask)
    return float(np.median(np.linalg.norm(local_mean(mask) - local_mean(ring_of(mask)), axis=-1)))


def _distinct(regions: list[Region]) -> list[Region]:
    """Strongest contrast first; of two that are mostly the same pixels only the first."""
    kept: list[Region] = []
    for region in sorted(regions, key=lambda r: -r.contrast):
        if all((region.mask & k.mask).sum() < 0.5 * min(region.area, k.area) for k in kept):
            kept.append(region)
    return kept
