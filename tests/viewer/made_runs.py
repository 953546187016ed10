"""Run directories with real games and pictures, and words that want to be more than words."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

from PIL import Image, ImageDraw

from tests.runs.stored_games import PAIR, game
from vision_zero.config import RunConfig
from vision_zero.runs.store import RunStore
from vision_zero.types import Episode, ImagePair, Picture, Role, Stage, Understood

HOSTILE = (
    "<script>window.broken = 1</script><img src=x onerror='window.broken = 2'> **bold** "
    "[click](javascript:window.broken=3) \u202etxet\u202c \x1b[31m & <b>b</b>"
)
SIZE = (120, 80)
BALL = (80, 40, 100, 60)


def scene(color: str) -> Picture:
    """A grey table with a ball on its right; only the ball's color tells pictures apart."""
    image = Image.new("RGB", SIZE, "#888888")
    ImageDraw.Draw(image).ellipse(BALL, fill=color)
    file = io.BytesIO()
    image.save(file, "PNG")
    return Picture(file.getvalue())


RED, BLUE = scene("red"), scene("blue")


def with_words(episode: Episode, text: str) -> Episode:
    """The game with all that its first player said, thought and clued replaced."""
    first = episode.turns[0]
    turn = dataclasses.replace(
        first,
        utterance=dataclasses.replace(first.utterance, text=text),
        understood=dataclasses.replace(first.understood, thought=text, clue=text, problem=text),
    )
    return dataclasses.replace(episode, turns=(turn, *episode.turns[1:]))


def with_scenes(episode: Episode) -> Episode:
    """The game with pictures that have something to see."""
    seats = tuple(dataclasses.replace(s, picture=BLUE if s.role is Role.SPY else RED) for s in episode.seats)
    return dataclasses.replace(episode, seats=seats)


def asked_twice(episode: Episode) -> Episode:
    """The game with every voter asked once more, and invalid votes for answers."""
    votes = [(t, a) for t, a in zip(episode.turns, episode.advantages or (), strict=True) if t.stage is Stage.DECISION]
    again = [dataclasses.replace(t, draw=1, understood=Understood(problem="no box")) for t, _ in votes]
    return dataclasses.replace(
        episode, turns=(*episode.turns, *again), advantages=(*(episode.advantages or ()), *(a for _, a in votes))
    )


def make_run(path: Path, steps: int = 3, games: int = 4, planned: int = 10, switch_after: int = 1) -> Path:
    """A run of a few steps. Step 0's first game has hostile words; ends go round: caught, tie, escaped."""
    config = RunConfig(name="test", games_per_step=games, steps=planned)
    store = RunStore.create(path.parent, config, path)
    for step in range(steps):
        add_step(store, step, games, switch_after)
    return path


def hold_out(path: Path) -> None:
    """The result of held-out games, as a run that has ended keeps it."""

    def share(point: float, low: float, high: float) -> dict[str, float]:
        return {"point": point, "low": low, "high": high, "trials": 3600, "games": 150}

    row = {
        "name": "votes_on_start_clues",
        "label": "votes that name the spy <b>",
        "better": "higher",
        "before": share(0.41, 0.39, 0.43),
        "after": share(0.66, 0.64, 0.69),
        "difference": share(0.25, 0.2, 0.29),
        "verdict": "improved",
    }
    (path / "held_out.json").write_text(json.dumps({"start": "start", "policy": "10", "games": 150, "rows": [row]}))


def add_step(store: RunStore, step: int, games: int = 4, switch_after: int = 1) -> None:
    votes = [(1, 1, "N/A"), (1, 2, "N/A"), (0, 0, None)]
    episodes = [with_scenes(game(n, step, votes[n % 3])) for n in range(games)]
    if step == 0:
        episodes[0] = with_words(episodes[0], HOSTILE)
    episodes[-1] = asked_twice(dataclasses.replace(episodes[-1], rewards=(0.9, -2.7, 0.9, 0.9)))
    store.write_episodes(step, episodes, [ImagePair(PAIR.id, RED, BLUE, PAIR.changes)])
    metrics: dict[str, float | str] = {
        "stage": "decision" if step <= switch_after else "clue",
        "win/civilian": 0.25 + 0.1 * step,
        "win/spy": 0.75 - 0.1 * step,
        "votes/accuracy": 0.3,
        "votes/plurality": 0.25,
        "votes/na": 0.1,
        "stage/accuracy": 0.3 + 0.05 * step,
        "stage/na": 0.1,
        "update/kl": float("nan") if step == 1 else 0.01 * step,
        "update/entropy": 0.7,
        "update/sampler_difference": 1e-7,
        "seconds/play": 2.0,
        "seconds/step": 3.5,
    }
    if step:
        metrics["alarm/copied"] = f"{step}0% of the clues <i>repeat</i> an earlier one"
    if step == switch_after:
        metrics["stage/switch"] = f"decision -> clue after step {step + 1}: forced <i>in a test</i>"
    store.append_metrics(step, metrics)
