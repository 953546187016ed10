"""Picture files of every kind and every defect, decoded by the real decoder."""

from __future__ import annotations

import io
import os
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from vision_zero.pairs.reading import BadFile, as_picture, decode, inside, read_picture, to_png


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)  # type: ignore[arg-type]
    return file.getvalue()


def gradient(width: int = 24, height: int = 16) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x * 10, y * 15, 255 - x * 10], -1).astype(np.uint8))


def frames(count: int) -> list[Image.Image]:
    return [Image.new("RGB", (8, 8), (40 * i, 0, 0)) for i in range(count)]


def test_an_rgb_png_keeps_its_bytes() -> None:
    data = encoded(gradient())
    loaded = as_picture(data, "a.png", {"k": 1})
    assert loaded.picture.data == data
    assert loaded.picture.facts == {"k": 1}
    assert loaded.size == (24, 16)


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "BMP", "TIFF", "PPM"])
def test_other_formats_become_rgb_png_whatever_the_extension(format: str) -> None:
    loaded = as_picture(encoded(gradient(), format), "wrong.png")
    again = Image.open(io.BytesIO(loaded.picture.data))
    assert (again.format, again.mode, again.size) == ("PNG", "RGB", (24, 16))
    assert np.abs(np.asarray(again, int) - np.asarray(gradient(), int)).mean() < 12


def test_16_bit_grey_is_scaled_not_cut() -> None:
    grey = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    for data in (encoded(Image.fromarray(grey)), encoded(Image.fromarray(grey.astype(np.int32)), "TIFF")):
        rgb = np.asarray(decode(data, "deep.png"), int)
        assert rgb.shape == (16, 16, 3)
        assert np.abs(rgb[..., 0] - np.arange(256).reshape(16, 16)).max() == 0


@pytest.mark.parametrize("low", [-1, 70000])
def test_numbers_that_are_no_16_bit_greys_are_refused(low: int) -> None:
    with pytest.raises(BadFile, match="has values from"):
        decode(encoded(Image.fromarray(np.full((4, 4), low, np.int32)), "TIFF"), "x.tif")


