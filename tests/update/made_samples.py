"""Samples of a game that was never played: real prompts, random completions, engine log-probs on request."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tests.tiny_models import picture
from vision_zero.models.base import VLM
from vision_zero.types import Message, Picture, PicturePart, Sample, TextPart
from vision_zero.update.updater import Updater

RULES = "4 player s , 1 spy , vote red green blue small large cube sphere cylinder\n" * 2


def game(
    vlm: VLM, episode: str, seed: int = 0, seats: int = 3, votes: int = 2
) -> tuple[list[Sample], dict[str, Picture]]:
    """Clues of `seats` seats and `votes` votes of each civilian; seat 0 is the spy and sees another picture of
    the same size, so that its placeholders have the same ids."""
    rng = random.Random(seed)
    common, odd = picture(2 * seed + 1), picture(2 * seed + 2)
    samples: list[Sample] = []
    said = ""
    for turn in range(seats):
        shown = odd if turn == 0 else common
        samples.append(
            _sample(
                vlm,
                rng,
                shown,
                said,
                f"you are {turn + 1}\n",
                episode,
                turn,
                "clue/" + ("spy" if turn == 0 else "civilian"),
            )
        )
        said += f"{turn + 1} : a {rng.choice(['red', 'blue'])} cube\n"
    for seat in range(1, seats):
        asked = _sample(vlm, rng, common, said, f"{seat + 1} vote\n", episode, seats + seat, "decision")
        for draw in range(votes):
            # The first draws say the same: equal votes of one prompt are one branch.
            again = asked.ids if draw < 2 else _ids(vlm, rng)
            samples.append(
                replace(asked, ids=again, sampling_logprobs=(-1.0,) * len(again), advantage=rng.uniform(-1, 1))
            )
    return samples, {common.sha: common, odd.sha: odd}


def _ids(vlm: VLM, rng: random.Random) -> tuple[int, ...]:
    allowed = sorted(set(range(300)) - vlm.forbidden_ids)
    return (*(rng.choice(allowed) for _ in range(rng.randint(1, 7))), min(vlm.end_ids))


def _sample(
    vlm: VLM, rng: random.Random, shown: Picture, said: str, private: str, episode: str, turn: int, label: str
) -> Sample:
    parts = (PicturePart(shown), TextPart(RULES), *(TextPart(s + "\n") for s in said.splitlines()), TextPart(private))
    ids = _ids(vlm, rng)
    return Sample(
        vlm.encode([Message("user", parts)]), ids, (-1.0,) * len(ids), rng.uniform(-1, 1), label, episode, turn
    )


def games(vlm: VLM, count: int, first: int = 0) -> tuple[list[Sample], dict[str, Picture]]:
    """Several games of different sizes."""
    samples: list[Sample] = []
    pictures: dict[str, Picture] = {}
    for i in range(first, first + count):
        more, shown = game(vlm, f"000000-{i:04d}", i, seats=3 + i % 2)
        samples += more
        pictures |= shown
    return samples, pictures


def as_sampled(updater: Updater, samples: Sequence[Sample], pictures: Mapping[str, Picture]) -> list[Sample]:
    """The samples with the log-probs that a faithful engine would have reported."""
    scored = updater.pack(samples, pictures)
    logprobs = updater.score(scored, pictures).tolist()
    return [
        replace(s, sampling_logprobs=tuple(logprobs[start : start + len(s.ids)]))
        for s, start in zip(samples, scored.offsets, strict=True)
    ]
