"""The player that learns: a vision-language model behind an engine. Also its frozen start."""

from __future__ import annotations

from collections.abc import Sequence

from vision_zero.games.base import Ask
from vision_zero.models.base import VLM
from vision_zero.rollouts.engine import Engine, Request
from vision_zero.types import PicturePart, Utterance


class PolicyPlayer:
    """Answers with what the model samples at `temperature` (0: greedy).

    `version` names the weights; whoever changes the weights sets it.
    """

    def __init__(self, name: str, vlm: VLM, engine: Engine, temperature: float, version: str) -> None:
        self.name, self.version = name, version
        self._vlm, self._engine, self._temperature = vlm, engine, temperature

    def respond(self, asks: Sequence[Ask]) -> Sequence[Utterance]:
        """One utterance per ask, with the record that training needs."""
        requests = [self._request(ask) for ask in asks]
        return [
            Utterance(self._vlm.decode(done.ids), done.stop, request.prompt, done.ids, done.logprobs)
            for request, done in zip(requests, self._engine.generate(requests), strict=True)
        ]

    def _request(self, ask: Ask) -> Request:
        return Request(
            prompt=self._vlm.encode(ask.messages),
            pictures=tuple(p.picture for m in ask.messages for p in m.parts if isinstance(p, PicturePart)),
            seed=ask.seed,
            max_new_tokens=ask.max_new_tokens,
            temperature=self._temperature,
        )
