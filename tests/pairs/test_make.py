"""Sets as files: the published layout, what is read back, and what a kill leaves behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from tests.pairs.photo_files import lawn_with
from vision_zero.config import ChartPairs, ClevrPairs, PairsConfig, PhotoPairs
from vision_zero.errors import UserError
from vision_zero.pairs import open_pairs
from vision_zero.pairs.folder import FolderSource, read_folder
from vision_zero.pairs.make import make_pairs, missing_pairs
from vision_zero.pairs.published import Shelf, clevr_comparison, write_whole
from vision_zero.types import ImagePair, Picture

NANO = ClevrPairs(style="nano", width=96, height=64, objects=(3, 5), count=12)
CHARTS = ChartPairs(kind="charts", count=6, width=240, height=160)


def make(config: PairsConfig, out: Path, workers: int = 1) -> list[tuple[int, int]]:
    told: list[tuple[int, int]] = []
    make_pairs(config, 5, "train", out, workers, lambda done, total: told.append((done, total)))
    return told


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {name: tmp_path_factory.mktemp(name) for name in ("clevr", "charts")}
    make(NANO, folders["clevr"])
    make(CHARTS, folders["charts"])
    return folders


def test_the_published_layout(whole: dict[str, Path]) -> None:
    folder = whole["clevr"]
    images, scenes = folder / "output" / "replacement_images", folder / "output" / "replacement_scenes"
    assert sorted(p.name for p in images.iterdir()) == sorted(
        f"CLEVR_REPLACEMENT_replacement_{i:06d}_{which}.png" for i in range(12) for which in ("original", "modified")
    )
    assert sorted(p.name for p in scenes.iterdir()) == [
        f"CLEVR_REPLACEMENT_replacement_{i:06d}_comparison.json" for i in range(12)
    ]
    record = json.loads((scenes / "CLEVR_REPLACEMENT_replacement_000003_comparison.json").read_text())
    replaced = record["modification"]["replaced_objects"]
    assert len(replaced) == 2
    for item in replaced:
        before = record["original_scene"]["objects"][item["index"]]
        for key in ("shape", "color", "size", "material", "pixel_coords"):
            assert item["original"][key] == before[key]
        assert item["replacement"]["shape"] != before["shape"]
        assert item["replacement"]["size"] == before["size"]
        assert len(item["replacement"]["pixel_coords"]) == 3


@pytest.mark.parametrize("attributes", [("shape", "color"), ("size", "material")])
def test_scenes_are_read_back_as_they_were(attributes: tuple[str, ...], tmp_path: Path) -> None:
    config = ClevrPairs.model_validate({**NANO.model_dump(), "attributes": attributes, "count": 30})
    make(config, tmp_path)
    source = open_pairs(config, 5, "train")
    read = [p for p in read_folder(tmp_path / "output" / "replacement_images") if isinstance(p, ImagePair)]
    assert len(read) == 30
    for i, pair in enumerate(read):
        made = source[i]
        assert (pair.original, pair.modified, pair.changes) == (made.original, made.modified, made.changes)
        assert (pair.source, pair.licence) == ("clevr", "CC0-1.0")
        assert pair.original.facts == made.original.facts
        assert pair.modified is not None
        assert made.modified is not None
        assert pair.modified.facts is not None
        assert made.modified.facts is not None
        assert pair.modified.facts["objects"] == made.modified.facts["objects"]


def test_charts_are_read_back_as_they_were(whole: dict[str, Path]) -> None:
    source = open_pairs(CHARTS, 5, "train")
    read = [p for p in read_folder(whole["charts"]) if isinstance(p, ImagePair)]
    assert len(read) == 6
    for i, pair in enumerate(read):
        made = source[i]
        assert (pair.original, pair.modified, pair.changes) == (made.original, made.modified, made.changes)
        assert pair.original.facts == made.original.facts
        assert pair.modified is not None
        assert made.modified is not None
        assert pair.modified.facts == made.modified.facts
        assert (pair.source, pair.licence) == ("charts", "CC0-1.0")
    lines = [json.loads(line) for line in (whole["charts"] / "pairs.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(line["id"], line["modified"]) for line in lines] == [(p.id, f"{p.id}_modified.png") for p in read]
    assert lines[2]["changes"][0]["what"] == read[2].changes[0].what
    assert lines[2]["facts"]["original"] == read[2].original.facts
    assert len(FolderSource(whole["charts"], "train")) >= 1


def test_what_is_whole_is_kept_and_the_rest_made_again(whole: dict[str, Path], tmp_path: Path) -> None:
    for config, name in ((NANO, "clevr"), (CHARTS, "charts")):
        out = tmp_path / name
        told = make(config, out)
        assert told == [(i, config.count) for i in range(config.count + 1)]
        shelf = Shelf(out, config.kind)
        kept = (shelf.images / f"{shelf.name(0)}_original.png").stat().st_mtime_ns
        broken = [shelf.images / f"{shelf.name(i)}_modified.png" for i in (1, 2)]
        broken[0].write_bytes(broken[0].read_bytes()[:-7])
        broken[1].unlink()
        (shelf.scenes / f"{shelf.name(3)}_comparison.json").write_bytes(b'{"half')
        (shelf.scenes / f"{shelf.name(4)}_comparison.json").unlink()
        (shelf.images / ".something.123.partial").write_bytes(b"half")
        assert make(config, out)[0] == (config.count - 4, config.count)
        assert contents(out) == contents(whole[name])
        assert (shelf.images / f"{shelf.name(0)}_original.png").stat().st_mtime_ns == kept


def test_workers_write_the_same_bytes(whole: dict[str, Path], tmp_path: Path) -> None:
    told = make(NANO, tmp_path / "out", workers=2)
    assert told[-1] == (12, 12)
    assert contents(tmp_path / "out") == contents(whole["clevr"])


def test_a_set_can_be_made_longer(whole: dict[str, Path], tmp_path: Path) -> None:
    make(NANO.model_copy(update={"count": 5}), tmp_path / "out")
    assert make(NANO, tmp_path / "out")[0] == (5, 12)
    assert contents(tmp_path / "out") == contents(whole["clevr"])


def test_sets_are_not_mixed(tmp_path: Path) -> None:
    few = NANO.model_copy(update={"count": 2})
    make(few, tmp_path / "out")
    for other in (few.model_copy(update={"changes": 1}), few.model_copy(update={"count": 1}), CHARTS):
        with pytest.raises(UserError, match="holds other pairs"):
            make(other, tmp_path / "out")
    with pytest.raises(UserError, match="holds other pairs"):
        make_pairs(few, 6, "train", tmp_path / "out", 1, lambda done, total: None)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match=r"is not empty and has no made\.json"):
        make(few, tmp_path / "mine")
    assert contents(tmp_path / "mine") == {"letter.txt": b"dear"}


def test_pictures_without_scenes_cannot_be_published_as_clevr() -> None:
    with pytest.raises(UserError, match="pair x has no scenes"):
        clevr_comparison(ImagePair("x", Picture(b""), Picture(b"")))


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", b"old")
    (tmp_path / f".a.{os.getpid()}.partial").mkdir()
    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"


class Killed(BaseException):
    """What no handler of errors catches, as none catches SIGKILL."""


@pytest.mark.parametrize("kind", ["clevr", "charts", "photos"])
def test_killed_before_any_of_its_writes_it_ends_with_the_same_bytes(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The instants that differ are those between two files getting their names."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for name, color in (("a", (200, 40, 40)), ("b", (40, 60, 200))):
        Image.fromarray(lawn_with({(20, 16, 40, 30): color}, (64, 48))).save(photos / f"{name}.png")
    config: PairsConfig = {
        "clevr": NANO.model_copy(update={"count": 2}),
        "charts": CHARTS.model_copy(update={"count": 2}),
        "photos": PhotoPairs(kind="photos", path=photos, edits=("recolour",)),
    }[kind]
    rename, calls, deadly = Path.replace, 0, 0

    def rename_or_die(self: Path, target: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls == deadly:
            raise Killed
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", rename_or_die)
    make(config, tmp_path / "whole")
    # the record, two pairs of three files and, but for CLEVR, the index; of photos what is kept meanwhile
    writes = {"clevr": 7, "charts": 8, "photos": 8 + 4}[kind]
    assert calls == writes
    for deadly in range(1, writes + 1):
        out, calls = tmp_path / f"{deadly}", 0
        with pytest.raises(Killed):
            make(config, out)
        calls = -writes
        make(config, out)
        assert contents(out) == contents(tmp_path / "whole"), f"killed before write {deadly}"


def test_photos_may_come_later_and_those_that_went_are_named(tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()

    def add(name: str, color: tuple[int, int, int]) -> None:
        Image.fromarray(lawn_with({(30, 30, 60, 50): color}, (120, 90))).save(photos / f"{name}.png")

    add("m", (200, 40, 40))
    config = PhotoPairs(kind="photos", path=photos, edits=("recolour",))
    make(config, out)
    before = contents(out)
    for name, color in (("a", (40, 40, 200)), ("z", (200, 180, 20))):
        add(name, color)
    make(config, out)
    after = contents(out)
    assert len([n for n in after if n.endswith("_modified.png")]) == 3
    assert all(after[n] == data for n, data in before.items() if n.startswith("m-"))
    make(config, tmp_path / "at once")
    assert contents(tmp_path / "at once") == after
    (photos / "m.png").unlink()
    with pytest.raises(UserError, match="holds other pairs"):
        make(config, out)


def test_a_set_of_other_settings_is_refused_before_any_photo_is_edited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(CHARTS, tmp_path / "out")
    (tmp_path / "photos").mkdir()
    monkeypatch.setattr("vision_zero.pairs.photos.source.PhotosSource.__init__", lambda *_: pytest.fail("opened"))
    with pytest.raises(UserError, match="holds other pairs"):
        make(PhotoPairs(kind="photos", path=tmp_path / "photos"), tmp_path / "out")


def test_pairs_that_are_not_there_are_missed(whole: dict[str, Path], tmp_path: Path) -> None:
    assert [missing_pairs(folder) for folder in whole.values()] == [[], []]
    out = tmp_path / "out"
    make(NANO.model_copy(update={"count": 3}), out)
    for file in out.rglob("*000001*"):
        file.unlink()
    (problem,) = missing_pairs(out)
    assert problem.reason.startswith("promises 3 pairs, 2 are there")
    assert missing_pairs(out / "output" / "replacement_images") == []


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks at processes as Linux shows them")
def test_killed_and_started_again_it_ends_with_the_same_bytes(tmp_path: Path) -> None:
    """Three kills at different moments of a run with two workers; and the workers do not outlive it."""
    settings = [
        "--count",
        "150",
        "--width",
        "96",
        "--height",
        "64",
        "--set",
        "pairs.style=nano",
        "--set",
        "pairs.objects=[3,5]",
    ]
    command = [sys.executable, "-m", "vision_zero.cli", "pairs", "make", "clevr", *settings, "--seed", "5", "--out"]
    folder = tmp_path / "killed"
    seen = []
    for wanted in (3, 50, 110):
        process = subprocess.Popen([*command, str(folder), "--workers", "2"])
        deadline = time.monotonic() + 60
        while process.poll() is None and (n := len(list(folder.rglob("*_comparison.json")))) < wanted:
            assert time.monotonic() < deadline, n
            time.sleep(0.02)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert children
        while any(re.search(r"\) [^ZX]", _stat(pid)) for pid in children):
            assert time.monotonic() < deadline, "a worker outlived its parent"
            time.sleep(0.02)
        seen.append(len(list(folder.rglob("*_comparison.json"))))
    assert seen[0] < seen[2] < 150, "killed in the middle"
    subprocess.run([*command, str(folder), "--workers", "2"], check=True)
    make(NANO.model_copy(update={"count": 150}), tmp_path / "quiet")
    assert contents(folder) == contents(tmp_path / "quiet")


def _stat(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
