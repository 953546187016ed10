"""Real photos without a download: those that scikit-image and scikit-learn ship, and pictures drawn by the tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import skimage
import sklearn
from PIL import Image

_SKIMAGE = Path(skimage.__file__).parent / "data"
_SKLEARN = Path(sklearn.__file__).parent / "datasets" / "images"

PHOTOS = {
    **{name: _SKIMAGE / name for name in ("astronaut.png", "chelsea.png", "coins.png", "motorcycle_left.png")},
    **{name: _SKLEARN / name for name in ("china.jpg", "flower.jpg")},
}


def pixels(name: str, side: int = 480) -> np.ndarray:
    image = Image.open(PHOTOS[name]).convert("RGB")
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return np.asarray(image)


def lawn_with(boxes: dict[tuple[int, int, int, int], tuple[int, int, int]], size: tuple[int, int]) -> np.ndarray:
    """A noisy grey-green ground with plain boxes on it; boxes are left, top, right, bottom."""
    width, height = size
    noise = np.random.default_rng(1).integers(-6, 7, (height, width, 1))
    out = np.clip(np.array([120, 135, 115]) + noise, 0, 255)
    for (left, top, right, bottom), color in boxes.items():
        out[top:bottom, left:right] = np.array(color) + noise[top:bottom, left:right] // 2
    return np.clip(out, 0, 255).astype(np.uint8)
