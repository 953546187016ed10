"""Making what a seat said safe to show to others.

A clue goes into other players' prompts and onto people's screens. Whatever a player writes, no special
token of a chat template, no box, no tag and no invisible character may get there. Instead of a list of
known tokens, the characters that every such token needs (angle and square brackets, bars, backslash, braces)
do not survive at all, so that no order of removals can put a token together.
"""

from __future__ import annotations

import re
import unicodedata

_TAG = re.compile(r"<[^\s<>]{1,64}>|\[/?g?[A-Z][A-Z_]{0,64}\]|◁[^\s◁▷]{1,64}▷")
_COMMAND = re.compile(r"\\[A-Za-z]++\*?\s*+\{")
_HARMLESS = str.maketrans(
    {"|": "¦", "<": "‹", ">": "›", "◁": "‹", "▷": "›", "[": "(", "]": ")", "{": " ", "}": None, "\\": None}
)

# Unicode's default-ignorable characters that are not of a control category, and pictures of nothing.
_INVISIBLE = re.compile(
    r"[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\ufffc\ufffd\U000e0100-\U000e01ef]"
)
_MOST_MARKS = 4
"""Combining marks kept on one character: enough for any script, and a bound on the cost of normalisation."""


def clean(text: str, max_characters: int | None = None) -> str:
    """One line of visible text without markup, cut at a word to at most `max_characters`.

    Idempotent, linear in the length of `text`, and defined for every string, lone surrogates included.
    """
    text = _visible(unicodedata.normalize("NFKC", _visible(text)))
    text = _TAG.sub(" ", _COMMAND.sub(" ", text)).translate(_HARMLESS)
    # removals may have put characters side by side that compose
    text = " ".join(unicodedata.normalize("NFKC", _visible(text)).split())
    if max_characters is None or len(text) <= max_characters:
        return text
    end = text.rfind(" ", 0, max_characters + 1)
    return text[: end if end > 0 else max_characters]


def _visible(text: str) -> str:
    """White space as plain spaces, everything that cannot be seen left out, piles of marks cut."""
    kept: list[str] = []
    marks = 0
    for character in _INVISIBLE.sub("", text):
        marks = marks + 1 if unicodedata.combining(character) else 0
        if character.isspace():
            kept.append(" ")
        elif unicodedata.category(character)[0] != "C" and marks <= _MOST_MARKS:
            kept.append(character)
    return "".join(kept)
