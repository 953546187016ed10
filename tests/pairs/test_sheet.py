"""What `pairs check` and `pairs show` tell of a folder."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from vision_zero.cli import app
from vision_zero.pairs.sheet import contact_sheet, differing_boxes, outlined, page
from vision_zero.types import Change, ImagePair, Picture


def picture(
    color: str, spots: dict[tuple[int, int, int, int], str] | None = None, size: tuple[int, int] = (80, 60)
) -> Picture:
    image = Image.new("RGB", size, color)
    for box, spot in (spots or {}).items():
        image.paste(spot, box)
    file = io.BytesIO()
    image.save(file, "PNG")
    return Picture(file.getvalue(), {"said": "<b>of it</b>"})


SPOTS = {(10, 8, 20, 16): "red", (50, 40, 62, 44): "blue"}
PAIR = ImagePair(
    "a <pair>", picture("white"), picture("white", SPOTS), (Change("dot", {"c": 1}, {"c": "<2>"}),), "made", "CC0-1.0"
)
SINGLE = ImagePair("alone", picture("green"), None)


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def pixels(image: Image.Image | Picture) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(image.data)) if isinstance(image, Picture) else image)


def test_regions_are_found_to_the_pixel() -> None:
    assert PAIR.modified is not None
    found = differing_boxes(pixels(PAIR.original), pixels(PAIR.modified))
    assert sorted(found) == [(10, 8, 19, 15), (50, 40, 61, 43)]
    assert differing_boxes(pixels(PAIR.original), pixels(PAIR.original)) == []


def test_regions_are_framed_and_the_rest_is_pale() -> None:
    image = pixels(outlined(PAIR))
    assert tuple(image[10, 12]) == (255, 0, 0)
    assert tuple(image[42, 55]) == (0, 0, 255)
    frame = (image == (230, 30, 60)).all(axis=-1)
    assert frame[8:16, 6:9].any()
    assert not frame[20:34].any()
    assert (pixels(outlined(SINGLE)) == pixels(SINGLE.original)).all()


def test_the_sheet_holds_all_three_pictures_of_each_pair() -> None:
    sheet = pixels(contact_sheet([PAIR, SINGLE, PAIR], side=80, columns=2))
    blues = np.argwhere((sheet == (0, 0, 255)).all(axis=-1))
    # twin and outline of the two pairs, on two rows of the sheet
    assert len(blues) == pytest.approx(4 * 12 * 4, abs=30)
    assert np.ptp(blues[:, 0]) > 60
    assert (sheet == (0, 128, 0)).all(axis=-1).sum() == 80 * 60


def test_the_page_needs_no_other_file_and_escapes_what_pairs_say() -> None:
    text = page([PAIR, SINGLE], "my <set>")

    class Tags(HTMLParser):
        found: list[str] = []  # noqa: RUF012

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.found.append(tag)
            for name, value in attrs:
                if name in ("src", "href"):
                    assert value is not None
                    assert value.startswith("data:image/png;base64,")

    Tags().feed(text)
    assert Tags.found.count("img") == 4
    assert "b" not in Tags.found
    assert "pair" not in Tags.found
    assert "my &lt;set&gt;" in text
    assert "c: &lt;2&gt;" in text
    inside = re.findall(r"base64,([A-Za-z0-9+/=]+)", text)
    assert base64.b64decode(inside[0]) == PAIR.original.data


def test_make_check_show(tmp_path: Path) -> None:
    out = tmp_path / "set"
    code, told, _ = run(
        "pairs",
        "make",
        "clevr",
        "--out",
        out,
        "--count",
        4,
        "--width",
        96,
        "--height",
        64,
        "--set",
        "pairs.style=nano",
        "--set",
        "pairs.objects=[3,5]",
    )
    assert (code, told) == (0, f"4 pairs in {out}\n")
    code, told, _ = run("pairs", "check", out)
    assert code == 0
    assert told.startswith("4 pairs, 0 single pictures, 0 problems")
    code, told, _ = run("pairs", "show", out, "--count", 3, "--side", 96)
    assert code == 0
    assert Image.open(out / "contact_sheet.png").width > 2 * 3 * 96
    assert (out / "contact_sheet.html").read_text(encoding="utf-8").count("<section>") == 3
    # a look at it must not keep the set from being made longer
    code, _, told = run("pairs", "make", "clevr", "--out", out, "--count", 2)
    assert code == 2
    assert "holds other pairs" in told


def test_check_names_what_is_wrong(tmp_path: Path) -> None:
    images = tmp_path / "output" / "replacement_images"
    images.mkdir(parents=True)
    for name, data in (
        ("a_original.png", PAIR.original.data),
        ("a_modified.png", b""),
        ("b_original.png", PAIR.original.data),
        ("c_modified.png", PAIR.original.data),
    ):
        (images / name).write_bytes(data)
    code, told, _ = run("pairs", "check", tmp_path)
    assert code == 1
    assert "0 pairs, 1 single pictures, 3 problems" in told
    assert "a_modified.png" in told
    assert "c_modified.png" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "nowhere"], "no folder of pairs at nowhere"),
        (["show", "nowhere"], "no folder of pairs at nowhere"),
        (["make", "charts", "--out", "x", "--set", "pairs.colour=red"], "unknown key 'pairs.charts.colour'"),
        (["make", "charts", "--out", "x", "--set", "pairs.changes=9"], "pairs.charts.changes"),
        (["make", "photos", "--out", "x"], "which photos? Name their folder with --photos"),
        (["make", "photos", "--out", "x", "--count", "3"], "--count means nothing for photos, which takes --photos"),
        (["make", "charts", "--out", "x", "--photos", "y"], "--photos means nothing for charts"),
        (["make", "clevr", "--out", "x", "--set", "game.rounds=1"], "only settings of pairs"),
        (["make", "clevr", "--out", "x", "--set", "pairs.changes=7"], "a scene may have only 4 objects"),
    ],
)
def test_what_a_user_can_mend_is_said(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, told = run("pairs", *arguments)
    assert code == 2
    assert message in told
    assert not (tmp_path / "x").exists()


def test_an_empty_folder_has_nothing_to_check_or_show(tmp_path: Path) -> None:
    for command in ("check", "show"):
        code, _, told = run("pairs", command, tmp_path)
        assert code == 2
        assert "holds no" in told
