"""What produces tokens. An engine knows prompts and pictures, nothing of games."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from vision_zero.types import Picture, Prompt, StopReason


@dataclass(frozen=True)
class Request:
    """One completion to sample. `pictures` stand in the order of `prompt.pictures`.

    `temperature` 0 means greedy. No other distortion exists on purpose: what is trained is what was sampled.
    """

    prompt: Prompt
    pictures: tuple[Picture, ...]
    seed: int
    max_new_tokens: int
    temperature: float


@dataclass(frozen=True)
class Completion:
    """What was sampled: `ids` with the end token if one was sampled, and `logprobs[i]`, the log-probability
    of `ids[i]` under the very distribution it was drawn from (temperature and forbidden ids applied)."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    stop: StopReason


class Engine(Protocol):
    """Samples many completions at once. Equal request (seed included), equal weights: equal completion,
    whatever else is in the batch and however the engine splits it."""

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion per request, in order."""
        ...
