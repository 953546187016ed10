"""Edits made by a model, confined to the place where they differ: models repaint a little everywhere."""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import ndimage

from vision_zero.pairs.photos.color import Mask, Pixels, to_lab
from vision_zero.pairs.photos.edits import Edit
from vision_zero.pairs.photos.gate import refuse
from vision_zero.types import Change

_CHANGED = 12.0
"""CIELAB distance, of slightly blurred pictures, above which a place counts as edited."""
_LEAST_SPOT = 0.002
"""Share of the picture below which a changed spot is the model's noise."""
_MOST_STRETCH = 0.03
"""Relative difference of the ratios of the sides beyond which the model did not keep the frame."""


def confine(before: Pixels, edited: Image.Image, instruction: str, area: tuple[float, float]) -> Edit:
    """The photo with what the model changed clearly, and nothing else of what it gave back."""
    height, width = before.shape[:2]
    change = Change("edit by instruction", {}, {"instruction": instruction})
    stretch = (edited.width / edited.height) / (width / height)
    if abs(stretch - 1) > _MOST_STRETCH:
        return Edit("model", before, change, f"the model answered {edited.width}x{edited.height} to {width}x{height}")
    answer = np.asarray(edited.resize((width, height), Image.Resampling.LANCZOS))
    place = _edited_place(before, answer)
    if not place.any():
        return Edit("model", before, change, "the model changed nothing")
    near = ndimage.binary_dilation(place, iterations=4)
    weight = np.where(near, ndimage.gaussian_filter(ndimage.binary_dilation(place, iterations=2).astype(float), 1.5), 0)
    weight = weight[..., None]
    after = np.rint(before * (1 - weight) + answer * weight).astype(np.uint8)
    return Edit("model", after, change, refuse(before, after, near, area))


def _edited_place(before: Pixels, answer: Pixels) -> Mask:
    difference = to_lab(answer) - to_lab(before)
    smooth = np.stack([ndimage.gaussian_filter(difference[..., c], 1.5) for c in range(3)], -1)
    changed = ndimage.binary_closing(np.linalg.norm(smooth, axis=-1) > _CHANGED, iterations=2)
    labels, _ = ndimage.label(changed)
    sizes = np.bincount(labels.ravel())
    large = sizes >= _LEAST_SPOT * changed.size
    large[0] = False
    return np.asarray(ndimage.binary_fill_holes(large[labels]))
