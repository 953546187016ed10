"""Read by lmms-eval in its own environment, beside the task of our table; nothing imports it."""

from __future__ import annotations

import base64
import io
from typing import Any

from PIL import Image


def pictures(row: dict[str, Any]) -> list[Image.Image]:
    """The picture of a row of the table."""
    return [Image.open(io.BytesIO(base64.b64decode(row["image"]))).convert("RGB")]
