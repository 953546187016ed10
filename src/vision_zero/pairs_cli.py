"""`vision-zero pairs`: make, check and show sets of pairs. Everything heavy is imported inside the commands."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vision_zero.errors import UserError

app = typer.Typer(no_args_is_help=True, help="Make, check and look at pairs of pictures.")

blender_app = typer.Typer(no_args_is_help=True, help="Blender, which can draw CLEVR-like scenes.")
app.add_typer(blender_app, name="blender")

Venv = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="The environment.", show_default="$VISION_ZERO_BLENDER, or in the user's cache"),
]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A folder of pairs.", show_default=False)]


class _Kind(StrEnum):
    CLEVR = "clevr"
    CHARTS = "charts"
    PHOTOS = "photos"


_OPTIONS = {
    _Kind.CLEVR: ("count", "width", "height", "renderer", "assets"),
    _Kind.CHARTS: ("count", "width", "height"),
    _Kind.PHOTOS: ("path",),
}
"""Settings that have an option of their own, by what they are for."""


class _Renderer(StrEnum):
    NUMPY = "numpy"
    BLENDER = "blender"


class _Split(StrEnum):
    TRAIN = "train"
    HELD_OUT = "held_out"


@app.command()
def make(
    kind: Annotated[_Kind, typer.Argument(help="What is in the pictures.", show_default=False)],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the set; goes on with one that was stopped.")],
    count: Annotated[int | None, typer.Option(min=1, help="How many pairs.", show_default="2000")] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Pixels.", show_default="as in recipes")] = None,
    height: Annotated[int | None, typer.Option(min=1, help="Pixels.", show_default="as in recipes")] = None,
    photos: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The photos to edit, for `photos`.", show_default=False)
    ] = None,
    renderer: Annotated[
        _Renderer | None, typer.Option(help="What draws `clevr`; see `pairs blender`.", show_default="numpy")
    ] = None,
    assets: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A clone of clevr-dataset-gen, for Blender.", show_default="own objects"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Other seeds make other pairs.")] = 0,
    split: Annotated[_Split, typer.Option(help="The splits of a seed share no pair.")] = _Split.TRAIN,
    workers: Annotated[int, typer.Option(min=1, help="Processes; photos are edited by one.")] = 1,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="A.B=C", help="Any other setting of a recipe's pairs, e.g. pairs.changes=3."),
    ] = None,
) -> None:
    """Make pairs as files: pictures, their change logs and what is known to be in them.

    CLEVR-like scenes come in the layout of the published set, the others as NAME_original.png and
    NAME_modified.png. Stopped at any time, the same command goes on, and ends with the same bytes.

    For example: `vision-zero pairs make charts --out charts --count 500 --set pairs.changes=1`
    """
    from vision_zero.config import load_config
    from vision_zero.pairs.bar import progress
    from vision_zero.pairs.make import make_pairs

    for item in overrides or []:
        if not item.startswith("pairs."):
            raise UserError(f"--set {item!r}: only settings of pairs make a difference here, e.g. pairs.changes=3")
    drawn_by = renderer.value if renderer else None
    given: dict[str, object] = {"count": count, "width": width, "height": height, "path": photos}
    given |= {"renderer": drawn_by, "assets": assets}
    for name, value in given.items():
        if value is not None and name not in _OPTIONS[kind]:
            raise UserError(f"{_said(name)} means nothing for {kind}, which takes {_said(*_OPTIONS[kind])}")
    if kind is _Kind.PHOTOS and photos is None and not any(o.startswith("pairs.path=") for o in overrides or []):
        raise UserError("which photos? Name their folder with --photos")
    settings = [f"pairs.kind={kind.value}", *(f"pairs.{k}={v}" for k, v in given.items() if v is not None)]
    config = load_config(None, [*settings, *(overrides or [])]).pairs
    with progress(kind.value) as bar:
        task = bar.add_task(kind.value, total=None)

        def on_done(done: int, total: int) -> None:
            if bar.tasks[task].total is None:
                # what was there already says nothing about the rate
                bar.reset(task, total=total, completed=done)
            bar.update(task, completed=done)

        made = make_pairs(config, seed, split.value, out, workers, on_done)
    typer.echo(f"{made} pairs in {out}")


@app.command()
def check(folder: Folder) -> None:
    """Read every pair of a folder and list what cannot be used, with the reason. Exits with 1 if there is anything."""
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    from vision_zero.pairs.bar import with_bar
    from vision_zero.pairs.folder import count_folder, lost_twins, read_folder
    from vision_zero.pairs.make import missing_pairs
    from vision_zero.types import ImagePair

    pictures = _pictures(folder)
    items = list(with_bar(read_folder(pictures), "pairs", count_folder(pictures)))
    pairs = [item for item in items if isinstance(item, ImagePair)]
    problems = [item for item in items if not isinstance(item, ImagePair)]
    problems += [*lost_twins(pictures), *missing_pairs(folder)]
    singles = sum(pair.modified is None for pair in pairs)
    typer.echo(f"{len(pairs) - singles} pairs, {singles} single pictures, {len(problems)} problems in {folder}")
    if problems:
        table = Table(Column("file", overflow="fold"), Column("what is wrong", overflow="fold"))
        for name, reason in problems:
            table.add_row(Text(name.removeprefix(f"{pictures}/")), Text(reason))
        Console().print(table)
        raise typer.Exit(1)
    if not pairs:
        raise UserError(f"{folder} holds no picture named *_original.png")


@app.command()
def show(
    folder: Folder,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where to write.", show_default="the folder itself")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="How many pairs, the first by name.")] = 12,
    side: Annotated[int, typer.Option(min=16, help="Width of each picture on the sheet, in pixels.")] = 300,
) -> None:
    """Write contact_sheet.png and contact_sheet.html: originals, twins, and where they differ."""
    from itertools import islice

    from vision_zero.pairs.folder import read_folder
    from vision_zero.pairs.sheet import contact_sheet, page
    from vision_zero.types import ImagePair

    readable = (item for item in read_folder(_pictures(folder)) if isinstance(item, ImagePair))
    pairs = list(islice(readable, count))
    if not pairs:
        raise UserError(f"{folder} holds no pair that can be read: vision-zero pairs check {folder} says why")
    target = out or folder
    target.mkdir(parents=True, exist_ok=True)
    contact_sheet(pairs, side).save(target / "contact_sheet.png")
    (target / "contact_sheet.html").write_text(page(pairs, folder.resolve().name), encoding="utf-8")
    typer.echo(f"{target / 'contact_sheet.png'}\n{target / 'contact_sheet.html'}")


@blender_app.command()
def install(
    venv: Venv = None,
    python: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A Python 3.11.", show_default="this one, or python3.11")
    ] = None,
) -> None:
    """Install Blender as a Python module (GPL) in an environment of its own: 400 MB to fetch, 1 GB on the disk."""
    from vision_zero.pairs.clevr.blender import environment

    usual = environment.folder()
    target = venv or usual
    typer.echo(f"Blender {environment.install(target, python)} works in {target}")
    if target.resolve() != usual.resolve():
        typer.echo(f"It is found there by: export {environment.VARIABLE}={target.resolve()}")


@blender_app.command("check")
def check_blender(venv: Venv = None) -> None:
    """Say whether Blender works here, and if not, which libraries are missing."""
    from vision_zero.pairs.clevr.blender import environment

    target = venv or environment.folder()
    typer.echo(f"Blender {environment.check(target)} works in {target}")


def _said(*settings: str) -> str:
    return ", ".join(f"--{'photos' if name == 'path' else name}" for name in settings)


def _pictures(folder: Path) -> Path:
    """Where the pictures of a set lie: in the folder, or where the published layout has them."""
    for inner in ("output/replacement_images", "replacement_images"):
        if (folder / inner).is_dir():
            return folder / inner
    return folder
