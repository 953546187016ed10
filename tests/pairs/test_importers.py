"""Importers, each on a small directory in the layout of its set, and export and import as a round trip."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet as parquet
import pytest
from datasets import Dataset, load_dataset
from datasets import Image as ImageColumn
from PIL import Image

from vision_zero.config import ChartPairs
from vision_zero.errors import UserError
from vision_zero.pairs.export import export_pairs, remake_command
from vision_zero.pairs.folder import is_held_out, read_folder
from vision_zero.pairs.importers.chartqa import read_chartqa_pictures, read_chartqa_tables
from vision_zero.pairs.importers.folders import read_jsonl, read_published, read_two_folders
from vision_zero.pairs.importers.hub import read_hub
from vision_zero.pairs.importers.imgedit import read_imgedit
from vision_zero.pairs.importers.tars import PictureStore
from vision_zero.pairs.importers.write import file_name, import_pairs
from vision_zero.pairs.reading import Problem, decode
from vision_zero.types import Change, ImagePair, Picture


def file_of(color: tuple[int, int, int], size: tuple[int, int] = (12, 8), format: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, color).save(file, format)
    return file.getvalue()


def pair(name: str, color: int = 10, changes: tuple[Change, ...] = (), **known: Any) -> ImagePair:
    return ImagePair(
        name,
        Picture(file_of((color, 0, 0)), known.get("facts")),
        Picture(file_of((color, 90, 0))),
        changes,
        known.get("source", "drawn"),
        known.get("licence", "CC0-1.0"),
    )


def good(items: Any) -> list[ImagePair]:
    return [item for item in items if isinstance(item, ImagePair)]


def bad(items: Any) -> list[Problem]:
    return [item for item in items if isinstance(item, Problem)]


def lay(root: Path, files: dict[str, bytes | str]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    return root


# Folders and lists


def test_the_vision_zero_sets(tmp_path: Path) -> None:
    scene = {"objects": [{"shape": "cube", "color": "red", "size": "large", "material": "metal"}]}
    replaced = {"index": 0, "original": scene["objects"][0], "replacement": {**scene["objects"][0], "color": "blue"}}
    comparison = json.dumps({"original_scene": scene, "modification": {"replaced_objects": [replaced]}})
    stem = "CLEVR_REPLACEMENT_replacement_000001"
    lay(
        tmp_path,
        {
            f"output/replacement_images/{stem}_original.png": file_of((1, 1, 1)),
            f"output/replacement_images/{stem}_modified.png": file_of((2, 2, 2)),
            f"output/replacement_scenes/{stem}_comparison.json": comparison,
            "real/photo7_original.jpg": file_of((200, 1, 1), format="JPEG"),
            "real/photo7_modified.jpg": file_of((1, 200, 1), format="JPEG"),
            "real/photo8_original.jpg": file_of((200, 1, 1), format="JPEG")[:80],
        },
    )
    reader = read_published(tmp_path)
    clevr, real, broken = reader
    assert reader.total == 3
    assert isinstance(clevr, ImagePair)
    assert clevr.changes == (Change("object 0", {"color": "red"}, {"color": "blue"}),)
    assert isinstance(real, ImagePair)
    assert real.id == "photo7"
    assert isinstance(broken, Problem)
    assert broken.file.endswith("photo8_original.jpg")
    with pytest.raises(UserError, match="holds no picture named"):
        read_published(tmp_path / "output" / "replacement_scenes")


def test_equal_names_in_several_folders_are_told_apart(tmp_path: Path) -> None:
    both = {"original": file_of((1, 1, 1)), "modified": file_of((2, 2, 2))}
    names = ("chart/1", "chart/2", "real/part/1")
    lay(tmp_path, {f"{name}_{which}.png": data for name in names for which, data in both.items()})
    assert [p.id for p in good(read_published(tmp_path))] == ["chart/1", "2", "real/part/1"]
    assert import_pairs(read_published(tmp_path), tmp_path / "out", {"kind": "x"}).pairs == 3


def test_two_folders(tmp_path: Path) -> None:
    lay(
        tmp_path,
        {
            "a/x.png": file_of((1, 1, 1)),
            "b/x.jpg": file_of((200, 1, 1), format="JPEG"),
            "a/sub/y.png": file_of((1, 1, 1)),
            "b/sub/y.png": file_of((3, 1, 1)),
            "a/alone.png": file_of((1, 1, 1)),
            "b/other.png": file_of((1, 1, 1)),
            "a/odd.png": file_of((1, 1, 1)),
            "b/odd.png": file_of((9, 1, 1), (8, 12)),
        },
    )
    reader = read_two_folders(tmp_path / "a", tmp_path / "b")
    items = list(reader)
    assert reader.total == len(items) == 5
    assert [p.id for p in good(items)] == ["sub/y", "x"]
    assert {Path(p.file).name: p.reason.split(" in ")[0] for p in bad(items)} == {
        "alone.png": "has no twin of that name",
        "other.png": "has no twin of that name",
        "odd.png": "(8, 12) pixels, its original (12, 8): twins must be of one size",
    }
    (tmp_path / "a" / "x.bmp").write_bytes(file_of((1, 1, 1)))
    with pytest.raises(UserError, match="holds x twice"):
        list(read_two_folders(tmp_path / "a", tmp_path / "b"))


def test_lists_of_pairs(tmp_path: Path) -> None:
    change = {"what": "sky", "before": {"color": "blue"}, "after": {"color": "red"}}
    lines = [
        {"id": "one", "original": "p/a.png", "modified": "p/b.png", "changes": [change], "licence": "MIT"},
        {"original": "p/a.png", "facts": {"original": {"k": 1}}},
        {"original": "../secret.png"},
        {"original": str(tmp_path / "secret.png")},
        {"modified": "p/a.png"},
        {"original": "p/a.png", "modified": "p/a.png"},
        {"original": "p/gone.png"},
    ]
    text = "\n".join([*(json.dumps(line) for line in lines), "{", "[1]", "", ""])
    root = lay(tmp_path / "set", {"p/a.png": file_of((1, 1, 1)), "p/b.png": file_of((2, 2, 2)), "pairs.jsonl": text})
    (tmp_path / "secret.png").write_bytes(file_of((5, 5, 5)))
    reader = read_jsonl(root / "pairs.jsonl")
    items = list(reader)
    assert reader.total == len(items) == 9
    one, single = good(items)
    assert (one.id, one.licence) == ("one", "MIT")
    assert one.changes == (Change("sky", {"color": "blue"}, {"color": "red"}),)
    assert (single.id, single.modified, single.original.facts) == ("pairs-000002", None, {"k": 1})
    reasons = [p.reason for p in bad(items)]
    assert len(reasons) == 7
    assert sum("leads out of" in r for r in reasons) == 2
    assert sum("is not a pair" in r for r in reasons) == 3
    assert sum("same picture" in r for r in reasons) == 1
    assert sum("does not exist" in r for r in reasons) == 1


# ImgEdit


@pytest.fixture
def imgedit(tmp_path: Path) -> Path:
    """Tables, a tar cut into three splits, a folder that was unpacked."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for i in range(4):
            for which, color in (("original", (i, 0, 0)), ("result", (i, 99, 0))):
                data = file_of(color, (40, 30))
                member = tarfile.TarInfo(f"./results_remove_laion_part5/0009{i}_x/{which}.png")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo("results_remove_laion_part5/link/original.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    data, root = tar.getvalue(), tmp_path / "ImgEdit"
    third = len(data) // 3 + 1
    folder = "results_remove_laion_part5"
    rows: list[dict[str, Any]] = [
        {"input_images": [f"{folder}/0009{i}_x/original.png"], "output_images": [f"{folder}/0009{i}_x/result.png"]}
        for i in range(3)
    ]
    rows += [
        {"input_images": ["compose/z/original.png"], "output_images": ["compose/z/result.png"]},
        {"input_images": ["bare.png"], "output_images": ["bare_after.png"]},
        {"input_images": ["bare.png", "b.png"], "output_images": ["bare_after.png"]},
        {"input_images": [f"{folder}/link/original.png"], "output_images": ["bare_after.png"]},
        {"input_images": ["original.png"], "output_images": ["bare_after.png"]},
        {"input_images": ["cut.png"], "output_images": ["bare_after.png"]},
    ]
    lay(
        root,
        {
            **{f"Singleturn/remove.tar.split.00{k}": data[k * third : (k + 1) * third] for k in range(3)},
            "Singleturn/action/bare.png": file_of((1, 1, 1)),
            "Singleturn/action/bare_after.png": file_of((1, 80, 1)),
            "Singleturn/action/cut.png": file_of((1, 1, 1))[:40],
        },
    )
    (root / "Parquet").mkdir()
    table = pyarrow.Table.from_pylist([{**row, "prompt": f"do {i}"} for i, row in enumerate(rows)])
    parquet.write_table(table, root / "Parquet" / "remove_part1.parquet")
    turn = {"input_images": ["bare.png"], "output_images": ["bare_after.png"], "prompt": "turn"}
    parquet.write_table(pyarrow.Table.from_pylist([{"data": [turn, turn]}]), root / "Parquet" / "multi_part0.parquet")
    return root


def test_imgedit_pairs_come_out_of_split_tars(imgedit: Path) -> None:
    reader = read_imgedit(imgedit)
    items = list(reader)
    assert reader.total == len(items) == 9
    assert [p.id for p in good(items)] == [f"remove_part1-00000{i}" for i in (1, 2, 3, 5)]
    for i, found in enumerate(good(items)[:3]):
        assert found.original.data == file_of((i, 0, 0), (40, 30))
        assert found.changes == (Change("edit by instruction", {}, {"instruction": f"do {i}"}),)
    reasons = {p.file.rpartition(" ")[2]: p.reason for p in bad(items)}
    assert set(reasons) == {"4", "6", "7", "8", "9"}
    assert "is not among the pictures" in reasons["4"]
    assert "2 inputs and 1 outputs" in reasons["6"]
    assert "is not among the pictures" in reasons["7"]
    assert "may be any of 4" in reasons["8"]
    assert "damaged" in reasons["9"]


def test_imgedit_tasks_are_chosen_and_turns_are_pairs(imgedit: Path) -> None:
    assert [p.id for p in good(read_imgedit(imgedit, ["multi"]))] == ["multi_part0-000001-0", "multi_part0-000001-1"]
    everything = read_imgedit(imgedit, None)
    assert len(good(everything)) == 6
    assert everything.total == 9 + 2
    with pytest.raises(UserError, match="it has multi, remove"):
        list(read_imgedit(imgedit, ["style"]))


def test_missing_and_cut_parts_are_named(imgedit: Path) -> None:
    last, middle = (imgedit / "Singleturn" / f"remove.tar.split.00{k}" for k in (2, 1))
    whole = last.read_bytes()
    last.write_bytes(b"\xff" * 2000 + whole[2000:])
    middle_data = middle.read_bytes()
    middle.unlink()
    table = imgedit / "Parquet" / "remove_part1.parquet"
    whole_table = table.read_bytes()
    table.write_bytes(whole_table[:-20])
    with pytest.raises(UserError, match=r"remove_part1\.parquet is not a whole parquet table"):
        read_imgedit(imgedit)
    table.write_bytes(whole_table)
    with pytest.raises(UserError, match="leave gaps"):
        PictureStore(imgedit)
    middle.write_bytes(middle_data[:-700])
    last.unlink()
    with pytest.raises(UserError, match="is not a whole tar file"):
        PictureStore(imgedit)


# ChartQA


@pytest.fixture
def chartqa(tmp_path: Path) -> Path:
    years = "Year,Sales\n" + "\n".join(f"{2010 + i},{10 + 7 * (i % 3) + i}" for i in range(6))
    names = "Entity,Share\nOslo,9\nLima,20\nRome,5\nBern,30\nKyiv,14\n"
    annotation = {"type": "h_bar", "general_figure_info": {"title": {"text": "Cities by share"}}, "models": []}
    return lay(
        tmp_path / "ChartQA Dataset",
        {
            "val/tables/1.csv": years,
            "val/tables/2.csv": names,
            "val/tables/3.csv": "Entity,Value\nA,nan\nB,text in a cell\n",
            "val/tables/4.csv": b"\xff\xfe\x00",
            "val/annotations/2.json": json.dumps(annotation),
            "val/png/1.png": file_of((9, 9, 9)),
            "val/png/2.png": b"",
        },
    )


def test_chartqa_tables_are_drawn_as_pairs(chartqa: Path) -> None:
    config = ChartPairs(kind="charts", width=320, height=240)
    reader = read_chartqa_tables(chartqa.parent, ["val"], 3, config)
    items = list(reader)
    assert reader.total == len(items) == 4
    first, second = good(items)
    assert (first.id, second.id) == ("val-1", "val-2")
    assert second.original.facts is not None
    assert second.original.facts["title"] == "Cities by share"
    assert second.original.facts["chart"] == "horizontal_bar"
    for made in (first, second):
        assert made.changes
        assert made.modified is not None
        assert not np.array_equal(decode(made.original.data, ""), decode(made.modified.data, ""))
    assert [Path(p.file).name for p in bad(items)] == ["3.csv", "4.csv"]
    assert good(read_chartqa_tables(chartqa, ["val"], 3, config)) == [first, second]
    assert good(read_chartqa_tables(chartqa, ["val"], 4, config)) != [first, second]
    with pytest.raises(UserError, match="is it ChartQA"):
        list(read_chartqa_tables(chartqa, ["train"], 3, config))


def test_chartqa_charts_are_single_pictures(chartqa: Path) -> None:
    items = list(read_chartqa_pictures(chartqa, ["val"]))
    (single,) = good(items)
    assert single.modified is None
    assert single.original.facts is not None
    assert single.original.facts["cells"][0] == ["Year", "Sales"]
    assert ["is empty" in p.reason for p in bad(items)] == [True]


# Hugging Face datasets


def test_any_dataset_with_two_columns_of_pictures(tmp_path: Path) -> None:
    rows = {
        "before": [{"bytes": file_of((i, 0, 0)), "path": None} for i in range(3)] + [{"bytes": b"junk", "path": None}],
        "after": [{"bytes": file_of((i, 90, 0), format="BMP"), "path": None} for i in range(4)],
        "text": [f"edit {i}" for i in range(4)],
    }
    dataset = Dataset.from_dict(rows)
    for column in ("before", "after"):
        dataset = dataset.cast_column(column, ImageColumn(decode=False))
    (tmp_path / "edits").mkdir()
    dataset.to_parquet(tmp_path / "edits" / "train.parquet")
    items = list(read_hub(str(tmp_path / "edits"), "before", "after", instruction="text", licence="MIT"))
    assert [p.id for p in good(items)] == ["edits-000000", "edits-000001", "edits-000002"]
    assert good(items)[1].original.data == file_of((1, 0, 0))
    assert good(items)[1].changes[0].after == {"instruction": "edit 1"}
    assert good(items)[1].licence == "MIT"
    assert ["row 3, before" in p.file for p in bad(items)] == [True]
    singles = list(read_hub(str(tmp_path / "edits"), "after", None))
    assert [p.modified for p in good(singles)] == [None] * 4
    with pytest.raises(UserError, match="has no column 'image': it has before, after, text"):
        list(read_hub(str(tmp_path / "edits"), "image", None))
    with pytest.raises(UserError, match="cannot open the dataset"):
        list(read_hub(str(tmp_path / "edits"), "before", None, split="nope"))


def test_what_is_exported_comes_back_whole(tmp_path: Path) -> None:
    change = Change("object 1", {"color": "red"}, {"color": "blue"})
    pairs = [pair(f"p{i:03d}", i, (change,), facts={"n": i}, source=("drawn", "made")[i % 2]) for i in range(40)]
    pairs.append(ImagePair("single", Picture(file_of((7, 7, 7))), None, (), "drawn", ""))
    done = export_pairs([*pairs, Problem("x.png", "is empty")], tmp_path / "set", "My set", "vision-zero pairs make x")
    assert done.counts == {
        "train": sum(not is_held_out(p.id) for p in pairs),
        "held_out": sum(is_held_out(p.id) for p in pairs),
    }
    assert done.problems == [Problem("x.png", "is empty")]
    readers = [read_hub(str(tmp_path / "set"), "original", "modified", split) for split in ("train", "held_out")]
    back = [p for reader in readers for p in reader]
    assert [r.total for r in readers] == list(done.counts.values())
    assert sorted(good(back), key=lambda p: p.id) == pairs
    assert all(
        b.original.facts == a.original.facts for a, b in zip(pairs, sorted(good(back), key=lambda p: p.id), strict=True)
    )
    # and by the library's own reader, as pictures
    row = load_dataset(str(tmp_path / "set"), split="train")[0]
    assert row["original"].size == (12, 8)
    card = (tmp_path / "set" / "README.md").read_text()
    counts = ["40 pairs", "1 single", f"| train | {done.counts['train']} |", "- drawn (21)", "- made (20)"]
    for text in ("# My set", "license: other\n", *counts, "- CC0-1.0 (40)", "- not stated", "vision-zero pairs make x"):
        assert text in card


def test_exports_are_equal_byte_for_byte_and_never_mixed(tmp_path: Path) -> None:
    pairs = [pair(f"p{i}", i) for i in range(70)]
    (tmp_path / ".a.partial" / "data").mkdir(parents=True)
    for name in ("a", "b"):
        export_pairs(pairs, tmp_path / name, "t", "c")
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*.*"))
    assert len(files) == 3
    assert "license: cc0-1.0\n" in (tmp_path / "a" / "README.md").read_text()
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)
    assert not (tmp_path / ".a.partial").exists()
    with pytest.raises(UserError, match="is not empty"):
        export_pairs(pairs, tmp_path / "a", "t", "c")
    with pytest.raises(UserError, match="nothing to export"):
        export_pairs([], tmp_path / "c", "t", "c")


