"""`vision-zero play`."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vision_zero.errors import UserError
from vision_zero.viewer.command import Host, Port, Token, require_server

if TYPE_CHECKING:
    from vision_zero.config import RunConfig
    from vision_zero.runs.store import RunStore


def play(
    recipe: Annotated[
        Path,
        typer.Argument(
            metavar="RECIPE|RUN", help="A recipe, or a run, whose newest checkpoint is `policy`.", show_default=False
        ),
    ],
    civilians: Annotated[str, typer.Option(metavar="PLAYER", help="Who plays the civilians.")] = "policy",
    spies: Annotated[str, typer.Option(metavar="PLAYER", help="Who plays the spies.")] = "policy",
    seat: Annotated[
        list[str] | None,
        typer.Option(
            "--seat", metavar="K=PLAYER", help="Who sits on seat K (from 1), whatever its role; may be repeated."
        ),
    ] = None,
    page: Annotated[bool, typer.Option("--page", help="Take a seat in the browser instead.")] = False,
    invite: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PLAYER",
            help="With --page: who may be chosen to play beside you; may be repeated.",
            show_default="policy, and with a RUN start",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where games with people are kept: new, or of the same settings.",
            show_default="runs/people-NAME, -2 for other settings",
        ),
    ] = None,
    host: Host = "127.0.0.1",
    port: Port = 8322,
    token: Token = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Deals and draws.", show_default="a new one")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="A.B=C", help="Override a setting of the recipe; may be repeated."),
    ] = None,
) -> None:
    """Play a game: at the terminal, printed as it goes, or with --page in the browser, on a seat of your own.

    PLAYER is `policy` (the recipe's model; of a RUN its newest checkpoint), `start` (the recipe's untrained model), a
    run (RUN@STEP for one of its checkpoints), a model's folder or Hub id, `api:MODEL` (an OpenAI-compatible
    server: OPENAI_BASE_URL, OPENAI_API_KEY), or a scripted player that reads the scene instead of the picture:
    `perfect`, `cautious`, `honest`, `vague`, `copying`, `random`. At the terminal also `human`: you; roles and
    thoughts of others stay hidden until the end.

    For example: `vision-zero play runs/NAME --page`, `vision-zero play recipes/nano.yaml --seat 2=human`
    """
    from vision_zero.config import load_config

    run = recipe if recipe.is_dir() else None
    if run is not None and not (run / "run.json").is_file():
        raise UserError(f"{run} is not a run directory (no run.json): give a run, or a recipe")
    config = load_config(recipe if run is None else run / "recipe.yaml", overrides)
    drawn = secrets.randbelow(2**31) if seed is None else seed
    if page:
        if seat or (civilians, spies) != ("policy", "policy"):
            raise UserError("who sits where is chosen in the page: name who may be chosen with --invite")
        require_server(token)
        names = invite or ["policy", *(["start"] if run is not None else [])]
        _serve(config, run, names, out, drawn, host, port, token)
        return
    if invite:
        raise UserError("--invite is for --page: at the terminal say --civilians, --spies, --seat K=PLAYER")
    chosen = {}
    for item in seat or []:
        number, sep, player = item.partition("=")
        if not (sep and player and number.isascii() and number.isdigit()):
            raise UserError(f"--seat {item!r} is not of the form K=PLAYER, e.g. 2=human")
        chosen[int(number) - 1] = player

    from rich.console import Console

    from vision_zero.tabletop.guests import HUMAN
    from vision_zero.tabletop.terminal import play_one
    from vision_zero.types import Role

    with_people = HUMAN in (civilians, spies, *chosen.values())
    store = _people(config, out) if with_people else None
    play_one(config, run, {Role.CIVILIAN: civilians, Role.SPY: spies}, chosen, drawn, Console(), store)
    if store is not None:
        typer.echo(f"kept in {store.path}: vision-zero view {store.path}")


def _serve(
    config: RunConfig,
    run: Path | None,
    names: list[str],
    out: Path | None,
    seed: int,
    host: str,
    port: int,
    token: str | None,
) -> None:
    from vision_zero.pairs import open_pairs
    from vision_zero.tabletop.evening import ANYBODY, YOU, Evening
    from vision_zero.tabletop.guests import HUMAN, find_guest
    from vision_zero.tabletop.page import make_table
    from vision_zero.viewer.library import Library
    from vision_zero.viewer.server import serve

    if HUMAN in names:
        raise UserError("one person sits at the page, you; invite others")
    guests = [find_guest(name, config, run) for name in dict.fromkeys(names)]
    labels = [guest.label for guest in guests]
    if len(set(labels)) < len(labels) or {YOU, ANYBODY} & set(labels):
        raise UserError(f"every guest needs a name of its own, and none may be {YOU!r} or {ANYBODY!r}: LABEL=PLAYER")
    pairs = open_pairs(config.pairs, config.seed, "held_out")
    store = _people(config, out)
    evening = Evening(config, guests, pairs, store, seed)
    library = Library(store.path)
    typer.echo(f"games are kept in {store.path}")
    serve(
        lambda asked: make_table(evening, library, asked, host),
        host,
        port,
        token,
        lambda address: typer.echo(f"{address}\nCtrl-C stops"),
    )


def _people(config: RunConfig, out: Path | None) -> RunStore:
    """The run directory of games with people: the one to go on with, or a new one. Raises `UserError` if `out` holds
    games with other settings."""
    from itertools import count

    from vision_zero.runs.store import RunStore

    config = config.model_copy(update={"name": f"people-{config.name}", "games_per_step": 1})
    for number in count(1):
        path = out or Path("runs") / (config.name if number == 1 else f"{config.name}-{number}")
        if not (path / "run.json").is_file():
            return RunStore.create(path.parent, config, path)
        store = RunStore.open(path)
        if store.config == config:
            return store
        if out is not None:
            raise UserError(f"{path} holds games with other settings (its recipe.yaml): choose another --out")
    raise AssertionError("there is always another number")