def test_floating_point_pixels_are_refused() -> None:
    with pytest.raises(BadFile, match="floating point"):
        decode(encoded(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"), "x.tif")


def test_cmyk_keeps_its_colours() -> None:
    flat = Image.new("RGB", (16, 16), (200, 30, 40))
    rgb = np.asarray(decode(encoded(flat.convert("CMYK"), "JPEG", quality=95), "print.jpg"), int)
    assert np.abs(rgb - (200, 30, 40)).max() < 8


def test_palettes_are_resolved() -> None:
    image = Image.new("RGB", (8, 4), (10, 20, 30))
    image.paste((200, 100, 50), (4, 0, 8, 4))
    for format in ("PNG", "GIF"):
        assert np.array_equal(decode(encoded(image.quantize(4), format), "p"), np.asarray(image))


def test_transparent_parts_are_white_however_they_are_marked() -> None:
    alpha = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    grey_alpha = Image.new("LA", (4, 4), (0, 0))
    half = Image.new("RGBA", (4, 4), (0, 0, 0, 128))
    palette = Image.new("P", (4, 4), 3)
    palette.putpalette([0] * 12)
    assert np.asarray(decode(encoded(alpha), "a")).min() == 255
    assert np.asarray(decode(encoded(grey_alpha), "a")).min() == 255
    assert np.unique(decode(encoded(half), "a")).tolist() == [127]
    assert np.asarray(decode(encoded(palette, transparency=3), "a")).min() == 255
    key = encoded(Image.new("RGB", (4, 4), (1, 2, 3)), transparency=(1, 2, 3))
    loaded = as_picture(key, "key.png")
    assert loaded.picture.data != key
    assert np.asarray(decode(loaded.picture.data, "a")).min() == 255


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_pictures_stand_upright(format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rows run from right to left
    options = {"lossless": True} if format == "WEBP" else {"quality": 100, "subsampling": 0} if format == "JPEG" else {}
    lying = encoded(gradient(), format, exif=exif, **options)
    loaded = as_picture(lying, "turned")
    assert loaded.size == (16, 24)
    expected = np.asarray(gradient().transpose(Image.Transpose.ROTATE_270), int)
    assert np.abs(np.asarray(decode(loaded.picture.data, "again"), int) - expected).mean() < 4
    # decoding what was made turns it no second time
    assert as_picture(loaded.picture.data, "again").picture.data == loaded.picture.data


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_sequences_are_refused_and_single_frames_are_not(format: str) -> None:
    first, *rest = frames(3)
    with pytest.raises(BadFile, match=r"moving\.gif: holds 3 pictures"):
        decode(encoded(first, format, save_all=True, append_images=rest), "moving.gif")
    assert decode(encoded(first, format), "still").size == (8, 8)


def test_a_photo_with_a_second_view_is_its_first_picture() -> None:
    first, *rest = frames(2)
    assert decode(encoded(first, "MPO", save_all=True, append_images=rest), "stereo.jpg").size == (8, 8)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bombs_are_refused_before_they_are_decoded() -> None:
    # 72 million pixels in 70 kB; and one that only claims to be huge
    bomb = encoded(Image.new("1", (9000, 8000)))
    assert len(bomb) < 100_000
    with pytest.raises(BadFile, match="9000x8000 is over 64000000 pixels"):
        decode(bomb, "bomb.png")
    claims = bytearray(encoded(gradient()))
    claims[16:24] = (60000).to_bytes(4, "big") * 2
    with pytest.raises(BadFile, match=r"bomb\.png"):
        decode(bytes(claims), "bomb.png")


@pytest.mark.parametrize("data", [b"hello", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"<svg/>", b"PK\x03\x04" + bytes(40)])
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(BadFile, match=r"x\.png: is damaged, or no picture"):
        decode(data, "x.png")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_cut_files_are_refused_wherever_they_are_cut(format: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))
    data = encoded(noise, format)
    # of GIF the last two bytes are a full stop: no pixel is lost with them
    least = 3 if format == "GIF" else 1
    for lost in (*range(least, 60), *range(60, len(data), 97)):
        with pytest.raises(BadFile):
            decode(data[:-lost], f"{lost} bytes cut")


def test_what_stands_behind_the_end_of_a_png_is_not_kept() -> None:
    data = encoded(gradient())
    loaded = as_picture(data + b"<script>", "a.png")
    assert b"script" not in loaded.picture.data
    assert loaded.pixels == as_picture(data, "a.png").pixels


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_damaged_bytes_give_a_picture_or_a_bad_file_and_nothing_else(format: str) -> None:
    data, rng, refused = encoded(gradient(), format), Random(format), 0
    for _ in range(150):
        spoilt = bytearray(data)
        for _ in range(rng.randint(1, 6)):
            spoilt[rng.randrange(len(spoilt))] = rng.randrange(256)
        try:
            image = decode(bytes(spoilt), "spoilt")
        except BadFile:
            refused += 1
        else:
            assert image.mode == "RGB"
    # some damage is seen; damage to the pixels of a format without checksums cannot be
    assert refused


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    for name, reason in [
        ("empty.png", "is empty"),
        ("folder.png", "not a regular file"),
        ("pipe.png", "not a regular file"),
        ("missing.png", "does not exist"),
    ]:
        with pytest.raises(BadFile, match=reason) as refused:
            read_picture(tmp_path, name)
        assert refused.value.problem.file == str(tmp_path / name)


def test_nothing_outside_the_folder_is_read(tmp_path: Path) -> None:
    root = tmp_path / "set"
    root.mkdir()
    secret = tmp_path / "secret.png"
    secret.write_bytes(to_png(gradient()))
    (root / "own.png").write_bytes(to_png(gradient()))
    (root / "link_out.png").symlink_to(secret)
    (root / "link_in.png").symlink_to(root / "own.png")
    (root / "loop.png").symlink_to(root / "loop.png")
    (root / "up").symlink_to(tmp_path)
    for name in ("../secret.png", str(secret), "link_out.png", "up/secret.png"):
        with pytest.raises(BadFile, match="leads out of"):
            read_picture(root, name)
    for name in ("loop.png", "zero\0.png"):
        with pytest.raises(BadFile):
            read_picture(root, name)
    assert read_picture(root, "link_in.png").size == (24, 16)
    assert inside(root, "not_there.png") == root / "not_there.png"
