"""Speed of play with and without kept prompts, same games: `python benchmarks/play.py MODEL [--games N] [--repeats N]`.

Both ways take turns, so that what else the machine does falls on both. CPU seconds count all threads. The
games must come out the same, token by token; what differs is printed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from vision_zero.config import RunConfig, load_config
from vision_zero.games import make_game
from vision_zero.games.base import Deal
from vision_zero.models.base import VLM, load
from vision_zero.pairs import open_pairs
from vision_zero.players.policy import PolicyPlayer
from vision_zero.rollouts.dealing import deals_of_step
from vision_zero.rollouts.hf import HfEngine
from vision_zero.rollouts.runner import play
from vision_zero.types import Episode, Role

POLICY = "policy"


def timed(config: RunConfig, vlm: VLM, deals: Sequence[Deal], gib: float) -> tuple[list[Episode], float, float]:
    """The games, wall and CPU seconds."""
    engine = HfEngine(vlm, config.rollouts.batch_size, int(gib * 2**30))
    player = PolicyPlayer(POLICY, vlm, engine, config.rollouts.temperature, "0")
    wall, cpu = time.perf_counter(), time.process_time()
    with engine.fixed_weights():
        episodes = play(make_game(config.game), deals, {POLICY: player})
    return episodes, time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="folder or name of a model")
    parser.add_argument("--games", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--recipe", type=Path, default=Path("recipes/nano.yaml"))
    options = parser.parse_args()
    config = load_config(options.recipe, [f"model.path={options.model}"])
    vlm = load(config.model)
    pairs = open_pairs(config.pairs, config.seed, "train")
    deals = deals_of_step(pairs, config.seed, 0, options.games, dict.fromkeys(Role, POLICY))
    timed(config, vlm, deals, 0)  # pictures are read once, and not counted

    sizes = {"off": 0.0, "on": config.rollouts.trunk_cache_gib}
    walls: dict[str, list[float]] = {name: [] for name in sizes}
    cpus: dict[str, list[float]] = {name: [] for name in sizes}
    said: dict[str, list[tuple[int, ...]]] = {}
    for _ in range(options.repeats):
        for name, gib in sizes.items():
            episodes, wall, cpu = timed(config, vlm, deals, gib)
            walls[name].append(wall)
            cpus[name].append(cpu)
            said[name] = [turn.utterance.ids for e in episodes for turn in e.turns]
    print(f"{'kept prompts':<12} {'games/s':>8} {'CPU s':>7} {'CPU s, each':<40}")
    for name in sizes:
        each = " ".join(f"{s:.2f}" for s in cpus[name])
        speed = options.games / statistics.median(walls[name])
        print(f"{name:<12} {speed:>8.1f} {statistics.median(cpus[name]):>7.2f} {each:<40}")
    ratio = statistics.median(a / b for a, b in zip(cpus["off"], cpus["on"], strict=True))
    different = sum(a != b for a, b in zip(said["off"], said["on"], strict=True))
    print(f"CPU seconds off / on: {ratio:.2f}; {different} of {len(said['on'])} utterances differ")


if __name__ == "__main__":
    main()
