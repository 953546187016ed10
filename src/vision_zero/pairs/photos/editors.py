"""Models that edit a picture by an instruction."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Protocol

import openai
from PIL import Image

from vision_zero.config import DiffusersEditor, EndpointEditor
from vision_zero.errors import UserError
from vision_zero.pairs.reading import BadFile, decode, to_png
from vision_zero.remote import open_client, what_failed


class Editor(Protocol):
    """Edits one picture."""

    def edit(self, image: Image.Image, instruction: str, seed: int, name: str) -> Image.Image:
        """The edited picture, of any size. `name` is only for messages.

        Raises `BadFile` if this picture cannot be edited (others may), `UserError` if none can.
        """
        ...


def open_editor(config: EndpointEditor | DiffusersEditor) -> Editor:
    """The editor that is configured. Raises `UserError` if it cannot be used here."""
    if config.kind == "endpoint":
        return EndpointImages(config)
    from vision_zero.pairs.photos.pipeline import DiffusersPipeline

    return DiffusersPipeline(config)


class EndpointImages:
    """`POST /v1/images/edits` of any server that speaks OpenAI's protocol.

    Connection failures, timeouts, rate limits and server errors are tried again as configured. The protocol has
    no seed: asked twice, a server may answer with two pictures.
    """

    def __init__(self, config: EndpointEditor) -> None:
        self._config = config
        try:
            self._client = open_client(config.base_url, None, config.timeout, config.retries)
        except UserError as e:
            raise UserError(f"pairs.editor: {e}") from e

    def edit(self, image: Image.Image, instruction: str, seed: int, name: str) -> Image.Image:
        config, server = self._config, self._client.base_url
        settings: dict[str, Any] = {"response_format": config.response_format} if config.response_format else {}
        try:
            reply = self._client.images.edit(
                image=("photo.png", to_png(image), "image/png"), prompt=instruction, model=config.model, n=1, **settings
            )
        except openai.BadRequestError as e:
            raise BadFile(name, f"{server} refused to edit it: {e.message}") from e
        except openai.APIError as e:
            raise UserError(f"pairs.editor: {what_failed(self._client, config.model, e)}") from e
        encoded = reply.data[0].b64_json if reply.data else None
        if not encoded:
            raise UserError(
                f"{server} answered without picture data (a link, or nothing): set "
                "pairs.editor.response_format=b64_json"
            )
        try:
            data = base64.b64decode(encoded, validate=True)
        except binascii.Error as e:
            raise BadFile(name, f"{server} answered with damaged base64 ({e})") from e
        return decode(data, f"{name}, as edited by {server}")
