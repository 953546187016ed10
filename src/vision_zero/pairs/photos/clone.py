"""Covering a part of a picture by another part of it, so that no seam shows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage, signal, sparse
from scipy.sparse.linalg import splu

from vision_zero.pairs.photos.color import Floats, Mask, Pixels
from vision_zero.pairs.photos.regions import MARGIN, ring_of

_COARSE = 160
"""Longer side in pixels of the picture in which the place is searched."""


class Match(NamedTuple):
    """`offset`: rows and columns from here to there.

    `mismatch`: CIELAB distance of the two surroundings. `clutter`: that of what is there from the mean of its
    surroundings. The values that a tenth and 3 % of the pixels exceed.
    """

    offset: tuple[int, int]
    mismatch: float
    clutter: float


def best_match(lab: Floats, mask: Mask, least_distance: float = 0.0) -> Match | None:
    """Where else in the picture the surroundings of `mask` look the same and its inside is no busier than they.

    The place lies wholly in the picture, does not overlap `mask` and, in units of the picture's longer side, is
    at least `least_distance` away. None if there is no such place.
    """
    step = max(1, round(max(mask.shape) / _COARSE))
    height, width = (n // step * step for n in mask.shape)
    blocks = lab[:height, :width].reshape(height // step, step, width // step, step, 3)
    small = blocks.mean((1, 3))
    inner: Mask = np.asarray(mask[:height, :width].reshape(height // step, step, width // step, step).any((1, 3)))
    ring = ndimage.binary_dilation(inner, iterations=2) & ~inner
    if not ring.any():
        return None
    ring_n, inner_n = int(ring.sum()), int(inner.sum())
    # sum over the ring of (here - there)^2, for every offset at once
    distance = _slide(ring, (small**2).sum(-1))
    for c in range(3):
        distance += (small[..., c] ** 2)[ring].sum() - 2 * _slide(ring * small[..., c], small[..., c])
    edges: Floats = np.hypot(ndimage.sobel(small[..., 0], 0), ndimage.sobel(small[..., 0], 1)) / 8
    busier = np.maximum(_slide(inner, edges) / inner_n - edges[ring].mean(), 0)
    cost = np.maximum(distance, 0) / ring_n + 4 * busier**2

    rows, columns = np.nonzero(inner | ring)
    dy = np.arange(cost.shape[0])[:, None] - (small.shape[0] - 1)
    dx = np.arange(cost.shape[1])[None, :] - (small.shape[1] - 1)
    margin = 1 + MARGIN // step
    lawful = (rows.min() + dy >= margin) & (rows.max() + dy < small.shape[0] - margin)
    lawful = lawful & (columns.min() + dx >= margin) & (columns.max() + dx < small.shape[1] - margin)
    lawful &= _slide(np.asarray(inner | ring), inner.astype(np.float32)) < 0.5
    lawful &= np.hypot(dy, dx) >= least_distance * max(small.shape[:2])
    if not lawful.any():
        return None
    best = np.unravel_index(np.where(lawful, cost, np.inf).argmin(), cost.shape)
    offset = (int(dy[best[0], 0]) * step, int(dx[0, best[1]]) * step)
    return _refine(lab, mask, offset, step)


def clone(pixels: Pixels, mask: Mask, offset: tuple[int, int]) -> Pixels:
    """`pixels` with `mask` covered by what is `offset` rows and columns away, shaded to meet its new surroundings.

    The seamless cloning of Perez et al. 2003 as a membrane: the difference at the edge is spread over the
    inside as smoothly as possible. Outside `mask` nothing changes.
    """
    there = np.roll(pixels, (-offset[0], -offset[1]), (0, 1)).astype(np.float64)
    difference = pixels.astype(np.float64) - there
    number = np.full(mask.shape, -1)
    count = int(mask.sum())
    number[mask] = np.arange(count)
    rows, columns = np.nonzero(mask)
    known = np.zeros((count, 3))
    links: list[tuple[np.ndarray, np.ndarray]] = []
    for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)):
        beside = number[rows + dy, columns + dx]
        edge = beside < 0
        known[edge] += difference[rows + dy, columns + dx][edge]
        links.append((np.arange(count)[~edge], beside[~edge]))
    i, j = (np.concatenate(ends) for ends in zip(*links, strict=True))
    laplace = sparse.csc_matrix((np.full(len(i), -1.0), (i, j)), (count, count)) + 4 * sparse.eye(count, format="csc")
    out = pixels.copy()
    out[mask] = np.clip(np.rint(there[mask] + splu(laplace).solve(known)), 0, 255).astype(np.uint8)
    return out


def _slide(template: Floats | Mask, image: Floats) -> Floats:
    """Sum of template * image for each offset; index (h - 1, w - 1) is offset zero."""
    return np.asarray(signal.fftconvolve(image, template[::-1, ::-1].astype(np.float32)), np.float32)


def _refine(lab: Floats, mask: Mask, offset: tuple[int, int], step: int) -> Match | None:
    """The best offset within a step of one that was found in the small picture."""
    rows, columns = np.nonzero(ring_of(mask))
    inner_rows, inner_columns = np.nonzero(mask)
    here = lab[rows, columns]
    height, width = mask.shape
    best: Match | None = None
    for dy in range(offset[0] - step, offset[0] + step + 1):
        for dx in range(offset[1] - step, offset[1] + step + 1):
            y, x = rows + dy, columns + dx
            if min(y.min(), x.min()) < MARGIN or y.max() >= height - MARGIN or x.max() >= width - MARGIN:
                continue
            mismatch = float(np.percentile(np.linalg.norm(here - lab[y, x], axis=-1), 90))
            if best is None or mismatch < best.mismatch:
                away = lab[inner_rows + dy, inner_columns + dx] - lab[y, x].mean(0)
                best = Match((dy, dx), mismatch, float(np.percentile(np.linalg.norm(away, axis=-1), 97)))
    return best
