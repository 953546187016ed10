"""What the page reads is what the run directory holds, and nothing outside of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.viewer.made_runs import BLUE, HOSTILE, RED, add_step, make_run
from vision_zero.errors import UserError
from vision_zero.evaluate.statistics import wilson
from vision_zero.runs.serialise import dumps
from vision_zero.runs.store import RunStore
from vision_zero.viewer import library
from vision_zero.viewer.library import Library, RunReader


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> RunReader:
    """Only for reading."""
    return RunReader(make_run(tmp_path_factory.mktemp("runs") / "first"))


def test_a_run_at_a_glance(reader: RunReader) -> None:
    view = reader.overview()
    assert [m["step"] for m in view["metrics"]] == view["with_games"] == [0, 1, 2]
    assert view["intervals"]["win/civilian"][0] == wilson(0.25 * 4, 4)
    assert view["info"]["config"]["credit"]["stages"]["accuracy_up"] > 0
    assert (view["name"], view["steps"], view["planned"]) == ("first", 3, 10)
    assert '"update/kl":"NaN"' in dumps(view), "what is not finite must survive JSON"


def test_rows_say_how_games_ended_and_what_went_wrong(reader: RunReader) -> None:
    rows = reader.games(0)
    assert [row["ending"] for row in rows] == ["caught", "tie", "escaped", "caught"]
    assert rows[0]["clue"] == HOSTILE[:80]
    # player 4 never says a clue that can be read, the first game's first player neither, nor voters asked twice
    assert [row["unreadable"]["civilian"] for row in rows] == [2, 1, 1, 4]
    assert rows[3]["reward"] == {"civilian": [0.9, 0.9], "spy": [-2.7, -2.7]}
    assert rows[0]["pictures"] == [RED.sha, BLUE.sha]


def test_a_game_is_whole(reader: RunReader) -> None:
    (stored, *_) = [e for e in reader.store.read_episodes(1) if e.id == "000001-0002"]
    view = reader.game(1, 2)
    assert (view["id"], view["number"], view["of"]) == (stored.id, 2, 4)
    assert [seat["picture"] for seat in view["seats"]] == [s.picture.sha for s in stored.seats]
    assert [turn["advantage"] for turn in view["turns"]] == list(stored.advantages or ())
    assert [turn["text"] for turn in view["turns"]] == [t.utterance.text for t in stored.turns]
    assert view["turns"][0]["shown"] == "4 players\nyou are 1"
    assert view["twins"] == [RED.sha, BLUE.sha]
    assert len(view["regions"]) == 1


def test_what_is_not_there_is_said(reader: RunReader) -> None:
    with pytest.raises(UserError, match="no games of step 7"):
        reader.games(7)
    with pytest.raises(UserError, match="but no game 4"):
        reader.game(0, 4)
    with pytest.raises(UserError, match="missing"):
        reader.picture("0" * 64)


@pytest.mark.parametrize("sha", ["", "..", "../run.json", "A" * 64, "0" * 63, "0" * 64 + "\n", "/" + "0" * 63])
def test_pictures_have_no_other_names_than_hashes(reader: RunReader, sha: str) -> None:
    with pytest.raises(UserError, match="64 hexadecimal"):
        reader.picture(sha)


def test_a_run_is_read_while_it_grows_and_when_it_is_played_again(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=1)
    reader = RunReader(run)
    before, tag = reader.games(0), reader.stamp()
    add_step(RunStore.open(run), 1)
    assert reader.stamp() != tag
    assert reader.overview()["with_games"] == [0, 1]
    path = reader.store.episode_path(0)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    assert [row["id"] for row in reader.games(0)] == [row["id"] for row in before[1:]]
    assert reader.game(0, 0)["id"] == before[1]["id"]


def test_links_that_lead_out_are_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(RED.data)
    for name, ask in {
        "run.json": lambda r: r.overview(),
        "metrics.jsonl": lambda r: r.overview(),
        "held_out.json": lambda r: r.overview(),
        "episodes/step_000000.jsonl": lambda r: r.games(0),
        f"images/{RED.sha}.png": lambda r: r.picture(RED.sha),
    }.items():
        run = make_run(tmp_path / name.replace("/", "-"), steps=1)
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(secret)
        with pytest.raises(UserError, match="leads out of the run directory"):
            ask(RunReader(run))


def test_a_folder_that_is_a_link_leads_out_too(tmp_path: Path) -> None:
    run, other = make_run(tmp_path / "run", steps=1), make_run(tmp_path / "other", steps=1)
    (run / "images").rename(tmp_path / "away")
    (run / "images").symlink_to(other / "images")
    with pytest.raises(UserError, match="leads out"):
        RunReader(run).picture(RED.sha)


def test_files_that_are_not_what_they_should_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "run", steps=2)
    reader = RunReader(run)
    (run / "images" / f"{RED.sha}.png").write_bytes(BLUE.data)
    with pytest.raises(UserError, match="not those of its name"):
        reader.picture(RED.sha)
    monkeypatch.setitem(library.MOST_BYTES, "picture", 10)
    with pytest.raises(UserError, match="it is not read"):
        reader.picture(BLUE.sha)
    (run / "episodes" / "step_000001.jsonl").write_text('{"id": 3}\n')
    with pytest.raises(UserError, match="line 1 is not a stored game"):
        reader.games(1)
    (run / "run.json").write_text("[")
    with pytest.raises(UserError, match=r"run\.json is damaged"):
        reader.overview()


def test_runs_of_a_folder_by_name(tmp_path: Path) -> None:
    first = make_run(tmp_path / "runs" / "first", steps=1)
    shelf = Library(first.parent)
    assert [r.name for r in shelf.readers()] == ["first"]
    make_run(tmp_path / "runs" / "second", steps=0)
    (tmp_path / "runs" / "latest").symlink_to("first")
    assert [r.name for r in shelf.readers()] == ["first", "second"]
    assert shelf.reader("second").overview()["metrics"] == []
    for name in ("third", "latest", "..", "", str(first)):
        with pytest.raises(UserError, match="no run of this name"):
            shelf.reader(name)
    with pytest.raises(UserError, match="not a run directory"):
        Library(tmp_path)


def test_the_run_that_one_stands_in_has_its_real_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_run(tmp_path / "here", steps=1))
    assert [r.name for r in Library(Path(".")).readers()] == ["here"]
    assert Library(Path(".")).reader("here").games(0)