# The folder that imports end in


def test_an_import_is_a_folder_of_pairs(tmp_path: Path) -> None:
    change = Change("a", {"k": 1}, {"k": 2})
    items = [
        pair("one", 1, (change,), facts={"n": 1}, licence=""),
        Problem("bad.png", "is empty"),
        pair("sub/two", 2),
        pair("one", 3),
        ImagePair("lone", Picture(file_of((4, 4, 4))), None),
        pair("late", 5),
    ]
    seen: list[Any] = []
    done = import_pairs(items, tmp_path / "out", {"kind": "test"}, limit=4, licence="MIT", on_item=seen.append)
    assert (done.pairs, done.singles) == (2, 1)
    assert seen == items[:5]
    assert [p.reason for p in done.problems] == [
        "is empty",
        "is the name of another pair too: only the first is imported",
    ]
    back = {p.id: p for p in good(read_folder(tmp_path / "out"))}
    assert set(back) == {"one", file_name("sub/two"), "lone"}
    assert back["one"].changes == (change,)
    assert (back["one"].licence, back["one"].original.facts) == ("MIT", {"n": 1})
    assert back[file_name("sub/two")].licence == "CC0-1.0"
    assert remake_command(tmp_path / "out").startswith("vision-zero pairs import test --out DIR")


