"""Any model behind an OpenAI-compatible chat completions server."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, Literal

import openai

from vision_zero.errors import UserError
from vision_zero.games.base import Ask
from vision_zero.players.encoding import media_type
from vision_zero.remote import open_client, what_failed
from vision_zero.types import Message, Picture, PicturePart, StopReason, Utterance


class ApiPlayer:
    """A remote model. Pictures travel as data URIs; asks of a batch are sent by `concurrency` threads.

    `api_key` and `base_url` default to the client's environment variables OPENAI_API_KEY and
    OPENAI_BASE_URL. Connection failures, timeouts (`timeout` seconds an attempt), rate limits and server
    errors are tried again `retries` times; what remains, or cannot be mended so, raises `UserError`.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        api_key: str | None = None,
        name: str | None = None,
        *,
        temperature: float = 1.0,
        timeout: float = 120.0,
        retries: int = 4,
        concurrency: int = 8,
        send_seed: bool = True,
        length_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens",
    ) -> None:
        self.name = name or model
        self.version = model
        self._model, self._temperature, self._concurrency = model, temperature, concurrency
        self._send_seed, self._length_field = send_seed, length_field
        try:
            self._client = open_client(base_url, api_key, timeout, retries)
        except UserError as e:
            raise UserError(f"player {self.name}: {e}") from e

    def respond(self, asks: Sequence[Ask]) -> list[Utterance]:
        """One utterance an ask, in order; the first failure ends the batch."""
        with ThreadPoolExecutor(self._concurrency) as pool:
            return list(pool.map(self._respond, asks))

    def _respond(self, ask: Ask) -> Utterance:
        settings: dict[str, Any] = {self._length_field: ask.max_new_tokens, "temperature": self._temperature}
        if self._send_seed:
            settings["seed"] = ask.seed
        messages: Any = [_encode(message) for message in ask.messages]
        try:
            reply = self._client.chat.completions.create(model=self._model, messages=messages, **settings)
        except openai.APIError as e:
            raise UserError(f"player {self.name}: {what_failed(self._client, self._model, e)}") from e
        if not reply.choices:
            server = self._client.base_url
            raise UserError(f"player {self.name}: {server} answered without a choice: is it a chat server?")
        choice = reply.choices[0]
        stop = StopReason.LENGTH if choice.finish_reason == "length" else StopReason.END_OF_TURN
        return Utterance(choice.message.content or "", stop)


def _encode(message: Message) -> dict[str, Any]:
    return {"role": message.role, "content": list(_content(message))}


def _content(message: Message) -> Iterator[dict[str, Any]]:
    text = ""
    for part in message.parts:
        if isinstance(part, PicturePart):
            if text:
                yield {"type": "text", "text": text}
            text = ""
            yield {"type": "image_url", "image_url": {"url": _data_uri(part.picture)}}
        else:
            text += part.text
    if text:
        yield {"type": "text", "text": text}


@lru_cache(maxsize=64)
def _data_uri(picture: Picture) -> str:
    return f"data:{media_type(picture)};base64,{base64.b64encode(picture.data).decode()}"
