"""The run directory: whole files, no run written over, cut back to a step as if the rest had never been."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import subprocess
from pathlib import Path

import pytest

from tests.runs.stored_games import MODIFIED, ORIGINAL, PAIR, game, picture
from vision_zero.config import RunConfig, load_config
from vision_zero.errors import UserError
from vision_zero.runs import provenance
from vision_zero.runs.files import write_atomic
from vision_zero.runs.store import RunStore
from vision_zero.types import Picture, Seat


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore.create(tmp_path, RunConfig(name="test", seed=7))


def files(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def play(store: RunStore, steps: range) -> None:
    for step in steps:
        store.write_episodes(step, [game(n, step) for n in range(2)], [PAIR])
        store.append_metrics(step, {"stage": "decision", "win/spy": step / 7})


def test_create_writes_what_the_run_is_made_of(store: RunStore) -> None:
    assert store.path.name.startswith("test-")
    info = store.info
    assert info["seed"] == 7
    assert info["config"] == RunConfig(name="test", seed=7).model_dump(mode="json")
    assert {"python", "torch", "transformers", "vision-zero"} <= info["versions"].keys()
    assert load_config(store.path / "recipe.yaml") == store.config == RunConfig(name="test", seed=7)


def test_runs_that_start_together_get_directories_of_their_own(tmp_path: Path) -> None:
    paths = {RunStore.create(tmp_path, RunConfig()).path for _ in range(3)}
    assert len(paths) == 3


def test_a_run_is_never_written_over(store: RunStore) -> None:
    before = files(store.path)
    with pytest.raises(UserError, match=r"vision-zero resume .*another --out"):
        RunStore.create(store.path.parent, RunConfig(), out=store.path)
    assert files(store.path) == before


def test_out_may_be_new_or_empty_but_no_file(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "a/b"):
        assert RunStore.create(tmp_path, RunConfig(), out=tmp_path / name).path == tmp_path / name
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="another --out"):
        RunStore.create(tmp_path, RunConfig(), out=tmp_path / "file")


def test_open_names_the_runs_that_are_there(store: RunStore) -> None:
    with pytest.raises(UserError, match=store.path.name):
        RunStore.open(store.path.parent)
    with pytest.raises(UserError, match="not a run directory"):
        RunStore.open(store.path / "nowhere")
    assert RunStore.open(store.path).config.name == "test"


def test_metrics_come_back_as_they_were(store: RunStore) -> None:
    values = {"stage": "clue", "a/b": 0.1, "n": 3, "bad": math.inf, "worse": -math.inf}
    store.append_metrics(0, values)
    store.append_metrics(4, {"lost": math.nan})
    first, second = RunStore.open(store.path).read_metrics()
    assert first == {"step": 0, **values}
    assert second["step"] == 4
    assert math.isnan(second["lost"])
    for line in (store.path / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)  # strict JSON, readable by any other tool


@pytest.mark.parametrize(
    ("metrics", "error"),
    [({"x": [1]}, TypeError), ({"x": None}, TypeError), ({"step": 1}, ValueError), ({"x": "NaN"}, ValueError)],
)
def test_metrics_that_would_not_come_back_are_refused(store: RunStore, metrics: dict, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"'x'|'step'"):
        store.append_metrics(0, metrics)
    assert store.read_metrics() == []


def test_steps_rise_also_in_a_run_that_was_opened_again(store: RunStore) -> None:
    store.append_metrics(3, {"x": 1})
    again = RunStore.open(store.path)
    with pytest.raises(ValueError, match=r"truncate_after\(2\)"):
        again.append_metrics(3, {"x": 2})
    again.append_metrics(4, {"x": 2})
    assert [m["step"] for m in again.read_metrics()] == [3, 4]


def test_a_torn_last_line_is_dropped_with_a_word(store: RunStore, caplog: pytest.LogCaptureFixture) -> None:
    store.append_metrics(0, {"x": 1})
    whole = (store.path / "metrics.jsonl").read_bytes()
    with (store.path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step":1,"x":')  # what a kill in the middle of a write leaves
    again = RunStore.open(store.path)
    with caplog.at_level(logging.WARNING):
        assert again.read_metrics() == [{"step": 0, "x": 1}]
    assert "ignored a torn last line of 14 bytes" in caplog.text
    again.append_metrics(1, {"x": 2})
    assert "dropped a torn last line of 14 bytes" in caplog.text
    assert (store.path / "metrics.jsonl").read_bytes() == whole + b'{"step":1,"x":2}\n'


def test_a_damaged_line_in_the_middle_is_an_error(store: RunStore) -> None:
    store.append_metrics(0, {"x": 1})
    with (store.path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step":1,"x"\n{"step":2}\n')
    with pytest.raises(UserError, match="line 2 is damaged"):
        store.read_metrics()


def test_games_come_back_complete(store: RunStore) -> None:
    games = [game(n) for n in range(3)]
    store.write_episodes(0, games, [PAIR])
    store.write_episodes(1, [game(0, 1)])
    again = RunStore.open(store.path)
    assert list(again.read_episodes(0)) == games
    assert [r.step for r in again.read_records()] == [0, 0, 0, 1]
    assert [r.changes for r in again.read_records()] == [PAIR.changes] * 3 + [None]
    assert [e.id for e in again.read_episodes(filter=lambda e: e.seed == 82)] == ["000000-0001"]
    assert next(again.read_episodes()).seats[1].picture.facts == MODIFIED.facts
    with pytest.raises(UserError, match="no games of step 5: there are games of steps 0 to 1"):
        next(again.read_records(5))


def test_every_picture_is_stored_once_under_its_hash(store: RunStore) -> None:
    store.write_episodes(0, [game()])
    path = store.picture_path(ORIGINAL.sha)
    before = path.stat().st_mtime_ns
    store.write_episodes(1, [game(0, 1)])
    pictures = [p for p in (store.path / "images").iterdir() if p.suffix == ".png"]
    assert {p.stem for p in pictures} == {ORIGINAL.sha, MODIFIED.sha}
    assert path.read_bytes() == ORIGINAL.data
    assert path.stat().st_mtime_ns == before


def test_a_picture_that_a_power_failure_left_empty_is_written_again(store: RunStore) -> None:
    store.write_episodes(0, [game()])
    for path in (store.path / "images").iterdir():
        path.write_bytes(b"")
    store.write_episodes(1, [game(0, 1)])
    assert list(store.read_episodes(1)) == [game(0, 1)]
    assert store.picture(ORIGINAL.sha).facts == ORIGINAL.facts


@pytest.mark.parametrize(("format", "suffix"), [("JPEG", ".jpg"), ("WEBP", ".webp")])
def test_pictures_keep_their_bytes_and_their_kind(store: RunStore, format: str, suffix: str) -> None:
    photo = picture("green", format)
    episode = dataclasses.replace(game(), seats=(Seat(0, game().seats[0].role, photo, "policy"),), turns=())
    store.write_episodes(0, [episode])
    assert store.picture_path(photo.sha).suffix == suffix
    assert store.picture(photo.sha) == photo


def test_a_picture_that_no_browser_knows_is_refused(store: RunStore) -> None:
    episode = dataclasses.replace(game(), seats=(Seat(0, game().seats[0].role, Picture(b"GARBAGE"), "policy"),))
    with pytest.raises(UserError, match="convert it first"):
        store.write_episodes(0, [episode])


def test_missing_and_damaged_pictures_are_named(store: RunStore) -> None:
    store.write_episodes(0, [game()])
    store.picture_path(ORIGINAL.sha).write_bytes(MODIFIED.data)
    with pytest.raises(UserError, match=f"{ORIGINAL.sha}.png is damaged"):
        list(store.read_episodes())
    store.picture_path(ORIGINAL.sha).unlink()
    with pytest.raises(UserError, match=f"picture {ORIGINAL.sha} is missing"):
        list(store.read_episodes())


def test_a_line_that_is_no_game_is_named(store: RunStore) -> None:
    store.write_episodes(0, [game()])
    path = store.path / "episodes" / "step_000000.jsonl"
    path.write_text(path.read_text() + '{"id":"x"}\n')
    with pytest.raises(UserError, match=r"step_000000.jsonl, line 2 is not a stored game"):
        list(store.read_episodes())


def test_cut_back_and_played_again_equals_never_interrupted(tmp_path: Path) -> None:
    straight, broken = (RunStore.create(tmp_path, RunConfig(), out=tmp_path / name) for name in "ab")
    play(straight, range(6))
    play(broken, range(4))
    with (broken.path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step":4,')
    (broken.path / "episodes" / ".step_000004.jsonl.99.partial").write_bytes(b"{")  # killed while writing
    again = RunStore.open(broken.path)
    again.truncate_after(1)
    assert again.steps() == [0, 1]
    assert [m["step"] for m in again.read_metrics()] == [0, 1]
    play(again, range(2, 6))
    one, other = files(straight.path), files(broken.path)
    assert one.keys() == other.keys()
    assert {name for name in one if one[name] != other[name]} <= {"run.json"}


def test_cutting_everything_leaves_an_empty_run(store: RunStore) -> None:
    play(store, range(2))
    store.truncate_after(-1)
    assert store.steps() == []
    assert store.read_metrics() == []
    play(store, range(2))


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def full(handle: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match=r"cannot write .*file: disk full\..* needed\. .* are free\. Free space"):
        write_atomic(path, b"new")
    assert files(tmp_path) == {"file": b"old"}


def test_commit_is_the_one_of_the_checkout_or_none() -> None:
    here = Path(provenance.__file__)
    tracked = subprocess.run(
        ["git", "-C", str(here.parent), "ls-files", "--error-unmatch", here.name], capture_output=True, check=False
    )
    found = provenance.commit()
    if tracked.returncode:
        assert found is None
    else:
        head = subprocess.run(
            ["git", "-C", str(here.parent), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
        assert found is not None
        assert found.removesuffix("+changes") == head.stdout.strip()


def test_no_git_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert provenance.commit() is None