def test_a_killed_import_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    items = [pair(f"p{i}", i) for i in range(6)]
    import_pairs(items, tmp_path / "whole", {"kind": "test"})

    def die(item: Any) -> None:
        if item is items[3]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_pairs(items, tmp_path / "cut", {"kind": "test"}, on_item=die)
    (tmp_path / "cut" / "p2_modified.png").unlink()
    (tmp_path / "cut" / "p1_original.png").write_bytes(b"half")
    (tmp_path / "cut" / ".p9.123.partial").write_bytes(b"half")
    kept = os.stat(tmp_path / "cut" / "p0_original.png").st_mtime_ns
    import_pairs(items, tmp_path / "cut", {"kind": "test"})
    files = {p.name: p.read_bytes() for p in (tmp_path / "whole").iterdir()}
    assert {p.name: p.read_bytes() for p in (tmp_path / "cut").iterdir()} == files
    assert os.stat(tmp_path / "cut" / "p0_original.png").st_mtime_ns == kept


def test_imports_are_never_mixed(tmp_path: Path) -> None:
    import_pairs([pair("a")], tmp_path / "out", {"kind": "test"})
    with pytest.raises(UserError, match="holds another import"):
        import_pairs([pair("b")], tmp_path / "out", {"kind": "other"})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    with pytest.raises(UserError, match="is not empty"):
        import_pairs([pair("b")], tmp_path / "full", {"kind": "test"})
    with pytest.raises(UserError, match="nothing could be imported: x: is empty"):
        import_pairs([Problem("x", "is empty")], tmp_path / "none", {"kind": "test"})


@pytest.mark.parametrize("name", ["../../etc/x", "/abs", "a b", "ü", ".hidden", "a/b", "x" * 400, "a\0b", ""])
def test_ids_become_safe_file_names(name: str) -> None:
    safe = file_name(name)
    assert safe
    assert safe != name
    assert len(safe) <= 120
    assert not safe.startswith(".")
    assert all(c.isascii() and (c.isalnum() or c in "._-") for c in safe)
    assert file_name("fine-Name_1.2") == "fine-Name_1.2"
