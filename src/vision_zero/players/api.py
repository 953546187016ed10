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
            self._client = openai.OpenAI(base_url=base_url, api_key=api_key, timeout=timeout, max_retries=retries)
        except openai.OpenAIError as e:
            raise UserError(f"player {self.name}: no API key: set OPENAI_API_KEY (any word for a local server)") from e

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
        except openai.AuthenticationError as e:
            raise UserError(f"player {self.name}: {self._server} refused the API key: check OPENAI_API_KEY") from e
        except openai.NotFoundError as e:
            raise UserError(
                f"player {self.name}: {self._server} does not know the model {self._model!r}, or the address is "
                f"wrong: check both ({e.message})"
            ) from e
        except openai.APITimeoutError as e:
            raise UserError(f"player {self.name}: {self._server} did not answer in time: raise the timeout") from e
        except openai.APIConnectionError as e:
            raise UserError(f"player {self.name}: cannot reach {self._server}: is it running?") from e
        except openai.APIError as e:
            raise UserError(f"player {self.name}: {self._server} refused the request: {e.message}") from e
        if not reply.choices:
            raise UserError(f"player {self.name}: {self._server} answered without a choice: is it a chat server?")
        choice = reply.choices[0]
        stop = StopReason.LENGTH if choice.finish_reason == "length" else StopReason.END_OF_TURN
        return Utterance(choice.message.content or "", stop)

    @property
    def _server(self) -> str:
        return str(self._client.base_url)


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
