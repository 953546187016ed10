"""The worst batch first: a run that needs more memory than there is ends in its first minute, not in its first hour."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch

from vision_zero.config import RunConfig
from vision_zero.errors import UserError
from vision_zero.models.base import VLM
from vision_zero.plan.longest import LongestGame, Request, longest_game
from vision_zero.plan.memory import rows_of, steps_of
from vision_zero.plan.report import gib
from vision_zero.plan.shapes import shape_of
from vision_zero.rollouts import engine
from vision_zero.rollouts.hf import HfEngine
from vision_zero.types import Picture, Prompt, Sample
from vision_zero.update.updater import Updater


def probe(config: RunConfig, vlm: VLM, updater: Updater, games: int, say: Callable[[str], None]) -> None:
    """Play the largest tick of the longest game and rehearse the largest update, for `games` games on this device.

    Leaves no trace. Raises `UserError` if memory ends, saying in which part and what to do.
    """
    game = longest_game(config, shape_of(config.model))
    for name, part in (("playing", probe_play), ("updating", probe_update)):
        if part is probe_play and config.rollouts.engine != "hf":
            say("probe: vLLM takes what it may have when it starts; playing is not probed")
            continue
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        try:
            if part is probe_play:
                probe_play(config, vlm, game, games)
            else:
                probe_update(config, vlm, updater, game, games)
        except (torch.OutOfMemoryError, MemoryError) as e:
            raise UserError(
                f"memory ends while {name} at full length ({str(e).splitlines()[0]}): "
                "`vision-zero plan` with this recipe tells the cheapest changes"
            ) from e
        peak = f", {gib(torch.cuda.max_memory_allocated())} at most" if torch.cuda.is_available() else ""
        say(f"probe: {name} at full length fits{peak}")


def probe_play(config: RunConfig, vlm: VLM, game: LongestGame, games: int) -> None:
    """One batch of the tick that needs most, every answer as long as it may be."""
    endless = copy.copy(vlm)
    endless.end_ids = frozenset()
    worst = max(
        {r.tick for r in game.requests},
        key=lambda t: sum(r.draws * (len(r.ids) + r.budget) for r in game.requests if r.tick == t),
    )
    asked = [r for r in game.requests if r.tick == worst]
    requests: list[engine.Request] = []
    for number in range(games):
        for request in asked:
            prompt = _prompt(vlm, request, number, shorter=not requests)
            made = engine.Request(prompt, request.pictures, number, request.budget, config.rollouts.temperature)
            requests += [made] * request.draws
    HfEngine.of(endless, config.rollouts).generate(requests[: config.rollouts.batch_size])


def probe_update(config: RunConfig, vlm: VLM, updater: Updater, game: LongestGame, games: int) -> None:
    """The update of the stage whose batches are largest, with as many games as fill one."""
    text = vlm.network.config.get_text_config()
    _, read = max(steps_of(config), key=lambda s: rows_of(config, text, game, games, s[1])[0])
    width, rows, trees = rows_of(config, text, game, games, read)
    enough = min(games, 1 + rows * width // sum(trees))
    words = _words(vlm)
    samples: list[Sample] = []
    pictures: dict[str, Picture] = {}
    for number in range(enough):
        for turn, request in enumerate(r for r in game.requests if r.stage in read):
            pictures |= {p.sha: p for p in request.pictures}
            for draw in range(request.draws):
                # answers differ from their first token on, as sampled ones would
                ids = tuple(words[(turn * 31 + draw + i) % len(words)] for i in range(request.budget))
                label = f"probe {number}"
                none = (0.0,) * len(ids)
                samples.append(Sample(_prompt(vlm, request, None), ids, none, 1.0, request.stage.value, label, turn))
    updater.rehearse(samples, pictures)


def _prompt(vlm: VLM, request: Request, number: int | None, shorter: bool = False) -> Prompt:
    """The prompt; with a number its last two tokens are others for each number, so that no two are equal. One that
    is `shorter` lacks a token, so that it is padded, which costs all of its batch a mask."""
    prompt = vlm.encode(request.messages)
    if number is None:
        return prompt
    words = _words(vlm)
    kept = prompt.ids[: -3 if shorter else -2]
    return Prompt((*kept, words[number % len(words)], words[number // len(words)]), prompt.pictures)


def _words(vlm: VLM) -> list[int]:
    """Ordinary tokens."""
    special = vlm.forbidden_ids | vlm.end_ids | set(vlm.processor.tokenizer.all_special_ids)
    return [i for i in sorted(set(vlm.processor.tokenizer.get_vocab().values())) if i not in special]
