"""Where two pictures of a pair differ, as boxes to draw around it."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from scipy import ndimage

from vision_zero.errors import UserError
from vision_zero.types import Picture

Box = tuple[float, float, float, float]
"""Left, top, width, height as shares of the picture's width and height. Example: `(0.25, 0.5, 0.1, 0.2)`"""

MOST_PIXELS = 64_000_000
"""Larger pictures are not decoded: a file of a few kB can claim any size."""
_THRESHOLD = 24
"""Difference of a channel (of 255) that an eye notices and that compression alone seldom makes."""
_REACH = 0.02
"""Spots that are closer than this share of the longer side are one region."""
_MARGIN = 0.01


def differing_regions(one: Picture, other: Picture) -> tuple[Box, ...]:
    """Boxes around everything that differs, the largest first; none if the sizes differ, since nothing corresponds.

    Raises UserError if a picture cannot be decoded or is too large to be.
    """
    a, b = _pixels(one), _pixels(other)
    if a.shape != b.shape:
        return ()
    differs = np.abs(a.astype(np.int16) - b.astype(np.int16)).max(axis=2) > _THRESHOLD
    height, width = differs.shape
    reach = max(1, round(_REACH * max(height, width)))
    square = np.ones((2 * reach + 1, 2 * reach + 1), dtype=bool)
    labels, count = ndimage.label(ndimage.binary_dilation(differs, square), np.ones((3, 3)))
    labels[~differs] = 0
    margin = max(1, round(_MARGIN * max(height, width)))
    boxes = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels, count), start=1):
        if np.count_nonzero(labels[rows, columns] == number) < 2:
            continue
        left, right = max(0, columns.start - margin), min(width, columns.stop + margin)
        top, bottom = max(0, rows.start - margin), min(height, rows.stop + margin)
        boxes.append((left / width, top / height, (right - left) / width, (bottom - top) / height))
    return tuple(sorted(boxes, key=lambda box: -box[2] * box[3]))


def _pixels(picture: Picture) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(picture.data)) as image:
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise UserError(f"picture {picture.sha} is {width} x {height}: too large to be compared")
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as e:
        raise UserError(f"picture {picture.sha} cannot be decoded ({e}): restore the file") from e
