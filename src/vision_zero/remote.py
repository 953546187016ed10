"""Servers that speak OpenAI's protocol: their client, and what a user can mend when they fail."""

from __future__ import annotations

import openai

from vision_zero.errors import UserError


def open_client(base_url: str | None, api_key: str | None, timeout: float, retries: int) -> openai.OpenAI:
    """A client; address and key default to the environment variables OPENAI_BASE_URL and OPENAI_API_KEY.

    Connection failures, timeouts (`timeout` seconds an attempt), rate limits and server errors are tried again
    `retries` times. Raises `UserError` without a key.
    """
    try:
        return openai.OpenAI(base_url=base_url, api_key=api_key, timeout=timeout, max_retries=retries)
    except openai.OpenAIError as e:
        raise UserError("no API key: set OPENAI_API_KEY (any word for a local server)") from e


def what_failed(client: openai.OpenAI, model: str, error: openai.APIError) -> str:
    """What a failed request means, with its remedy. Example: `"cannot reach http://localhost/v1/: is it running?"`"""
    server = client.base_url
    match error:
        case openai.AuthenticationError():
            return f"{server} refused the API key: check OPENAI_API_KEY"
        case openai.NotFoundError():
            known = f"{server} does not know the model {model!r}, or the address is wrong"
            return f"{known}: check both ({error.message})"
        case openai.APITimeoutError():
            return f"{server} did not answer in time: raise the timeout"
        case openai.APIConnectionError():
            return f"cannot reach {server}: is it running?"
        case _:
            return f"{server} refused the request: {error.message}"
