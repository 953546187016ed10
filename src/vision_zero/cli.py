"""The command line. Everything heavy is imported inside the commands, so that `--help` is instant."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from vision_zero.errors import UserError
from vision_zero.evaluate_cli import register as register_evaluation
from vision_zero.lifeline import hold_on
from vision_zero.pairs_cli import app as pairs_app
from vision_zero.pairs_import_cli import register as register_imports
from vision_zero.preemption import orderly_exit
from vision_zero.tabletop.command import play
from vision_zero.viewer.command import view


class _Group(TyperGroup):
    """Turns what a user can mend into one message and exit code 2, Ctrl-C into exit code 130, SIGTERM into 143."""

    def invoke(self, ctx: Any) -> Any:
        try:
            with orderly_exit():
                return super().invoke(ctx)
        except UserError as e:
            typer.echo(f"error: {e}", err=True)
            raise typer.Exit(2) from e
        except KeyboardInterrupt as e:
            typer.echo("stopped", err=True)
            raise typer.Exit(130) from e


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Vision-language models improve by playing who-is-the-spy on pairs of pictures, without labels.",
)
nano_app = typer.Typer(no_args_is_help=True, help="The tiny model that ships with the package.")
app.add_typer(nano_app, name="nano")
app.add_typer(pairs_app, name="pairs")
register_imports(pairs_app)
app.command()(play)
app.command()(view)
register_evaluation(app)

Recipe = Annotated[
    Path, typer.Argument(metavar="RECIPE", help="A YAML recipe, e.g. recipes/nano.yaml.", show_default=False)
]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory, as `train` named it.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Override a setting of the recipe; may be repeated."),
]

Node = Annotated[
    int | None,
    typer.Option(
        "--node-rank", metavar="R", help="On several machines: which one this is, from 0.", show_default=False
    ),
]
Rendezvous = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="On several machines: where machine 0 is reached.", show_default=False),
]
Probe = Annotated[
    bool, typer.Option("--probe", help="First the worst batch: if memory ends, then in the first minute.")
]


class _Ending(StrEnum):
    CAUGHT = "caught"
    ESCAPED = "escaped"
    TIE = "tie"


@app.command()
def train(
    recipe: Recipe,
    overrides: Overrides = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Directory of the run. If this run was begun there, it goes on.",
            show_default="runs/NAME-DATE-TIME",
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Train this many steps: short for --set steps=N.", show_default=False)
    ] = None,
    devices: Annotated[
        int | None,
        typer.Option(
            min=1, help="Processes on each machine, one a GPU: short for --set processes=N.", show_default=False
        ),
    ] = None,
    nodes: Annotated[
        int | None, typer.Option(min=1, help="Machines: short for --set devices.nodes=M.", show_default=False)
    ] = None,
    node_rank: Node = None,
    rendezvous: Rendezvous = None,
    probe: Probe = False,
) -> None:
    """Train a model by self-play, as a recipe says.

    Everything goes into the run directory: settings, metrics, every game with its pictures, checkpoints.
    Ctrl-C stops; `vision-zero resume RUN`, or the same command if it names --out, goes on from the last
    checkpoint. SIGTERM saves at the end of the step and exits with 75. The recipe's `processes` start by
    themselves; on several machines type the same command on each, with --nodes, --node-rank, --rendezvous and
    --out on a disk that they share.
    """
    from vision_zero.config import load_config
    from vision_zero.machines import Place, check_world
    from vision_zero.runs.changes import changed_settings, require_allowed
    from vision_zero.runs.store import RunStore

    short = {"steps": steps, "processes": devices, "devices.nodes": nodes}
    settings = [f"{key}={value}" for key, value in short.items() if value is not None]
    config, place = load_config(recipe, [*(overrides or []), *settings]), Place(node_rank, rendezvous)
    check_world(config, place)
    if out is None and (config.devices.nodes > 1 or int(os.environ.get("WORLD_SIZE", "1")) > 1):
        raise UserError("several processes must agree on the directory of the run: give --out")
    if out is not None and (out / "run.json").is_file():
        store = RunStore.open(out)
        how = f"`vision-zero resume {out}` goes on with those, or with --set A.B=C; or choose another --out"
        require_allowed(changed_settings(store.settled, config), (), how)
    elif int(os.environ.get("RANK", node_rank or 0)) == 0:
        out = RunStore.create(Path("runs"), config, out).path
    assert out is not None
    _train(out, config, probe, place)


@app.command()
def resume(
    run: Run,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="A.B=C", help="Go on with another setting; may be repeated."),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(metavar="A.B", help="Take over this setting, edited in RUN/recipe.yaml; may be repeated."),
    ] = None,
    node_rank: Node = None,
    rendezvous: Rendezvous = None,
    probe: Probe = False,
) -> None:
    """Go on with a run that was stopped, from its last checkpoint.

    What came after that checkpoint is played again: the run ends as if it had never been stopped. Settings
    change only if they are named, and `run.json` keeps what was changed and when.

    For example: `vision-zero resume runs/first --set steps=200`
    """
    from vision_zero.config import load_config
    from vision_zero.machines import Place, check_world
    from vision_zero.runs.changes import changed_settings, require_allowed
    from vision_zero.runs.store import RunStore

    store = RunStore.open(run)
    config = load_config(run / "recipe.yaml", overrides)
    named = [*(item.partition("=")[0] for item in overrides or []), *(allow or [])]
    how = f"put {run / 'recipe.yaml'} back, or name what may change: --allow A.B"
    require_allowed(changed_settings(store.settled, config), named, how)
    place = Place(node_rank, rendezvous)
    check_world(config, place)
    _train(run, config, probe, place, [*_options("--set", overrides), *_options("--allow", allow)])


@app.command(name="rollout-server", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def rollout_server(
    recipe: Recipe,
    context: typer.Context,
    host: Annotated[
        str, typer.Option(help="Where to listen. Whoever can reach it can change its weights.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8100,
    overrides: Overrides = None,
) -> None:
    """Start a vLLM server that plays for a recipe with `rollouts.engine=vllm-server`.

    Arguments that are not listed go to vLLM as they are, such as `--tensor-parallel-size 2`. Ctrl-C ends it.
    """
    from vision_zero.config import load_config
    from vision_zero.rollouts.vllm_launch import serve

    raise typer.Exit(serve(load_config(recipe, overrides), host, port, context.args))


@app.command()
def replay(
    run: Run,
    step: Annotated[int | None, typer.Option(min=0, help="Games of this step.", show_default="the last")] = None,
    outcome: Annotated[_Ending | None, typer.Option(help="Only games that ended so.", show_default=False)] = None,
    count: Annotated[int, typer.Option(min=1, help="How many games.")] = 3,
    sheets: Annotated[bool, typer.Option(help="Also draw each game on one sheet, in RUN/sheets.")] = False,
) -> None:
    """Tell stored games in the terminal: who sees what, clues, private thoughts, votes, rewards.

    The pictures are written into RUN/thumbnails.
    """
    from collections import Counter
    from itertools import islice

    from rich.console import Console

    from vision_zero.runs.poster import draw_poster
    from vision_zero.runs.replay import ending, render_episode
    from vision_zero.runs.store import RunStore

    store = RunStore.open(run)
    if step is None:
        steps = store.steps()
        if not steps:
            raise UserError(f"{run} holds no games yet: wait for its first step to end")
        step = steps[-1]
    chosen = store.read_records(step, lambda e: outcome is None or ending(e) == outcome)
    records = list(islice(chosen, count))
    if not records:
        endings = Counter(map(ending, store.read_episodes(step)))
        found = ", ".join(f"{n} {name}" for name, n in endings.items()) or "no games"
        raise UserError(f"no game of step {step} ended as {outcome} (there are: {found}): choose another --outcome")
    console = Console()
    for record in records:
        render_episode(record.episode, console, run / "thumbnails", record.changes)
        if sheets:
            draw_poster(record.episode, run / "sheets" / f"{record.episode.id}.png")
        console.print()


@app.command()
def config(recipe: Recipe, overrides: Overrides = None) -> None:
    """Print every setting of a recipe, with overrides applied and defaults filled in. The output is a recipe."""
    import yaml

    from vision_zero.config import load_config

    tree = load_config(recipe, overrides).model_dump(mode="json")
    typer.echo(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True), nl=False)


@app.command()
def plan(
    recipe: Recipe,
    devices: Annotated[
        str | None,
        typer.Option(
            metavar="NAME:COUNT",
            help="Devices to plan for: rtx4090, l40s, a100-40, a100, h100, h200, a size such as 24gb, or cpu.",
            show_default="those of this machine",
        ),
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Tell what a recipe implies before anything is paid: games, tokens, memory, time, disk. Reads no weights.

    If it does not fit, the cheapest changes after which it does.
    """
    from rich.console import Console

    from vision_zero.config import load_config
    from vision_zero.plan import make_plan, print_plan
    from vision_zero.plan.devices import find_devices

    config = load_config(recipe, overrides)
    print_plan(make_plan(config, find_devices(devices, config)), Console())


