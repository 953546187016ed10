"""The end of a run in words and a picture: what improved, what did not, what games look like, what to do next."""

from __future__ import annotations

import json
from itertools import islice

from rich.console import Console

from vision_zero.config import RunConfig
from vision_zero.errors import UserError
from vision_zero.evaluate.curves import plot_curves
from vision_zero.evaluate.held_out import HeldOutGames, HeldOutResult, Play
from vision_zero.games.base import Player
from vision_zero.pairs import open_pairs
from vision_zero.pairs.clevr import language
from vision_zero.players.scripted import ScriptedPlayer
from vision_zero.rollouts.dealing import deals_of_step
from vision_zero.runs.checkpoint import latest
from vision_zero.runs.files import write_atomic
from vision_zero.runs.poster import draw_poster
from vision_zero.runs.replay import render_episode
from vision_zero.runs.store import RunStore
from vision_zero.seeds import derive_seed

REPLAYED = 3
"""Games that are told in full at the end of a run."""


def held_out_games(config: RunConfig, play: Play, start: Player) -> HeldOutGames:
    """Games on pairs that training never deals. Where pictures come with a scene and clues in the tiny model's
    language, clues are judged too. Raises `UserError` if no pair is held out."""
    pairs = open_pairs(config.pairs, config.seed, "held_out")
    if not len(pairs):
        raise UserError("no pair is held out (the set is too small): add pairs, or set evaluation.games to 0")
    seed = derive_seed(config.seed, "held_out")
    deals = deals_of_step(pairs, seed, 0, config.evaluation.games, {})
    facts = deals[0].pair.original.facts or {}
    if config.game.name == "spy" and config.game.wording == "compact" and "objects" in facts:
        return HeldOutGames(deals, play, start, ScriptedPlayer("perfect"), language.is_true)
    return HeldOutGames(deals, play, start)


def write_report(store: RunStore, result: HeldOutResult | None) -> None:
    """Keep the held-out table and the curves in the run directory."""
    if result is not None:
        write_atomic(store.path / "held_out.json", json.dumps(result.to_json(), indent=2).encode() + b"\n")
    plot_curves(store.read_metrics(), store.path / "curves.png")


def print_report(store: RunStore, result: HeldOutResult | None, console: Console) -> None:
    """Tell the person who waited: the table in sentences, games of the last step, where things lie, what is next."""
    last = store.steps()[-1]
    poster = store.path / "game.png"
    for number, record in enumerate(islice(store.read_records(last), REPLAYED)):
        render_episode(record.episode, console, store.path / "thumbnails", record.changes)
        console.print()
        if number == 0:
            draw_poster(record.episode, poster)
    if result is not None:
        console.rule(f"{result.games} held-out games, frozen start -> after {result.policy} steps")
        for line in result.summary:
            console.print(line, soft_wrap=True, highlight=False)
    console.rule("where things are, and what to try next")
    for what, where in next_steps(store):
        console.print(f"{what:<32}{where}", soft_wrap=True, highlight=False)


def next_steps(store: RunStore) -> list[tuple[str, str]]:
    """What there is to see and to do after a run: words, and a place or a command."""
    path, saved = store.path, latest(store.checkpoints)
    steps = [
        ("curves, a game on one sheet", f"{path / 'curves.png'}, {path / 'game.png'}"),
        ("the run in the browser", f"vision-zero view {path}"),
        ("read its games here", f"vision-zero replay {path}"),
    ]
    if saved is None:
        return steps
    out = path.name
    return [
        *steps,
        ("the trained model", f"{saved.path / 'model'} (an ordinary Hugging Face folder)"),
        ("take a seat against it", f"vision-zero play {path} --page"),
        (
            "trained against untrained",
            f"vision-zero arena {path} start --recipe {path / 'recipe.yaml'} --out arenas/{out}",
        ),
        ("questions outside of games", f"vision-zero eval {path} --out evaluations/{out}"),
        (
            "model and games to give away",
            f"vision-zero export {path} --games exported/games --checkpoint {saved.step} exported/model",
        ),
        ("go on after a stop", f"vision-zero resume {path}"),
    ]
