"""`vision-zero arena`, `eval`, `serve` and `export`. Everything heavy is imported inside the commands."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vision_zero.config import RunConfig
from vision_zero.errors import UserError

Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Override a setting of the recipe; may be repeated."),
]


Model = Annotated[
    str,
    typer.Argument(
        metavar="CKPT", help="RUN (its newest checkpoint), RUN@STEP, a model's folder, or a Hub id.", show_default=False
    ),
]


class _Server(StrEnum):
    AUTO = "auto"
    VLLM = "vllm"
    TRANSFORMERS = "transformers"


class _Suite(StrEnum):
    PROBES = "probes"
    VLMEVALKIT = "vlmevalkit"
    LMMS_EVAL = "lmms-eval"


class _Tool(StrEnum):
    VLMEVALKIT = "vlmevalkit"
    LMMS_EVAL = "lmms-eval"


harness = typer.Typer(
    no_args_is_help=True, help="VLMEvalKit and lmms-eval, which run published benchmarks, in environments of their own."
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(arena)
    app.command("eval")(evaluate)
    app.command()(serve)
    app.command()(export)
    app.add_typer(harness, name="harness")


def arena(
    players: Annotated[list[str], typer.Argument(metavar="PLAYER...", show_default=False)],
    recipe: Annotated[Path, typer.Option(metavar="RECIPE", help="Which game on which pictures.")],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Directory of the arena; goes on with one that was stopped.")
    ],
    games: Annotated[int, typer.Option(min=4, help="Games between any two players, half in each role.")] = 100,
    paper: Annotated[
        bool, typer.Option("--paper", help="Only games against `start`, 100 each: 50 as civilians, 50 as spy.")
    ] = False,
    batch: Annotated[int, typer.Option(min=1, help="Games at a time; they are stored when they have ended.")] = 64,
    overrides: Overrides = None,
) -> None:
    """Everybody plays everybody in both roles, on the same deals: win matrix and ratings with 95 % intervals.

    PLAYER is a run directory (its newest checkpoint), RUN@STEP, a model's folder or Hub id, `start` (the
    recipe's untrained model), `api:MODEL` (an OpenAI-compatible server: OPENAI_BASE_URL, OPENAI_API_KEY), or a
    scripted player: `perfect`, `cautious`, `honest`, `vague`, `copying`, `random`. LABEL=PLAYER gives it a name.

    For example: `vision-zero arena trained=runs/NAME start honest --recipe recipes/nano.yaml --out arenas/first`
    """
    from vision_zero.config import load_config
    from vision_zero.evaluate.arena import play_arena
    from vision_zero.evaluate.arena_report import table, write_arena
    from vision_zero.evaluate.entrants import START, find_entrant

    config = load_config(recipe, overrides)
    entrants = [find_entrant(text, config) for text in players]
    against = None
    if paper:
        if not any(e.player == START for e in entrants):
            entrants.append(find_entrant(START, config))
        against, games = next(k for k, e in enumerate(entrants) if e.player == START), 100
    result = play_arena(config, entrants, games, out, lambda line: typer.echo(line, err=True), against, batch)
    write_arena(result, out)
    typer.echo(table(result))
    typer.echo(f"\n{out / 'table.md'}\n{out / 'result.json'}\n{out / 'arena.png'}")


def evaluate(
    checkpoint: Model,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where to write; suites with the same DIR share its table.")],
    base: Annotated[
        str | None, typer.Option(metavar="MODEL", help="What to compare with.", show_default="what the run began with")
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(metavar="RECIPE", help="Which pictures and which wording.", show_default="that of the run"),
    ] = None,
    pairs: Annotated[int, typer.Option(min=2, help="Held-out pairs to ask about.")] = 200,
    suite: Annotated[
        _Suite, typer.Option(help="Who asks: we, or another tool; see `vision-zero harness`.")
    ] = _Suite.PROBES,
    benchmarks: Annotated[
        str | None,
        typer.Option(
            metavar="A,B", help="Of VLMEvalKit or lmms-eval: ChartQA,MMStar,..., `all` of the paper's, or `probes`."
        ),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Who marks replies where rules cannot (OPENAI_BASE_URL, OPENAI_API_KEY)."),
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Longest reply to a benchmark.", show_default="the tool's")
    ] = None,
    server: Annotated[
        _Server,
        typer.Option(help="Who serves the models to the tool; auto: vLLM if it is installed and there is a GPU."),
    ] = _Server.AUTO,
    overrides: Overrides = None,
) -> None:
    """Ask a checkpoint and its base model the same questions, outside of the game.

    Our own are about held-out pictures, made from scenes and chart tables, with exact answers. With --suite,
    VLMEvalKit or lmms-eval asks those of published benchmarks. Both models answer greedily under the same settings,
    which are written next to the score; differences come with 95 % intervals.

    For example: `vision-zero eval runs/NAME --out evaluations/NAME`, then
    `vision-zero eval runs/NAME --out evaluations/NAME --suite vlmevalkit --benchmarks ChartQA,MMStar`
    """
    from vision_zero.config import load_config
    from vision_zero.evaluate.exam import check_fair, hold_exam, make_probes
    from vision_zero.evaluate.scoreboard import FILES, check_models
    from vision_zero.evaluate.weights import find_weights

    if (suite is _Suite.PROBES) != (benchmarks is None):
        raise UserError("--suite vlmevalkit and lmms-eval want --benchmarks, and --benchmarks wants one of them")
    model = load_config(recipe, overrides).model if recipe is not None else None
    found = find_weights(checkpoint, model)
    if base is None:
        if found.run is None:
            raise UserError(f"{checkpoint} is not a checkpoint of a run: say with --base what to compare it with")
        base = found.run.config.model.path
    before = find_weights(base, found.model)
    check_fair(before, found)
    check_models(out, before, found)

    def config() -> RunConfig:
        if recipe is None and found.run is None:
            raise UserError(f"{checkpoint} is not a checkpoint of a run: say with --recipe what to ask about")
        return load_config(
            recipe if found.run is None or recipe is not None else found.run.path / "recipe.yaml", overrides
        )

    if benchmarks is None:
        hold_exam(config(), before, found, pairs, out)
    else:
        from vision_zero.evaluate.harness.probe_file import probe_file
        from vision_zero.evaluate.harness.suite import Order, run_suite

        order = Order(suite.value, benchmarks, judge, max_tokens, server.value)
        run_suite(
            order,
            before,
            found,
            lambda: probe_file(make_probes(config(), pairs).probes, config().game.wording),
            out,
            lambda line: typer.echo(line, err=True),
        )
    typer.echo((out / "table.md").read_text(encoding="utf-8"))
    written = [out / "table.md", out / FILES[suite.value], *([out / "replies.jsonl"] if benchmarks is None else [])]
    typer.echo("\n".join(str(path) for path in written))


def serve(
    checkpoint: Model,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    host: Annotated[
        str, typer.Option(help="Address to listen on. These servers ask for no key: keep it on this machine.")
    ] = "127.0.0.1",
    name: Annotated[
        str | None, typer.Option(help="What clients call the model.", show_default="the checkpoint's name")
    ] = None,
    server: Annotated[_Server, typer.Option(help="auto: vLLM if it is installed and there is a GPU.")] = _Server.AUTO,
) -> None:
    """Put a checkpoint behind an OpenAI-compatible endpoint, until Ctrl-C.

    Then every tool that speaks that protocol can use it, this one too: with OPENAI_BASE_URL and OPENAI_API_KEY
    set as it says, `vision-zero play recipes/nano.yaml --spies api:NAME`.
    """
    from vision_zero.evaluate.serving import served
    from vision_zero.evaluate.weights import find_weights

    found = find_weights(checkpoint)
    called = name or found.version.partition(":")[0].rpartition("/")[2]
    with served(found, called, host, port, server.value) as process:
        typer.echo(f"serving {called} (Ctrl-C stops):")
        typer.echo(f"  export OPENAI_BASE_URL=http://{host}:{port}/v1 OPENAI_API_KEY=none")
        if process.wait() not in (0, -2):
            raise UserError(f"the server ended with code {process.returncode}; see above")


def export(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run directory, or that of an arena.", show_default=False)
    ],
    games: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write its games there, as a Hugging Face dataset.")
    ] = None,
    checkpoint: Annotated[
        tuple[int, Path] | None,
        typer.Option(metavar="STEP DIR", help="Write the checkpoint of a step there, ready for the Hub."),
    ] = None,
    exam: Annotated[
        Path | None, typer.Option(metavar="DIR", help="What `vision-zero eval` wrote of it, for the model card.")
    ] = None,
) -> None:
    """Games as a dataset for other trainers; a checkpoint with its model card for the Hub.

    Datasets: `sft`, what winners said, and `preference`, better and worse replies to one prompt; chats with images.

    For example: `vision-zero export runs/NAME --games exported/games --checkpoint 50 exported/model`
    """
    from vision_zero.runs.store import RunStore

    if games is None and checkpoint is None:
        raise UserError("nothing to export: say --games DIR or --checkpoint STEP DIR")
    store = RunStore.open(run)
    if games is not None:
        from vision_zero.evaluate.export import export_games

        done = export_games(store, games, "vision-zero export RUN --games DIR")
        typer.echo(f"{games}: {done.sft} chats to imitate and {done.preference} preferences from {done.games} games")
    if checkpoint is not None:
        from vision_zero.evaluate.cards import export_checkpoint
        from vision_zero.evaluate.weights import find_weights

        step, folder = checkpoint
        export_checkpoint(find_weights(f"{run}@{step}"), folder, exam)
        typer.echo(f"{folder}: checkpoint of step {step} with its card, {folder / 'README.md'}")


@harness.command("install")
def install_tool(
    tool: Annotated[_Tool, typer.Argument(show_default=False)],
    python: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A Python 3.11 or 3.12.", show_default="this, or on the path")
    ] = None,
) -> None:
    """Install a tool in an environment of its own, with all packages pinned.

    It takes 2.4 GB on the disk with a torch for CPUs, more with one for CUDA. The environment is in the
    user's cache, or in the folder that VISION_ZERO_HARNESS names.
    """
    from vision_zero.evaluate.harness import environment

    found = environment.install(tool.value, python)
    typer.echo(f"{tool.value} {found.version} works in {found.folder}: {len(found.benchmarks)} benchmarks")


@harness.command("list")
def list_benchmarks(tool: Annotated[_Tool, typer.Argument(show_default=False)]) -> None:
    """Print the paper's benchmarks as an installed tool calls them, and how many others it knows."""
    from vision_zero.evaluate.harness import benchmarks, environment

    found = environment.find(tool.value)
    ours = [name for benchmark in benchmarks.PUBLISHED for name in benchmark.names(tool.value)]
    for benchmark in benchmarks.PUBLISHED:
        names = ", ".join(benchmark.names(tool.value))
        typer.echo(f"{benchmark.name:12} {names}{'  (--judge)' if tool.value in benchmark.judged else ''}")
    typer.echo(
        f"and {len(found.benchmarks.keys() - set(ours))} others of {tool.value} {found.version}, by its own names"
    )
