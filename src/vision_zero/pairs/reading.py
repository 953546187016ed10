"""Reading picture files that come from anywhere: each becomes an RGB PNG, or is refused by name with the reason."""

from __future__ import annotations

import hashlib
import io
import stat
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vision_zero.errors import UserError
from vision_zero.types import Picture

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""What is decoded, by its first bytes whatever the extension. Formats that run programs (EPS) are not among them."""
EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"})
"""File names, in lower case, that are taken for pictures when a folder is searched."""
UNREAD = frozenset({".avif", ".dng", ".eps", ".heic", ".heif", ".jp2", ".jxl", ".psd", ".svg"})
"""Those of pictures that are not read; whoever has such is told."""
PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
"""The last chunk of every PNG file."""
MOST_PIXELS = 64_000_000
MOST_BYTES = 256 << 20

_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    OverflowError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""What Pillow's decoders raise on bytes that are not what their header says."""


class Problem(NamedTuple):
    """A file that cannot be used, and why. Example: `Problem("a/x_modified.png", "is empty (0 bytes)")`"""

    file: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file}: {self.reason}"


class BadFile(UserError):
    """Raised for a file, or a row of a table, that cannot be used; work on the others can go on."""

    def __init__(self, file: Path | str, reason: str) -> None:
        self.problem = Problem(str(file), reason)
        super().__init__(str(self.problem))

    def __reduce__(self) -> tuple[Any, ...]:
        # Raised in another process, it is made here from what it was made from, not from its message.
        return type(self), (self.problem.file, self.problem.reason)


class Loaded(NamedTuple):
    """A picture, and what was seen of it in decoding it: width and height in pixels, and a hash of its pixels."""

    picture: Picture
    size: tuple[int, int]
    pixels: str


def inside(root: Path, name: str | Path) -> Path:
    """The file of that name under `root`. Raises `BadFile` if the name, or a link on the way, leads out of `root`."""
    file = root / name
    try:
        lawful = file.resolve().is_relative_to(root.resolve())
    except (OSError, ValueError, RuntimeError) as e:
        raise BadFile(file, f"is not a usable file name ({e})") from e
    if not lawful:
        raise BadFile(file, f"leads out of {root}: put a copy of the file there")
    return file


def read_bytes(root: Path, name: str | Path) -> bytes:
    """The bytes of a regular file under `root`. Raises `BadFile`."""
    file = inside(root, name)
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            raise BadFile(file, "is not a regular file")
        if status.st_size == 0:
            raise BadFile(file, "is empty (0 bytes): fetch it again or remove it")
        if status.st_size > MOST_BYTES:
            raise BadFile(file, f"has {status.st_size} bytes, over the limit of {MOST_BYTES}: scale it down")
        return file.read_bytes()
    except FileNotFoundError as e:
        raise BadFile(file, "does not exist") from e
    except OSError as e:
        raise BadFile(file, f"cannot be read ({e.strerror})") from e


def read_picture(root: Path, name: str | Path, facts: Mapping[str, Any] | None = None) -> Loaded:
    """A picture file under `root`, with `facts` about it. Raises `BadFile`."""
    return as_picture(read_bytes(root, name), root / name, facts)


def as_picture(data: bytes, name: Path | str, facts: Mapping[str, Any] | None = None) -> Loaded:
    """An encoded picture as RGB PNG; one that is an 8-bit RGB PNG already keeps its bytes. Raises `BadFile`.

    `name` is only for messages.
    """
    image, as_it_is = _decode(data, name)
    pixels = hashlib.sha256(image.tobytes()).hexdigest()
    return Loaded(Picture(data if as_it_is else to_png(image), facts), image.size, pixels)


def twins(original: Loaded, modified: Loaded, name: Path | str) -> tuple[Picture, Picture]:
    """The two pictures of a pair. Raises `BadFile` for twins of different sizes or equal pixels."""
    if original.size != modified.size:
        raise BadFile(name, f"{modified.size} pixels, its original {original.size}: twins must be of one size")
    if original.pixels == modified.pixels:
        raise BadFile(name, "is the same picture as its original: remove it to use a single picture")
    return original.picture, modified.picture


def decode(data: bytes, name: Path | str) -> Image.Image:
    """The picture as RGB, 8 bits a channel, upright (EXIF), transparent parts over white. Raises `BadFile`.

    16-bit greys are scaled to 8 bits. Refused: animations and files of several pages (which of them is the
    picture?), floating point pixels (their range is unknown), and more than `MOST_PIXELS` pixels.
    """
    return _decode(data, name)[0]


def to_png(image: Image.Image) -> bytes:
    """The bytes of a PNG file."""
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=6)
    return file.getvalue()


def _decode(data: bytes, name: Path | str) -> tuple[Image.Image, bool]:
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _refuse(image, name)
            image.load()
            end = data.rfind(PNG_END) + len(PNG_END)
            if image.format == "PNG" and end < len(PNG_END):
                # Pillow lets that pass if the pixels are there
                raise OSError("its end is missing")
            upright = ImageOps.exif_transpose(image)
            # IHDR: bit depth and colour type stand at bytes 24 and 25
            as_it_is = image.format == "PNG" and data[24:26] == b"\x08\x02" and end == len(data)
            turned = upright.size != image.size or image.getexif().get(0x0112, 1) != 1
            as_it_is = as_it_is and not turned and "transparency" not in image.info
            return _to_rgb(upright, name), as_it_is
    except UnidentifiedImageError as e:
        raise BadFile(name, f"is damaged, or no picture in any format read here ({', '.join(FORMATS)})") from e
    except _BROKEN as e:
        raise BadFile(name, f"is damaged or cut short ({e}): fetch it again or remove it") from e


def _refuse(image: Image.Image, name: Path | str) -> None:
    pixels = image.width * image.height
    if pixels > MOST_PIXELS:
        raise BadFile(name, f"{image.width}x{image.height} is over {MOST_PIXELS} pixels: scale it down")
    # a photo of several views (MPO) has its main picture first; other sequences have no main picture
    if image.format != "MPO" and getattr(image, "is_animated", False):
        raise BadFile(name, f"holds {getattr(image, 'n_frames', 'several')} pictures: save the one that is meant alone")


def _to_rgb(image: Image.Image, name: Path | str) -> Image.Image:
    if image.mode == "F":
        raise BadFile(name, "has floating point pixels of unknown range: save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            raise BadFile(name, f"has values from {grey.min()} to {grey.max()}: save it with 8 or 16 bits")
        image = Image.fromarray(((grey * 255 + 32767) // 65535).astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image.convert("RGB")
