"""The folder that opens without a server holds the same data under the same addresses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.viewer.made_runs import BLUE, RED, make_run
from vision_zero.cli import app
from vision_zero.viewer.library import Library


def delivered(path: Path) -> tuple[str, object]:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("deliver(")
    assert text.endswith(");\n")
    address, value = json.loads("[" + text[len("deliver(") : -len(");\n")] + "]")
    return address, value


def test_a_folder_says_what_the_server_says(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs" / "a run (1)", steps=2)
    done = CliRunner().invoke(app, ["view", str(run.parent), "--static", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "a run (1): 8 games" in done.output
    reader = Library(run).reader("a run (1)")
    data = tmp_path / "out" / "data" / "runs" / "a run (1)"
    assert delivered(data / "overview.js") == ("runs/a%20run%20(1)/overview", json.loads(json.dumps(reader.overview())))
    assert delivered(data / "games" / "1.js") == ("runs/a%20run%20(1)/games/1", reader.games(1))
    assert delivered(data / "games" / "1" / "3.js") == ("runs/a%20run%20(1)/games/1/3", reader.game(1, 3))
    assert {p.name: p.read_bytes() for p in (data / "pictures").iterdir()} == {RED.sha: RED.data, BLUE.sha: BLUE.data}
    index = (tmp_path / "out" / "index.html").read_text()
    assert 'content="static"' in index
    assert "default-src 'none'" in index


def test_nothing_is_written_over(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=1)
    done = CliRunner().invoke(app, ["view", str(run), "--static", str(run)])
    assert done.exit_code == 2
    assert "is not empty" in done.output


@pytest.mark.parametrize(
    ("arguments", "word"),
    [(["nowhere"], "does not exist"), (["."], "not a run directory"), ([".", "--token", ""], "--token is empty")],
)
def test_mistakes_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], word: str) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["view", *arguments])
    assert done.exit_code == 2
    assert word in done.output
