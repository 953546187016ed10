"""Boxes lie where pictures differ, and only there."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tests.viewer.made_runs import BALL, BLUE, RED, SIZE
from vision_zero.errors import UserError
from vision_zero.types import Picture
from vision_zero.viewer import regions
from vision_zero.viewer.regions import differing_regions


def encoded(pixels: np.ndarray, format: str = "PNG") -> Picture:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format)
    return Picture(file.getvalue())


def test_a_box_surrounds_what_changed_and_little_more() -> None:
    (box,) = differing_regions(RED, BLUE)
    left, top, width, height = box
    found = (left * SIZE[0], top * SIZE[1], (left + width) * SIZE[0], (top + height) * SIZE[1])
    assert found[0] <= BALL[0] < BALL[2] <= found[2]
    assert found[1] <= BALL[1] < BALL[3] <= found[3]
    assert np.abs(np.array(found) - BALL).max() <= 3


def test_two_places_are_two_boxes_the_larger_first() -> None:
    pixels = np.full((80, 120, 3), 128, np.uint8)
    other = pixels.copy()
    other[5:10, 5:10] = 0
    other[40:70, 60:100] = 255
    boxes = differing_regions(encoded(pixels), encoded(other))
    assert len(boxes) == 2
    assert boxes[0][0] == pytest.approx(60 / 120, abs=0.02)
    assert boxes[1][0] == pytest.approx(5 / 120, abs=0.02)


def test_compression_alone_is_no_difference() -> None:
    ramp = np.tile(np.linspace(0, 255, 160).astype(np.uint8)[None, :, None], (120, 1, 3))
    assert differing_regions(encoded(ramp), encoded(ramp, "JPEG")) == ()


def test_pictures_of_different_sizes_do_not_correspond() -> None:
    assert differing_regions(RED, encoded(np.zeros((9, 9, 3), np.uint8))) == ()


def test_what_cannot_be_decoded_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="cannot be decoded"):
        differing_regions(RED, Picture(b"\x89PNG\r\n\x1a\nbroken"))
    monkeypatch.setattr(regions, "MOST_PIXELS", 1000)
    with pytest.raises(UserError, match="120 x 80: too large"):
        differing_regions(RED, BLUE)
