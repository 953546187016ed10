"""Pairs to look at: originals, twins and where they differ, as one picture and as a page that needs no other file."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from vision_zero.types import ImagePair, Picture

_DIFFERENT = 8
"""Smallest difference of a channel that counts: less is the noise of compression."""
_RED = (230, 30, 60)
_GAP, _LINE = 8, 16

Pixels = NDArray[np.uint8]


def differing_boxes(a: Pixels, b: Pixels) -> list[tuple[int, int, int, int]]:
    """Left, top, right, bottom (ends included) of every region in which two pictures (height, width, 3) differ.

    What lies a few pixels apart is one region.
    """
    changed = (np.abs(a.astype(np.int16) - b) > _DIFFERENT).any(axis=-1)
    near = max(2, min(changed.shape) // 60)
    labels, _ = ndimage.label(ndimage.binary_dilation(changed, np.ones((3, 3), bool), iterations=near))
    boxes = []
    for rows, columns in ndimage.find_objects(labels):
        part = np.argwhere(changed[rows, columns])
        (top, left), (bottom, right) = part.min(0), part.max(0)
        boxes.append((columns.start + left, rows.start + top, columns.start + right, rows.start + bottom))
    return [tuple(int(v) for v in box) for box in boxes]  # type: ignore[misc]


def outlined(pair: ImagePair) -> Image.Image:
    """The twin, pale, with every differing region framed at full strength; the original if it is a single picture."""
    before = _open(pair.original)
    if pair.modified is None:
        return before
    after = _open(pair.modified)
    pale = Image.blend(after.convert("L").convert("RGB"), Image.new("RGB", after.size, (255, 255, 255)), 0.6)
    draw = ImageDraw.Draw(pale)
    width = max(1, min(after.size) // 160)
    for left, top, right, bottom in differing_boxes(np.asarray(before), np.asarray(after)):
        region = (max(0, left - 2), max(0, top - 2), min(after.width, right + 3), min(after.height, bottom + 3))
        pale.paste(after.crop(region), region[:2])
        draw.rectangle((region[0] - width, region[1] - width, region[2], region[3]), outline=_RED, width=width)
    return pale


def contact_sheet(pairs: Sequence[ImagePair], side: int = 300, columns: int = 2) -> Image.Image:
    """One picture of many pairs: original, twin and differing regions side by side, with the name above.

    `side` is the width of each picture in pixels; `columns` pairs stand beside each other.
    """
    font = ImageFont.load_default(12)
    tiles = [_tile(pair, side, font) for pair in pairs]
    rows = [tiles[i : i + columns] for i in range(0, len(tiles), columns)]
    heights = [max(t.height for t in row) for row in rows]
    sheet = Image.new("RGB", (columns * (tiles[0].width + _GAP) + _GAP, sum(heights) + _GAP), "white")
    y = _GAP
    for row, height in zip(rows, heights, strict=True):
        for i, tile in enumerate(row):
            sheet.paste(tile, (_GAP + i * (tile.width + _GAP), y))
        y += height
    return sheet


def page(pairs: Sequence[ImagePair], title: str) -> str:
    """An HTML page of pairs with their change logs and facts. Pictures are inside it; what pairs say is escaped."""
    parts = [_HEAD.format(title=html.escape(title), count=len(pairs))]
    for pair in pairs:
        pictures = [("original", pair.original.data)]
        if pair.modified is not None:
            pictures += [("modified", pair.modified.data), ("where they differ", _png(outlined(pair)))]
        figures = "".join(
            f'<figure><img alt="{what}" src="data:image/png;base64,{base64.b64encode(data).decode()}">'
            f"<figcaption>{what}</figcaption></figure>"
            for what, data in pictures
        )
        about = " · ".join(html.escape(t) for t in (pair.source, pair.licence) if t)
        parts.append(
            f"<section><h2>{html.escape(pair.id)}</h2><p>{about}</p><div>{figures}</div>{_changes(pair)}{_facts(pair)}"
            "</section>"
        )
    return "".join(parts) + "</main>"


_HEAD = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width">
<style>
body{{font:15px/1.4 system-ui,sans-serif;margin:0;background:#fff;color:#222}}
main{{max-width:1200px;margin:auto;padding:1rem}}
section{{border-top:1px solid #ccc;padding:.5rem 0}}
h2{{font-size:1rem;margin:.3rem 0}} p{{margin:0;color:#666}}
section>div{{display:grid;grid-template-columns:repeat(auto-fit,minmax(220px,1fr));gap:.6rem}}
figure{{margin:0}} img{{width:100%;height:auto;display:block;border:1px solid #ddd}}
figcaption{{font-size:.8rem;color:#666}} td,th{{text-align:left;padding:.1rem .8rem .1rem 0}}
pre{{white-space:pre-wrap;font-size:.75rem}}
@media(prefers-color-scheme:dark){{body{{background:#181a1f;color:#ddd}} p,figcaption{{color:#999}}}}
</style><main><h1>{title}</h1><p>{count} pairs</p>
"""


def _changes(pair: ImagePair) -> str:
    if not pair.changes:
        return ""
    rows = "".join(
        "<tr>"
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in (c.what, _said(c.before), _said(c.after)))
        + "</tr>"
        for c in pair.changes
    )
    return f"<table><tr><th>what</th><th>original</th><th>modified</th></tr>{rows}</table>"


def _facts(pair: ImagePair) -> str:
    if pair.original.facts is None:
        return ""
    text = json.dumps(pair.original.facts, indent=1, ensure_ascii=False)
    return f"<details><summary>facts of the original</summary><pre>{html.escape(text)}</pre></details>"


def _said(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{k}: {v}" for k, v in values.items())


def _tile(pair: ImagePair, side: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> Image.Image:
    pictures = [_open(pair.original)]
    if pair.modified is not None:
        pictures += [_open(pair.modified), outlined(pair)]
    height = max(round(p.height * side / p.width) for p in pictures)
    tile = Image.new("RGB", (3 * side + 2 * 2, height + _LINE + _GAP), "white")
    ImageDraw.Draw(tile).text((0, 0), pair.id, fill=(60, 60, 60), font=font)
    for i, picture in enumerate(pictures):
        scaled = picture.resize((side, round(picture.height * side / picture.width)), Image.Resampling.LANCZOS)
        tile.paste(scaled, (i * (side + 2), _LINE))
    return tile


def _open(picture: Picture) -> Image.Image:
    return Image.open(io.BytesIO(picture.data)).convert("RGB")


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
