"""Questions outside the game, with exact answers: made from what is known to be in held-out pictures.

`clevr_probes` and `chart_probes` make them from a scene or a table; this module is what they share: a probe,
how it is worded, and how a reply is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vision_zero.games.speech import read_clue
from vision_zero.pairs.clevr.language import parse
from vision_zero.types import Message, Picture, PicturePart, TextPart

YES_NO = ("yes", "no")
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_LONGEST = 400


@dataclass(frozen=True)
class Probe:
    """A question about one picture or two, and its answer.

    `choices` are all possible answers, empty for a number; `tolerance` is how far, as a share of the answer, a
    number may be off. `reads` names the attribute that is read from a reply in the language of clues. Probes of
    one `group` count as one: all of them must be right.

    Example: `Probe("count", "clevr-held_out-0-000012", (picture,), "How many cubes are there?", "2")`
    """

    family: str
    pair: str
    pictures: tuple[Picture, ...]
    question: str
    answer: str
    choices: tuple[str, ...] = ()
    tolerance: float = 0.0
    reads: str | None = None
    group: int = 0


@dataclass(frozen=True)
class ProbeSet:
    """`left_out` says of each family that is not among the probes why it is not."""

    probes: tuple[Probe, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)


def messages_of(probe: Probe, wording: str) -> tuple[Message, ...]:
    """The probe as one chat message: pictures, then the question. `compact`: the question alone."""
    text = f"{probe.question}\n" if wording == "compact" else f"{probe.question} {_how(probe)}\n"
    return (Message("user", (*map(PicturePart, probe.pictures), TextPart(text))),)


def is_right(probe: Probe, reply: str) -> bool | None:
    """Whether a reply gives the answer; None if no single answer can be read in it.

    The last box counts if there is one, else the whole reply. An answer is read if exactly one of the choices,
    or exactly one number, stands there.
    """
    said = read_clue(reply, True, _LONGEST).clue or reply
    if probe.reads is not None:
        description = parse(said)
        value = description and getattr(description, probe.reads)
        return None if value is None else value == probe.answer
    if not probe.choices:
        numbers = {float(n.replace(",", "")) for n in _NUMBER.findall(said)}
        if len(numbers) != 1:
            return None
        answer = float(probe.answer)
        return abs(numbers.pop() - answer) <= probe.tolerance * abs(answer) + 1e-9
    found = _mentioned(said, probe.choices)
    return None if len(found) != 1 else found[0] == probe.answer


def _how(probe: Probe) -> str:
    if not probe.choices:
        return "Answer with a number in \\boxed{}."
    if probe.choices == YES_NO:
        return "Answer yes or no in \\boxed{}."
    return f"Answer with one of these in \\boxed{{}}: {', '.join(probe.choices)}."


def _mentioned(text: str, choices: Sequence[str]) -> list[str]:
    """The choices that stand in a text as whole words; one that is only part of a longer one does not count."""
    text = f" {' '.join(text.split())} ".lower()
    found = []
    for choice in sorted(choices, key=len, reverse=True):
        pattern = rf"(?<!\w){re.escape(choice.lower())}(?!\w)"
        text, times = re.subn(pattern, " ", text)
        if times:
            found.append(choice)
    return found
