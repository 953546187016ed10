"""What produces tokens. An engine knows prompts and pictures, nothing of games."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from vision_zero.errors import UserError
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


def check(request: Request, context: int) -> None:
    """Refuse what no engine may cut to fit.

    Raises `ValueError` if the prompt and its pictures do not match, `UserError` if prompt and budget are more than
    `context` tokens.
    """
    given = tuple(p.sha for p in request.pictures)
    if given != request.prompt.pictures:
        raise ValueError(f"the prompt has the pictures {request.prompt.pictures}, the request brings {given}")
    length = len(request.prompt.ids)
    if length + request.max_new_tokens > context:
        raise UserError(
            f"a prompt of {length} tokens and {request.max_new_tokens} new ones exceed the model's context "
            f"of {context}: lower game.rounds, game.max_*_tokens or model.max_pixels"
        )


class Engine(Protocol):
    """Samples many completions at once. Equal request (seed included), equal weights: equal completion,
    whatever else is in the batch and however the engine splits it."""

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion per request, in order."""
        ...


class PolicyEngine(Engine, Protocol):
    """An engine for weights that are trained between phases of play. All processes use theirs alike."""

    def fixed_weights(self) -> AbstractContextManager[None]:
        """Inside, the weights do not change, and `generate` may be called. Whatever has to be done to play with
        the newest weights is done on entering."""
        ...

    def weights_changed(self) -> None:
        """Say that the model's weights are others than at the last `fixed_weights`."""
        ...

    def figures(self) -> Mapping[str, float]:
        """What the engine measured since it was last asked, by name: metrics of the step."""
        ...

    def close(self) -> None:
        """Give back what the engine holds. It is not used afterwards."""
        ...
