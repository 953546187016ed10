"""`vision-zero pairs import` and `pairs export`. Everything heavy is imported inside the commands."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vision_zero.errors import UserError

if TYPE_CHECKING:
    from vision_zero.pairs.importers import Reader
    from vision_zero.pairs.reading import Problem

import_app = typer.Typer(no_args_is_help=True, help="Bring published sets, and your own, into a folder of pairs.")

Folder = Annotated[Path, typer.Argument(metavar="DIR", show_default=False)]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Folder of the set; goes on with one that was stopped.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Most pairs to take.", show_default="all")]
Licence = Annotated[str, typer.Option(help="For pairs that come without one, e.g. CC-BY-4.0.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add `import` and `export` to the commands of `vision-zero pairs`."""
    app.add_typer(import_app, name="import")
    app.command("export")(export)


@import_app.command("vision-zero")
def vision_zero(folder: Folder, out: Out, limit: Limit = None, licence: Licence = "") -> None:
    """The Vision-Zero CLEVR, chart and real-world sets: NAME_original and NAME_modified, in any folder below DIR."""
    from vision_zero.pairs.importers.folders import read_published

    _import(read_published(folder), out, {"kind": "vision-zero", "from": folder.name}, limit, licence)


@import_app.command()
def folders(originals: Folder, modified: Folder, out: Out, limit: Limit = None, licence: Licence = "") -> None:
    """Two folders that hold pictures of equal names."""
    from vision_zero.pairs.importers.folders import read_two_folders

    origin = {"kind": "folders", "from": [originals.name, modified.name]}
    _import(read_two_folders(originals, modified), out, origin, limit, licence)


@import_app.command()
def jsonl(
    file: Annotated[Path, typer.Argument(metavar="FILE", show_default=False)],
    out: Out,
    limit: Limit = None,
    licence: Licence = "",
) -> None:
    """A JSONL file with a pair a line: {"original": "a.png", "modified": "b.png", ...}."""
    from vision_zero.pairs.importers.folders import read_jsonl

    _import(read_jsonl(file), out, {"kind": "jsonl", "from": file.name}, limit, licence)


@import_app.command()
def imgedit(
    folder: Folder,
    out: Out,
    task: Annotated[
        list[str] | None,
        typer.Option(help="May be repeated; `all` takes every one.", show_default="edits of one place"),
    ] = None,
    limit: Limit = None,
    licence: Licence = "",
) -> None:
    """ImgEdit: parquet tables, and pictures in tar files (cut into splits or whole) or folders, below DIR."""
    from vision_zero.pairs.importers.imgedit import TASKS, read_imgedit

    tasks = None if task == ["all"] else task or TASKS
    origin = {"kind": "imgedit", "from": folder.name, "tasks": tasks}
    _import(read_imgedit(folder, tasks), out, origin, limit, licence)


@import_app.command()
def chartqa(
    folder: Folder,
    out: Out,
    part: Annotated[
        list[str] | None, typer.Option(help="train, val, test; may be repeated.", show_default="train")
    ] = None,
    pictures: Annotated[
        bool, typer.Option("--pictures", help="Its own charts as single pictures, instead of its tables drawn anew.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Other seeds draw and change other things.")] = 0,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="A=B", help="Any setting of `pairs` of kind charts.")
    ] = None,
    limit: Limit = None,
    licence: Licence = "",
) -> None:
    """ChartQA: a pair of charts drawn from each of its tables, or its charts as they are."""
    from vision_zero.config import ChartPairs, load_config
    from vision_zero.pairs.importers.chartqa import read_chartqa_pictures, read_chartqa_tables

    parts: Any = part or ["train"]
    unknown = sorted(set(parts) - {"train", "val", "test"})
    if unknown:
        raise UserError(f"ChartQA has no part {unknown[0]!r}: choose train, val or test")
    config = load_config(None, ["pairs.kind=charts", *(f"pairs.{item}" for item in overrides or [])]).pairs
    assert isinstance(config, ChartPairs)
    origin = {"kind": "chartqa", "from": folder.name, "parts": parts, "pictures": pictures}
    if pictures:
        _import(read_chartqa_pictures(folder, parts), out, origin, limit, licence)
    else:
        origin |= {"seed": seed, "pairs": config.model_dump(mode="json")}
        _import(read_chartqa_tables(folder, parts, seed, config), out, origin, limit, licence)


@import_app.command()
def hub(
    name: Annotated[str, typer.Argument(help="A Hub id, or a folder of parquet files.", show_default=False)],
    out: Out,
    original: Annotated[str, typer.Option(help="Column of the pictures.")] = "original",
    modified: Annotated[str | None, typer.Option(help="Column of their twins; '' for single pictures.")] = "modified",
    instruction: Annotated[
        str | None, typer.Option(help="Column that says what was edited.", show_default=False)
    ] = None,
    split: Annotated[str, typer.Option(help="Of the dataset.")] = "train",
    subset: Annotated[str | None, typer.Option(help="Of the dataset, if it has several.", show_default=False)] = None,
    limit: Limit = None,
    licence: Licence = "",
) -> None:
    """Any Hugging Face dataset with a column of pictures or two, streamed: only what is taken is fetched."""
    from vision_zero.pairs.importers.hub import read_hub

    items = read_hub(name, original, modified or None, split, subset, instruction, licence)
    origin = {
        "kind": "hub",
        "from": name,
        "subset": subset,
        "split": split,
        "columns": [original, modified, instruction],
    }
    _import(items, out, origin, limit, licence)


def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of pairs.", show_default=False)],
    out: Annotated[Path, typer.Option(metavar="DIR", help="An empty or new folder.")],
    title: Annotated[str | None, typer.Option(help="Of the card.", show_default="the folder's name")] = None,
    remake: Annotated[
        str | None, typer.Option(help="The command that makes the pairs again.", show_default="as the folder says")
    ] = None,
) -> None:
    """Write a folder of pairs as a Hugging Face dataset: parquet files with the pictures, and a card."""
    from vision_zero.pairs.bar import with_bar
    from vision_zero.pairs.export import export_pairs, remake_command
    from vision_zero.pairs.importers.folders import read_published

    reader = read_published(folder)
    remake = remake or remake_command(folder)
    done = export_pairs(with_bar(reader, "pairs", reader.total), out, title or folder.resolve().name, remake)
    typer.echo(f"{done.counts['train']} train and {done.counts['held_out']} held-out rows in {out}")
    _list_problems(done.problems)


def _import(reader: Reader, out: Path, origin: dict[str, Any], limit: int | None, licence: str) -> None:
    from vision_zero.pairs.bar import progress
    from vision_zero.pairs.importers.write import import_pairs
    from vision_zero.types import ImagePair

    # a limit is one of pairs; without one, what cannot be used is progress too
    limited = limit is not None and (reader.total is None or limit < reader.total)
    with progress("pairs") as bar:
        task = bar.add_task("", total=limit if limited else reader.total)
        done = import_pairs(
            reader, out, origin, limit, licence, lambda i: bar.advance(task, not limited or isinstance(i, ImagePair))
        )
    typer.echo(f"{done.pairs} pairs and {done.singles} single pictures in {out}, {len(done.problems)} left out")
    _list_problems(done.problems)


def _list_problems(problems: Iterable[Problem]) -> None:
    for problem in problems:
        typer.echo(f"left out: {problem}", err=True)
