"""What kind of file a picture is."""

from __future__ import annotations

import io

from PIL import Image, UnidentifiedImageError

from vision_zero.errors import UserError
from vision_zero.types import Picture


def media_type(picture: Picture) -> str:
    """The MIME type of the picture's bytes. Example: `"image/png"`"""
    try:
        with Image.open(io.BytesIO(picture.data)) as image:
            return image.get_format_mimetype() or f"image/{str(image.format).lower()}"
    except UnidentifiedImageError as e:
        raise UserError(f"picture {picture.sha[:12]} is not an image file that can be read; replace it") from e
