"""Messages to token ids, for any model that has a chat template."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from vision_zero.errors import UserError
from vision_zero.types import Message, Picture, PicturePart, Prompt, TextPart

Structure = tuple[tuple[str, str], ...]
"""Roles and kinds of parts ("t" text, "p" picture) of a message list. Example: `(("user", "ptt"),)`"""


class PromptEncoder:
    """Tokenises the chat template and every text part apart from each other.

    The template is rendered with a sentinel in place of each text, so that no text of a player is ever
    parsed by the template or by the tokenizer's special-token matching, and equal parts give equal ids
    whatever stands beside them.
    """

    def __init__(self, processor: Any, image_token_id: int, guarded: frozenset[int]) -> None:
        """`guarded`: ids that no text part may produce."""
        self._processor, self._tokenizer = processor, processor.tokenizer
        self._image_token_id, self._guarded = image_token_id, guarded
        literals = sorted((self._tokenizer.convert_ids_to_tokens(i) for i in guarded), key=len, reverse=True)
        self._literal = re.compile("|".join(re.escape(t) for t in literals if t) or r"(?!)")
        self._template = lru_cache(maxsize=1024)(self._render)
        self._text = lru_cache(maxsize=65536)(self._plain)

    def encode(self, messages: Sequence[Message], expansion: Callable[[Picture], tuple[int, ...]]) -> Prompt:
        """The prompt of a message list, with the opening of the model's own turn at its end."""
        structure = tuple((m.role, "".join("t" if isinstance(p, TextPart) else "p" for p in m.parts)) for m in messages)
        parts = [p for m in messages for p in m.parts]
        pictures = [p.picture for p in parts if isinstance(p, PicturePart)]
        texts = [p.text for p in parts if isinstance(p, TextPart)]
        waiting = iter(pictures)
        ids: list[int] = []
        for i, chunk in enumerate(self._template(structure)):
            for token in chunk:
                if token == self._image_token_id:
                    ids += expansion(next(waiting))
                else:
                    ids.append(token)
            if i < len(texts):
                ids += self._text(texts[i])
        return Prompt(tuple(ids), tuple(p.sha for p in pictures))

    def decode(self, ids: Sequence[int]) -> str:
        """Text of sampled ids, special tokens dropped."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def _render(self, structure: Structure) -> tuple[tuple[int, ...], ...]:
        """Ids of the template before, between and after the text parts; a picture is one placeholder."""
        conversation: list[dict[str, Any]] = []
        sentinels: list[str] = []
        expected = [0]
        for role, kinds in structure:
            content: list[dict[str, str]] = []
            for kind in kinds:
                if kind == "p":
                    content.append({"type": "image"})
                    expected[-1] += 1
                else:
                    sentinels.append(f"[vz-part-{len(sentinels)}-of-the-prompt]")
                    content.append({"type": "text", "text": sentinels[-1]})
                    expected.append(0)
            conversation.append({"role": role, "content": content})
        rest = self._processor.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
        chunks = []
        for sentinel in sentinels:
            before, found, rest = rest.partition(sentinel)
            if not found or sentinel in rest:
                raise UserError(
                    f"the chat template of this model drops, repeats or reorders message parts ({structure}); "
                    "use a model whose template keeps them"
                )
            chunks.append(before)
        out = tuple(tuple(self._tokenizer(c, add_special_tokens=False)["input_ids"]) for c in [*chunks, rest])
        counts = [c.count(self._image_token_id) for c in out]
        if counts != expected:
            raise UserError(
                f"the chat template of this model puts {counts} picture placeholders around the texts of "
                f"{structure}, expected {expected}; use a model whose template keeps pictures where they are"
            )
        return out

    def _plain(self, text: str) -> tuple[int, ...]:
        """Ids of a text that is only text, whatever it spells."""
        ids = self._tokenize(text)
        if not self._guarded.isdisjoint(ids):
            # Some tokenizers match a special token's spelling even so: cut every spelling after its first character.
            cuts = [0, *(m.start() + 1 for m in self._literal.finditer(text)), len(text)]
            ids = tuple(i for a, b in itertools.pairwise(cuts) for i in self._tokenize(text[a:b]))
        if not self._guarded.isdisjoint(ids):
            names = self._tokenizer.convert_ids_to_tokens(sorted(self._guarded.intersection(ids)))
            raise UserError(f"the tokenizer turns plain text {text!r} into the special tokens {names}: remove them")
        return ids

    def _tokenize(self, text: str) -> tuple[int, ...]:
        if not text:
            return ()
        return tuple(self._tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])
