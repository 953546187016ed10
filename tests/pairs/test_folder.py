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
from vision_zero.pairs.folder import FolderSource
from vision_zero.types import ImagePair

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
        (b"", "not a readable PNG"),
        (png((1, 1, 1), (200, 200))[:-40], "not a readable PNG"),
        (b"GIF89a" + bytes(40), "not a readable PNG"),
        (png((1, 1, 1), (9000, 8000)), "over 64000000 pixels"),
        (png((1, 1, 1), (4, 6)), "of one size"),
        ("the original", "is the same file as its original"),
    ],
)
def test_bad_pictures_are_reported_by_name(folder: Path, bad: bytes | str, reason: str) -> None:
    name = FolderSource(folder, "train").names[0]
    file = folder / f"{name}_modified.png"
    file.write_bytes(bad if isinstance(bad, bytes) else (folder / f"{name}_original.png").read_bytes())
    source = FolderSource(folder, "train")
    with pytest.raises(UserError, match=reason) as refused:
        source[0]
    assert str(file) in str(refused.value)
    assert source.check() == [str(refused.value)]
    assert source[1].id == source.names[1]


@pytest.mark.parametrize(
    "text", ["{", "{}", '{"original_scene": {"objects": []}, "modification": {"replaced_objects": 3}}']
)
def test_bad_comparisons_are_reported_by_name(folder: Path, text: str) -> None:
    name = FolderSource(folder, "train").names[0]
    (folder / f"{name}_comparison.json").write_text(text)
    with pytest.raises(UserError, match=f"{name}_comparison.json is not a comparison"):
        FolderSource(folder, "train")[0]


def test_folders_without_pairs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder of pairs"):
        FolderSource(tmp_path / "nowhere", "train")
    with pytest.raises(UserError, match=r"holds no file named \*_original.png"):
        FolderSource(tmp_path, "train")
    (tmp_path / "a_modified.png").write_bytes(png((0, 0, 0)))
    with pytest.raises(UserError, match=r"a_modified\.png has no _original.png"):
        FolderSource(tmp_path, "train")


def test_a_split_without_names_is_refused(tmp_path: Path) -> None:
    (tmp_path / "only_original.png").write_bytes(png((0, 0, 0)))
    with pytest.raises(UserError, match="none of its 1 names falls into the"):
        [FolderSource(tmp_path, split) for split in ("train", "held_out")]


def test_no_pair_beyond_the_last(folder: Path) -> None:
    source = FolderSource(folder, "train")
    with pytest.raises(IndexError):
        source[len(source)]
