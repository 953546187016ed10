"""The loop: play, credit, old and reference log-probs, update, report, save. Read `Trainer.step` first."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from rich.console import Console

from vision_zero.config import RunConfig
from vision_zero.credit.assign import assign, spoken
from vision_zero.credit.measures import measures, stage_measures
from vision_zero.credit.rae import RoleAdvantage
from vision_zero.credit.stages import StageScheduler
from vision_zero.distributed import Alone, make_accelerator, rank, shard, tell_all, world
from vision_zero.errors import UserError
from vision_zero.evaluate.summary import held_out_games, print_report, write_report
from vision_zero.models.base import load
from vision_zero.models.files import adapter_folder
from vision_zero.pairs import open_pairs
from vision_zero.playing import PlayersLost, Playing
from vision_zero.preemption import Preempted, Preemption
from vision_zero.probe import probe as worst_batch
from vision_zero.rollouts.dealing import Dealer
from vision_zero.runs import checkpoint
from vision_zero.runs.guard import Unchanged
from vision_zero.runs.reporter import Reporter, Silent
from vision_zero.runs.serialise import pictures_of
from vision_zero.runs.store import RunStore
from vision_zero.skipped import keep_offending
from vision_zero.types import Stage
from vision_zero.update.sight import require_sight
from vision_zero.update.updater import Updater
from vision_zero.watch import Watch
from vision_zero.whereabouts import whereabouts


def train(config: RunConfig, run_dir: Path, console: Console | None = None, probe: bool = False) -> None:
    """Train until `config.steps` steps are done, from the last whole checkpoint in `run_dir` if it has one.

    `run_dir` was made by `RunStore.create`. A run that was stopped ends as if it had never been. `probe`:
    first the worst batch, so that memory ends at once or never. Raises `UserError` for everything that the user
    can mend, and `Preempted` after SIGTERM, when everything is saved.
    """
    max_wait = timedelta(minutes=config.max_wait_minutes)
    with Preemption() as preemption:
        accelerator = make_accelerator(cpu=not torch.cuda.is_available(), max_wait=max_wait)
        # Opened after the processes have met: the first of them may only just have made it.
        store = RunStore.open(run_dir)
        with whereabouts(store.path / "processes", rank(), world(), max_wait.total_seconds()) as enter:
            trainer = Trainer(config, store, accelerator, console or Console())
            try:
                if probe:
                    games = len(shard(range(config.games_per_step)))
                    worst_batch(config, trainer.vlm, trainer.updater, games, trainer.console.print)
                trainer.restore()
                trainer.run(preemption, enter)
                enter("summary")
                trainer.summarise()
            finally:
                trainer.dealer.close()
                trainer.playing.close()


class Trainer:
    """Everything that a run holds in memory; the same on every process but for the games it plays itself."""

    def __init__(self, config: RunConfig, store: RunStore, accelerator: Accelerator, console: Console) -> None:
        self.config, self.store, self.accelerator, self.console = config, store, accelerator, console
        if config.game.name != "spy":
            raise UserError(f"there is no credit for the game {config.game.name!r} yet: set game.name=spy to train")
        shown, told = config.pairs.kind, config.game.subject
        if config.game.wording == "full" and shown != "folder" and shown != told:
            raise UserError(f"the pictures are {shown}, the words speak of {told}: set game.subject={shown}")
        self.pairs = open_pairs(config.pairs, config.seed, "train")
        if adapter_folder(config.model.path):
            raise UserError(
                f"{config.model.path} is a LoRA adapter, and its base would be taken for the frozen start: merge the "
                "two (peft: merge_and_unload, save_pretrained) and set model.path to the merged folder"
            )
        self.vlm = load(config.model, self.accelerator.device)
        start = self.vlm.reference(offload=config.devices.reference == "cpu")
        sharing = Alone(accelerator.device) if config.reproducible else accelerator
        self.updater = Updater(self.vlm, start, config, sharing, config.steps)
        if self.updater.apart and self.accelerator.is_main_process:
            console.print(f"samples are trained apart, as with update.pack=none: {self.updater.apart}", highlight=False)
        self.playing = Playing(self.vlm, start, config, store, accelerator)
        self.dealer = Dealer(self.pairs, config, self.playing.cast, self.vlm)
        evaluated = config.evaluation.games > 0
        self.held_out = held_out_games(config, self.playing.play, self.playing.frozen) if evaluated else None
        self.rae = RoleAdvantage(config.credit.rae_alpha, config.credit.rae_order)
        self.stages = StageScheduler(config.credit.stages)
        self.watch = Watch(config.alarms, store)
        self.done = 0
        """Steps done so far; also the version of the policy's weights."""

    @property
    def states(self) -> dict[str, Any]:
        """All state that is not the model's weights. Deals, seeds and pairs follow from the step and need none."""
        remedy = "resume with the pictures that the run started with"
        pairs = Unchanged("the set of pairs", self.pairs.fingerprint, remedy)
        return {"pairs": pairs, "updater": self.updater, "rae": self.rae, "stages": self.stages}

    def run(self, preemption: Preemption, enter: Callable[[str], None]) -> None:
        """All steps that are left, `enter` being told what is done. Raises `Preempted` if a process was asked to leave,
        after the step and its save."""
        with self._reporter(enter) as report, preemption.until_saved():
            while self.done < self.config.steps:
                self.step(report)
                leaving = any(tell_all(preemption.asked))
                if leaving or self.done % self.config.save.every == 0 or self.done == self.config.steps:
                    report.phase("save")
                    self.save()
                if leaving:
                    raise Preempted

    def step(self, report: Reporter | Silent) -> None:
        """One step of training, on the stage that is due."""
        began, stage = time.monotonic(), self.stages.stage
        report.phase("play")
        mine = self.dealer.deal(self.done, shard(range(self.config.games_per_step)))
        dealt = time.monotonic()
        try:
            all_games = self.playing.play_step(self.done, mine)
        except PlayersLost:
            self.save()
            raise
        episodes = [episode for episode, _ in all_games]
        played = time.monotonic()
        report.phase("credit")
        credited = assign(episodes, stage, self.config.credit, self.rae)
        ids = {e.id for e in episodes} if self.config.reproducible else {deal.id for deal in mine}
        samples = [s for s in credited.samples if s.episode in ids]
        pictures = {p.sha: p for e in episodes for p in pictures_of(e)}
        report.phase("score")
        scored = self.updater.prepare(samples, pictures)
        report.phase("update")
        factor = self.config.credit.stages.clue_rate if stage is Stage.CLUE else 1.0
        updated = self.updater.step(scored, pictures, factor)
        self.playing.weights_changed(self.done + 1)
        report.phase("credit")
        metrics: dict[str, float | int | str] = {
            "stage": str(stage),
            **measures(credited.episodes, self.config.credit),
            **{f"baseline/{role}": value for role, value in self.rae.baselines.items()},
            **{f"update/{name}": value for name, value in updated.items() if not name.startswith("seconds/")},
        }
        change = self.stages.update(*stage_measures(credited.episodes))
        metrics |= {"stage/accuracy": self.stages.accuracy, "stage/na": self.stages.na}
        if self.done % self.config.sight_check_every == 0 and samples:
            report.phase("sight")
            said = [s for episode in credited.episodes if episode.id in ids for s in spoken(episode)]
            metrics |= require_sight(self.updater, said, pictures)
        if self.held_out and self.config.evaluation.every and (self.done + 1) % self.config.evaluation.every == 0:
            report.phase("held-out games")
            result = self.held_out.evaluate(self.playing.policy)
            metrics |= result.metrics
        if self.accelerator.is_main_process:
            metrics |= self.watch.look(self.done, metrics, credited.episodes)
        if change:
            metrics["stage/switch"] = change.reason
            report.note(change.reason)
        metrics |= {
            **{f"engine/{name}": value for name, value in self.playing.engines[0].figures().items()},
            "seconds/deal": dealt - began,
            "seconds/play": played - dealt,
            **{name: value for name, value in updated.items() if name.startswith("seconds/")},
            "seconds/step": time.monotonic() - began,
            "speed/games_per_second": len(episodes) / (played - began),
        }
        report.step(self.done, metrics, credited.episodes, [pair for _, pair in all_games])
        if updated["skipped"]:
            most, main = self.config.update.max_skipped, self.accelerator.is_main_process
            report.note(keep_offending(self.updater, self.store, self.done, most, main))
        self.done += 1

    def save(self) -> None:
        """Write a checkpoint that `restore` continues from."""
        # Taken by all processes: what is in pieces is put together.
        states = {name: part.state_dict() for name, part in self.states.items()}
        if self.accelerator.is_main_process:
            checkpoint.save(self.store.checkpoints, self.done, self.vlm, states)
            self._prune()
        self.accelerator.wait_for_everyone()

    def restore(self) -> None:
        """Go back to the last whole checkpoint, or to the start if there is none, and forget what came after it."""
        found = checkpoint.latest(self.store.checkpoints)
        if found is not None:
            checkpoint.load(found, self.vlm, self.states)
            self.done = found.step
            self.playing.weights_changed(self.done)
        if self.accelerator.is_main_process:
            for name, (before, now) in self.store.settle(self.config, self.done).items():
                self.console.print(f"from step {self.done} on {name} is {now}, it was {before}", highlight=False)
            checkpoint.remove_after(self.store.checkpoints, self.done)
            self.store.truncate_after(self.done - 1)
            # killed between saving and pruning, or before the run had its own settings of what to keep
            self._prune()
        self.accelerator.wait_for_everyone()

    def _prune(self) -> None:
        best = checkpoint.best_step(self.store.checkpoints, self.store.read_metrics())
        checkpoint.prune(self.store.checkpoints, self.config.save.keep, best)

    def summarise(self) -> None:
        """Held-out games against the frozen start, curves, and some games to read."""
        result = None
        if self.held_out:
            with self.console.status("playing held-out games against the frozen start"):
                result = self.held_out.evaluate(self.playing.policy)
        if self.accelerator.is_main_process:
            write_report(self.store, result)
            print_report(self.store, result, self.console)

    def _reporter(self, enter: Callable[[str], None]) -> Reporter | Silent:
        def enter_in_step(phase: str) -> None:
            enter(f"step {self.done}, {phase}")

        if not self.accelerator.is_main_process:
            return Silent(enter_in_step)
        return Reporter(self.store, self.config.steps, self.done, self.console, enter_in_step)
