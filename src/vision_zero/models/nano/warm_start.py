"""`vision-zero nano make`: the tiny model from nothing, in files that a killed run goes on from."""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import spawn
from transformers import Qwen2_5_VLForConditionalGeneration

from vision_zero.errors import UserError
from vision_zero.lifeline import end_with_parent
from vision_zero.models.files import quiet
from vision_zero.models.nano.architecture import build_model, build_processor
from vision_zero.models.nano.report import write_report
from vision_zero.models.nano.scenes import Scenes, read_shards, render_shards
from vision_zero.models.nano.sight import Sight, hand_over, see
from vision_zero.models.nano.speech import Speech
from vision_zero.models.nano.training import Schedule, has_bfloat16, save_atomically, train

_SIGHT = Schedule(steps=1200, batch=64, learning_rate=4e-3)
_SPEECH = Schedule(steps=700, batch=64, learning_rate=2e-3)
_SIGHT_FILE, _SPEECH_FILE = "sight.pt", "speech.pt"


@dataclass(frozen=True)
class Plan:
    """How much of everything. The defaults made the checkpoint that ships."""

    pairs: int = 10000
    """Pairs of pictures to learn from; in memory they take 74 kB each, in every process."""
    sight: Schedule = _SIGHT
    speech: Schedule = _SPEECH
    games: int = 300
    """Games of the report."""
    pictures: int = 600
    """Pictures of the report's questions."""
    shard: int = 250
    """Pairs in one file of rendered scenes: what a killed run may have to render again."""


DEFAULT = Plan()


def make(out: Path, seed: int = 0, workers: int = 2, plan: Plan = DEFAULT) -> None:
    """Build the tiny model in folder `out`: an ordinary Hugging Face folder with report.json and report.md.

    Renders scenes, teaches the vision tower to see and the language model to speak, and measures the result
    on held-out scenes. Each of the `workers` processes uses one thread. Unfinished work lies in
    `out/unfinished` and a later call with the same arguments goes on from there. Equal arguments give equal
    weights on equal machines. Raises `UserError` if `out` holds a finished model or other unfinished work.
    """
    work = out / "unfinished"
    _claim(out, work, f"seed={seed} workers={workers} {plan}")
    started = time.monotonic()
    products = "bfloat16" if has_bfloat16() else "float32"
    made = (
        f"seed {seed}, {plan.pairs} pairs, {plan.sight.steps} steps to see and {plan.speech.steps} to speak, "
        f"{workers} processes, {products} products, torch {torch.__version__}"
    )
    _say(f"rendering {plan.pairs} pairs")
    render_shards(work / "scenes", seed, plan.pairs, plan.shard, workers)
    if not (work / _SPEECH_FILE).exists():
        _say(f"learning in {workers} processes: {plan.sight.steps} steps to see, {plan.speech.steps} to speak")
        with tempfile.TemporaryDirectory() as meeting:
            spawn(_learn, (workers, Path(meeting) / "store", work, seed, plan), nprocs=workers)  # type: ignore[no-untyped-call]
    model = build_model(seed)
    model.load_state_dict(torch.load(work / _SPEECH_FILE, weights_only=True))
    with quiet():
        model.save_pretrained(out)
    build_processor().save_pretrained(out)
    _say(f"measuring ({(time.monotonic() - started) / 60:.1f} minutes so far)")
    _say(write_report(out, seed, plan.games, plan.pictures, made))
    shutil.rmtree(work)


def _claim(out: Path, work: Path, arguments: str) -> None:
    """Make the working folder, or find that it is ours to go on with."""
    if not work.exists() and (out / "config.json").exists():
        raise UserError(f"{out} already holds a model: give another folder or delete it")
    file = work / "arguments.txt"
    if file.exists() and file.read_text(encoding="utf-8") != arguments:
        raise UserError(f"{work} holds unfinished work of other arguments: delete it or give another folder")
    work.mkdir(parents=True, exist_ok=True)
    file.write_text(arguments, encoding="utf-8")


def _learn(rank: int, workers: int, store: Path, work: Path, seed: int, plan: Plan) -> None:
    """One of the processes that learn together: each stage that has no file yet."""
    end_with_parent()
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=workers)
    scenes = read_shards(work / "scenes", plan.pairs, plan.shard)
    model = build_model(seed)
    if not (work / _SIGHT_FILE).exists():
        sight = Sight(model, scenes, plan.sight.batch, seed)
        train(sight, plan.sight, work / "sight-unfinished.pt", _say)
        with torch.no_grad():
            hand_over(model, sight.reader, see(model, build_processor().image_processor, scenes.images[:200]))
        _keep(model, work / _SIGHT_FILE)
    model.load_state_dict(torch.load(work / _SIGHT_FILE, weights_only=True))
    features = _all_features(model, scenes, rank, workers)
    train(Speech(model, scenes, features, plan.speech.batch, seed), plan.speech, work / "speech-unfinished.pt", _say)
    _keep(model, work / _SPEECH_FILE)
    dist.destroy_process_group()


def _keep(model: Qwen2_5_VLForConditionalGeneration, file: Path) -> None:
    """Write the weights, which all processes have alike, once, and wait until they are there."""
    if dist.get_rank() == 0:
        save_atomically(model.state_dict(), file)
    dist.barrier()


@torch.no_grad()
def _all_features(model: Qwen2_5_VLForConditionalGeneration, scenes: Scenes, rank: int, workers: int) -> Tensor:
    """Features (2N, cells, hidden size) of all pictures, every process computing its part."""
    images = build_processor().image_processor
    features = torch.zeros(0)
    for part in np.array_split(np.arange(len(scenes)), -(-len(scenes) // (100 * workers))):
        mine = np.array_split(part, workers)[rank]
        seen = see(model, images, scenes.images[mine])
        if not len(features):
            features = torch.zeros(len(scenes), *seen.shape[1:])
        features[mine] = seen
    if workers > 1:
        dist.all_reduce(features)
    return features


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)
