"""`vision-zero pairs make photos` through the command line, on real photos."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from typer.testing import CliRunner

from tests.pairs.photo_files import PHOTOS
from vision_zero.cli import app
from vision_zero.pairs.folder import read_folder
from vision_zero.types import ImagePair

RUN = CliRunner()


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_made_checked_shown_and_made_again(tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for name in ("coins.png", "chelsea.png"):
        shutil.copy(PHOTOS[name], photos / name)
    command = ["pairs", "make", "photos", "--photos", str(photos)]
    command += ["--set", "pairs.licence=CC0-1.0", "--out"]
    done = RUN.invoke(app, [*command, str(out)])
    assert done.exit_code == 0, done.output
    (pair,) = read_folder(out)
    assert isinstance(pair, ImagePair)
    assert pair.modified is not None
    assert len(pair.changes) == 1
    assert (pair.source, pair.licence) == ("photos/photos", "CC0-1.0")
    record = json.loads((out / "pairs.jsonl").read_text(encoding="utf-8"))
    assert record["id"] == pair.id
    assert record["changes"][0]["what"] == pair.changes[0].what

    # a damaged twin is found, and made again with the same bytes
    before = contents(out)
    twin = out / f"{pair.id}_modified.png"
    twin.write_bytes(twin.read_bytes()[:5000])
    checked = RUN.invoke(app, ["pairs", "check", str(out)])
    assert checked.exit_code == 1
    assert twin.name in checked.output
    assert RUN.invoke(app, [*command, str(out)]).exit_code == 0
    assert contents(out) == before
    assert RUN.invoke(app, ["pairs", "check", str(out)]).exit_code == 0
    assert RUN.invoke(app, ["pairs", "show", str(out)]).exit_code == 0
    assert (out / "contact_sheet.png").stat().st_size > 1000

    inside = RUN.invoke(app, [*command, str(photos / "pairs")])
    assert inside.exit_code == 2
    assert "lies in the folder of the photos" in inside.output
    assert not (photos / "pairs").exists()

    refused = RUN.invoke(app, [*command, str(out), "--count", "5"])
    assert refused.exit_code == 2
    assert "count" in refused.output