@app.command()
def doctor() -> None:
    """Is this machine ready? Versions, devices, and a small model through play and update, with what to mend."""
    from rich.console import Console

    from vision_zero.doctor import examine

    if not examine(Console()):
        raise typer.Exit(1)


@app.command()
def models() -> None:
    """Which model families are known, and what the tests show of each."""
    from rich.console import Console

    from vision_zero.models.table import models_table

    Console().print(models_table())


@nano_app.command("make")
def nano_make(
    out: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Directory of the checkpoint."),
    ],
    seed: Annotated[int, typer.Option(min=0, help="Scenes and first weights.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes, one thread each.")] = 2,
) -> None:
    """Build the tiny model from nothing: render scenes, learn to see and to speak, report its accuracies.

    Needs about an hour on two cores. Ctrl-C stops; the same command goes on from there. Equal arguments give
    equal weights on equal machines.
    """
    from vision_zero.models.nano import make

    make(out=out, seed=seed, workers=workers)


def _options(name: str, values: list[str] | None) -> list[str]:
    return [word for value in values or [] for word in (name, value)]


def _train(run: Path, config: Any, probe: bool, place: Any, changes: Sequence[str] = ()) -> None:
    """Go on with a run, a new one too, in as many processes as it wants.

    `place`: of this machine among several; `changes`: how `resume` was told of them.
    """
    from vision_zero.launch import is_launched, launch

    arguments = ["resume", str(run), *changes, *(["--probe"] if probe else [])]
    nodes = config.devices.nodes
    if config.processes * nodes > 1 and not is_launched():
        if code := launch(arguments, config.processes, nodes, place):
            raise typer.Exit(code)
        return
    from vision_zero.preemption import EXIT_CODE, Preempted
    from vision_zero.train import train as run_training

    try:
        run_training(config, run, probe=probe)
    except Preempted as e:
        if int(os.environ.get("RANK", "0")) == 0:
            typer.echo(f"\nasked to leave; everything is saved, go on with: vision-zero resume {run}", err=True)
        raise typer.Exit(EXIT_CODE) from e
    except KeyboardInterrupt as e:
        if int(os.environ.get("RANK", "0")) == 0:
            typer.echo(f"\nstopped; go on from the last checkpoint with: vision-zero resume {run}", err=True)
        raise typer.Exit(130) from e


if __name__ == "__main__":
    hold_on()
    sys.exit(app())
