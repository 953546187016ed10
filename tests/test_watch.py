"""The watch over a run: what it compares with after a restart, and a model that has stopped looking."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from accelerate import Accelerator
from rich.console import Console

from tests.update.made_samples import as_sampled
from vision_zero.config import AlarmConfig, ClevrPairs, GameConfig, RunConfig
from vision_zero.credit.alarms import alarms
from vision_zero.credit.assign import assign, spoken
from vision_zero.credit.rae import RoleAdvantage
from vision_zero.games.spy import SpyGame
from vision_zero.models.base import load
from vision_zero.pairs import open_pairs
from vision_zero.players.policy import PolicyPlayer
from vision_zero.players.scripted import Kind, ScriptedPlayer
from vision_zero.rollouts.dealing import deals_of_step
from vision_zero.rollouts.hf import HfEngine
from vision_zero.rollouts.runner import play
from vision_zero.runs.reporter import Reporter
from vision_zero.runs.serialise import pictures_of
from vision_zero.runs.store import RunStore
from vision_zero.types import Episode, Role, Stage
from vision_zero.update.sight import require_sight
from vision_zero.update.updater import Updater
from vision_zero.watch import Watch

GAMES = 16
PAIRS = ClevrPairs(count=100, width=96, height=64, style="nano")
PLAY = partial(play, SpyGame(GameConfig(wording="compact", max_clue_tokens=12, max_vote_tokens=4)))


def games(step: int, kind: Kind) -> list[Episode]:
    deals = deals_of_step(open_pairs(PAIRS, 5, "train"), 5, step, GAMES, dict.fromkeys(Role, "policy"))
    return PLAY(deals, {"policy": ScriptedPlayer(kind)})


def test_a_run_that_goes_on_is_compared_with_its_first_step(tmp_path: Path) -> None:
    store = RunStore.create(tmp_path, RunConfig(save={"trackers": []}))
    console = Console(width=300, record=True, quiet=False, file=(tmp_path / "out").open("w"))
    first, second = games(0, "honest"), games(1, "random")
    watch = Watch(AlarmConfig(), store)
    with Reporter(store, 3, 0, console) as report:
        report.step(0, started := watch.look(0, {}, first), first, [])
        report.step(1, unbroken := watch.look(1, {}, second), second, [])
        report.step(2, watch.look(2, {}, second), second, [])
    assert not [name for name in started if name.startswith("alarm/")]
    assert "alarm/false_clues" in unbroken
    assert Watch(AlarmConfig(), store).look(1, {}, second) == unbroken
    assert store.read_metrics()[1]["alarm/false_clues"] == unbroken["alarm/false_clues"]
    printed = console.export_text()
    assert printed.count(str(unbroken["alarm/false_clues"])) == 1, "an alarm is printed when it begins"
    store.episode_path(0).unlink()
    assert "clues/drift" not in Watch(AlarmConfig(), store).look(1, {}, second)


def test_clues_that_no_longer_depend_on_the_picture_raise_an_alarm() -> None:
    """The tiny model is trained, on real games, to say one and the same clue whatever it sees; its votes still look."""
    config = RunConfig.model_validate(
        {"model": {"path": "nano", "train": "language"}, "update": {"learning_rate": 3e-3, "warmup": 0, "kl": 0}}
        | {"game": {"wording": "compact"}, "pairs": PAIRS.model_dump()}
    )
    vlm = load(config.model, device="cpu")
    policy = PolicyPlayer("policy", vlm, HfEngine(vlm, 256), 1.0, version="0")
    deals = deals_of_step(open_pairs(PAIRS, 5, "train"), 5, 0, 2, dict.fromkeys(Role, "policy"))
    episodes = assign(
        PLAY(deals, {"policy": policy}), Stage.CLUE, config.credit, RoleAdvantage(0.9, "subtract_then_update")
    ).episodes
    said = [sample for episode in episodes for sample in spoken(episode)]
    pictures = {p.sha: p for e in episodes for p in pictures_of(e)}
    updater = Updater(vlm, vlm.reference(), config, Accelerator(cpu=True), total_steps=1000)
    clues = [s for s in said if s.label.startswith("clue")]
    constant = clues[0].ids
    samples = [replace(s, ids=constant, sampling_logprobs=(0.0,) * len(constant), advantage=1.0) for s in clues]
    before = require_sight(updater, said, pictures)
    assert before.keys() == {"sight", "sight/clue", "sight/decision"}
    for _ in range(12):
        updater.step(updater.prepare(as_sampled(updater, samples, pictures), pictures), pictures)
    after = require_sight(updater, [*samples, *(s for s in said if s not in clues)], pictures)
    print(before, after)
    assert alarms(after, before, GAMES, AlarmConfig()).keys() == {"blind_clues"}
    assert alarms(before, before, GAMES, AlarmConfig()) == {}
