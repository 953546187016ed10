"""`vision-zero pairs import` and `export`, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from vision_zero.cli import app

RUN = CliRunner()


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    for folder, green in (("a", 0), ("b", 90)):
        (tmp_path / folder).mkdir()
        for i in range(5):
            Image.new("RGB", (12, 8), (i, green, 0)).save(tmp_path / folder / f"{i}.png")
    (tmp_path / "a" / "alone.png").write_bytes(b"")
    return tmp_path / "a", tmp_path / "b"


def test_import_check_export_and_import_again(two: tuple[Path, Path], tmp_path: Path) -> None:
    before, after = map(str, two)
    out, exported, back = (str(tmp_path / n) for n in ("set", "exported", "back"))
    done = RUN.invoke(app, ["pairs", "import", "folders", before, after, "--out", out, "--licence", "MIT"])
    assert done.exit_code == 0, done.output
    assert f"5 pairs and 0 single pictures in {out}, 1 left out" in done.output
    assert "alone.png: has no twin" in done.output
    assert RUN.invoke(app, ["pairs", "check", out]).exit_code == 0

    done = RUN.invoke(app, ["pairs", "export", out, "--out", exported, "--title", "Mine"])
    assert done.exit_code == 0, done.output
    card = (tmp_path / "exported" / "README.md").read_text()
    assert "# Mine" in card
    assert "vision-zero pairs import folders --out DIR" in card
    assert "- MIT (5)" in card

    done = RUN.invoke(app, ["pairs", "import", "hub", exported, "--out", back, "--limit", "3"])
    assert done.exit_code == 0, done.output
    for file in (tmp_path / "back").glob("*.png"):
        assert file.read_bytes() == (tmp_path / "set" / file.name).read_bytes()
    assert len(list((tmp_path / "back").glob("*_modified.png"))) == 3


def test_every_kind_names_what_it_cannot_use(tmp_path: Path) -> None:
    (tmp_path / "list.jsonl").write_text(json.dumps({"original": "gone.png"}))
    out = ["--out", str(tmp_path / "out")]
    for command, reason in [
        (["vision-zero", str(tmp_path)], "holds no picture named"),
        (["jsonl", str(tmp_path / "list.jsonl")], "does not exist"),
        (["imgedit", str(tmp_path), "--task", "all"], "holds no parquet table"),
        (["chartqa", str(tmp_path)], "is it ChartQA's?"),
        (["chartqa", str(tmp_path), "--part", "dev"], "no part 'dev'"),
        (["hub", str(tmp_path / "gone")], "cannot open the dataset"),
    ]:
        done = RUN.invoke(app, ["pairs", "import", *command, *out])
        assert done.exit_code == 2, (command, done.output)
        assert reason in done.output


def test_an_export_must_say_how_to_remake_it(two: tuple[Path, Path], tmp_path: Path) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "a" / "x_original.png")
    command = ["pairs", "export", str(two[0]), "--out", str(tmp_path / "e")]
    done = RUN.invoke(app, command)
    assert done.exit_code == 2
    assert "--remake" in done.output
    assert RUN.invoke(app, [*command, "--remake", "ask me"]).exit_code == 0
    assert "ask me" in (tmp_path / "e" / "README.md").read_text()
