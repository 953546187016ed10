from __future__ import annotations

import copy
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from vision_zero.config import ClevrPairs, FolderPairs
from vision_zero.errors import UserError
from vision_zero.pairs import open_pairs
from vision_zero.pairs.clevr.language import ATTRIBUTES
from vision_zero.pairs.clevr.source import ClevrSource
from vision_zero.pairs.folder import FolderSource, check_folder, read_folder
from vision_zero.types import Change, ImagePair

NAME = "CLEVR_REPLACEMENT_replacement_{:06d}"


def png(color: tuple[int, int, int], size: tuple[int, int] = (6, 4)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, color).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Sixty pairs of small flat pictures in the published layout."""
    images = tmp_path / "output" / "replacement_images"
    images.mkdir(parents=True)
    for i in range(60):
        (images / f"{NAME.format(i)}_original.png").write_bytes(png((i, 0, 0)))
        (images / f"{NAME.format(i)}_modified.png").write_bytes(png((i, 9, 0)))
    return images


def by_name(source: FolderSource) -> dict[str, ImagePair]:
    return {pair.id: pair for pair in (source[i] for i in range(len(source)))}


def test_every_pair_is_in_one_split_and_stays_there(folder: Path) -> None:
    train, held_out = FolderSource(folder, "train"), FolderSource(folder, "held_out")
    assert set(train.names) | set(held_out.names) == {NAME.format(i) for i in range(60)}
    assert not set(train.names) & set(held_out.names)
    assert 1 <= len(held_out) <= 15
    assert list(train.names) == sorted(train.names)
    (folder / "another_original.png").write_bytes(png((1, 2, 3)))
    more = FolderSource(folder, "train").names, FolderSource(folder, "held_out").names
    assert set(train.names) <= set(more[0])
    assert set(held_out.names) <= set(more[1])


def test_pictures_are_the_bytes_of_the_files(folder: Path) -> None:
    source = open_pairs(FolderPairs(kind="folder", path=folder), 0, "train")
    for i in range(len(source)):
        pair = source[i]
        assert pair.original.data == (folder / f"{pair.id}_original.png").read_bytes()
        assert pair.modified is not None
        assert pair.modified.data == (folder / f"{pair.id}_modified.png").read_bytes()
        assert pair.changes == ()
        assert pair.original.facts is None


def test_a_name_without_a_twin_is_a_single_picture(folder: Path) -> None:
    name = FolderSource(folder, "train").names[0]
    (folder / f"{name}_modified.png").unlink()
    assert by_name(FolderSource(folder, "train"))[name].modified is None


def test_scene_facts_and_changes_come_from_the_comparison(folder: Path) -> None:
    made = ClevrSource(ClevrPairs(style="nano", width=96, height=64, objects=(3, 4)), 0, "train")[0]
    assert made.modified is not None
    before, after = made.original.facts, made.modified.facts
    assert before is not None
    assert after is not None
    replaced = [
        {
            "index": i,
            "original": {k: a[k] for k in (*ATTRIBUTES, "pixel_coords")},
            "replacement": {k: b[k] for k in (*ATTRIBUTES, "pixel_coords")},
        }
        for i, (a, b) in enumerate(zip(before["objects"], after["objects"], strict=True))
        if a != b
    ]
    name = FolderSource(folder, "train").names[0]
    scenes = folder.parent / "replacement_scenes"
    scenes.mkdir()
    comparison = {"original_scene": copy.deepcopy(before), "modification": {"replaced_objects": replaced}}
    old = FolderSource(folder, "train").fingerprint
    (scenes / f"{name}_comparison.json").write_text(json.dumps(comparison))
    pair = by_name(FolderSource(folder, "train"))[name]
    assert pair.changes == made.changes
    assert pair.original.facts is not None
    assert pair.modified is not None
    assert pair.modified.facts is not None
    assert pair.original.facts["objects"] == before["objects"]
    assert pair.modified.facts["objects"] == after["objects"]
    assert FolderSource(folder, "train").fingerprint != old


def test_fingerprint_follows_the_bytes(folder: Path) -> None:
    old = FolderSource(folder, "train").fingerprint
    assert FolderSource(folder, "train").fingerprint == old
    assert FolderSource(folder, "held_out").fingerprint != old
    (folder / f"{FolderSource(folder, 'train').names[3]}_modified.png").write_bytes(png((7, 7, 7)))
    assert FolderSource(folder, "train").fingerprint != old


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"", "is empty"),
        (png((1, 1, 1), (200, 200))[:-40], "damaged or cut short"),
        (b"GIF89a" + bytes(40), "is damaged"),
        (b"hello", "no picture in any format"),
        (png((1, 1, 1), (9000, 8000)), "over 64000000 pixels"),
        (png((1, 1, 1), (4, 6)), "of one size"),
        ("the original", "is the same picture as its original"),
    ],
)
def test_bad_pictures_are_reported_by_name_and_the_rest_goes_on(folder: Path, bad: bytes | str, reason: str) -> None:
    name = FolderSource(folder, "train").names[0]
    file = folder / f"{name}_modified.png"
    file.write_bytes(bad if isinstance(bad, bytes) else (folder / f"{name}_original.png").read_bytes())
    source = FolderSource(folder, "train")
    with pytest.raises(UserError, match=reason) as refused:
        source[0]
    assert str(file) in str(refused.value)
    assert [str(p) for p in check_folder(folder)] == [str(refused.value)]
    assert sum(isinstance(item, ImagePair) for item in read_folder(folder)) == 59
    assert source[1].id == source.names[1]
    rest = FolderSource(folder, "train", skip_bad=True)
    assert rest.names == source.names[1:]
    assert [str(p) for p in rest.problems] == [str(refused.value)]


def test_twins_that_show_the_same_are_equal_however_they_are_stored(folder: Path) -> None:
    name = FolderSource(folder, "train").names[0]
    file = io.BytesIO()
    Image.open(folder / f"{name}_original.png").save(file, "BMP")
    (folder / f"{name}_modified.png").write_bytes(file.getvalue())
    assert [p.reason.partition(":")[0] for p in check_folder(folder)] == ["is the same picture as its original"]


def test_a_link_out_of_the_folder_is_refused_and_one_within_is_followed(folder: Path, tmp_path: Path) -> None:
    inner, outer = FolderSource(folder, "train").names[:2]
    (tmp_path / "elsewhere.png").write_bytes(png((1, 2, 3)))
    for name, target in ((inner, folder / f"{outer}_original.png"), (outer, tmp_path / "elsewhere.png")):
        (folder / f"{name}_modified.png").unlink()
        (folder / f"{name}_modified.png").symlink_to(target)
    (problem,) = check_folder(folder)
    assert problem.file == str(folder / f"{outer}_modified.png")
    assert "leads out of" in problem.reason
    assert by_name(FolderSource(folder, "train", skip_bad=True))[inner].modified is not None


def test_other_formats_are_read_and_doubles_are_named(tmp_path: Path) -> None:
    for name, color in (
        ("x_original.JPG", (9, 9, 9)),
        ("x_modified.webp", (90, 9, 9)),
        # what a picture was saved from may lie beside it
        ("x_original.psd", (1, 1, 1)),
        ("notes.txt", (1, 1, 1)),
    ):
        Image.new("RGB", (6, 4), color).save(tmp_path / name, "PNG")
    (pair,) = read_folder(tmp_path)
    assert isinstance(pair, ImagePair)
    assert pair.id == "x"
    (tmp_path / "x_original.png").write_bytes(png((0, 0, 0)))
    problems = [item for item in read_folder(tmp_path) if not isinstance(item, ImagePair)]
    assert [p.reason for p in problems] == ["is there twice, see x_original.JPG: remove one"]


def test_pictures_with_extensions_that_are_not_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "x_original.png").write_bytes(png((1, 2, 3)))
    (tmp_path / "x_modified.heic").write_bytes(png((3, 2, 1)))
    (tmp_path / "y_original").write_bytes(png((3, 2, 1)))
    (tmp_path / "folder_original").mkdir()
    problems = check_folder(tmp_path)
    assert [Path(p.file).name for p in problems] == ["x_modified.heic", "y_original"]
    assert all("is not read with this extension, but with .bmp, " in p.reason for p in problems)


def test_lost_twins_are_named_and_single_pictures_are_not(folder: Path) -> None:
    names = FolderSource(folder, "train").names
    for name in names[:2]:
        (folder / f"{name}_modified.png").unlink()
    (folder / f"{names[0]}_comparison.json").write_text('{"single": true, "changes": []}')
    assert [p.file for p in check_folder(folder)] == [str(folder / f"{names[1]}_original.png")]
    for file in folder.glob("*_modified.png"):
        file.unlink()
    assert check_folder(folder) == []


def test_facts_of_pictures_that_are_no_scenes(folder: Path) -> None:
    name = FolderSource(folder, "train").names[0]
    change = {"what": "region", "before": {"color": "red"}, "after": {"color": "green"}}
    record = {"source": "photos", "licence": "CC0-1.0", "changes": [change], "facts": {"original": {"a": 1}}}
    (folder / f"{name}_comparison.json").write_text(json.dumps(record))
    pair = by_name(FolderSource(folder, "train"))[name]
    assert pair.changes == (Change("region", {"color": "red"}, {"color": "green"}),)
    assert (pair.source, pair.licence, pair.original.facts) == ("photos", "CC0-1.0", {"a": 1})


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "{}",
        "[]",
        "3",
        '{"changes": [{}]}',
        '{"changes": 3}',
        '{"original_scene": {"objects": []}, "modification": {"replaced_objects": 3}}',
    ],
)
def test_bad_comparisons_are_reported_by_name(folder: Path, text: str) -> None:
    name = FolderSource(folder, "train").names[0]
    (folder / f"{name}_comparison.json").write_text(text)
    with pytest.raises(UserError, match=f"{name}_comparison.json: is not a comparison"):
        FolderSource(folder, "train")[0]


def test_folders_without_pairs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder of pairs"):
        FolderSource(tmp_path / "nowhere", "train")
    with pytest.raises(UserError, match=r"holds no picture named \*_original.png"):
        FolderSource(tmp_path, "train")
    (tmp_path / "a_modified.png").write_bytes(png((0, 0, 0)))
    with pytest.raises(UserError, match=r"a_modified\.png: has no a_original beside it"):
        FolderSource(tmp_path, "train")
    assert [p.file for p in check_folder(tmp_path)] == [str(tmp_path / "a_modified.png")]


def test_a_split_without_names_is_refused(tmp_path: Path) -> None:
    (tmp_path / "only_original.png").write_bytes(png((0, 0, 0)))
    with pytest.raises(UserError, match="none of its 1 names falls into the"):
        [FolderSource(tmp_path, split) for split in ("train", "held_out")]


def test_no_pair_beyond_the_last(folder: Path) -> None:
    source = FolderSource(folder, "train")
    with pytest.raises(IndexError):
        source[len(source)]
