"""Reading what a player said: its private thought, and its clue or vote, or the reason why there is none.

A boxed reply is free thought followed by the answer in `\\boxed{}`; a bare reply is the answer itself.
Where the published parser (first box, cut at the first brace, digits 1-9 only) misreads, this one
differs: the last closed box counts, braces are balanced, and a number is read whole.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from vision_zero.games.base import ReadReply
from vision_zero.games.cleaning import clean
from vision_zero.types import ABSTAIN, StopReason, Understood, Utterance, Vote

_BRACE = re.compile(r"\\boxed\s*+\{|\\[{}]|[{}]")
_ANSWER_OPEN = re.compile(r"<answer>", re.IGNORECASE)
_ANSWER_CLOSE = re.compile(r"</answer>", re.IGNORECASE)
_THINK_CLOSE = re.compile(r"</think>", re.IGNORECASE)
_OBJECT = re.compile(r"\{[^{}]*\}")
_NUMBER = re.compile(r"(?:(?<!\S)[-−])?\d+(?:[.,]\d+)*")
_ABSTENTION = re.compile(r"(?<![a-z])(?:n\s?/\s?a|n\.\s?a|na|none|abstain)(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class _Reply:
    """A reply taken apart: raw thought and raw answer. With a problem, `answer` is all that is not thought."""

    thought: str
    answer: str
    problem: str | None = None


def read_clue(text: str, boxed: bool, max_characters: int, stop: StopReason = StopReason.END_OF_TURN) -> Understood:
    """Thought and clue of a reply, both clean; the clue is cut to `max_characters` at a word.

    Never raises. `problem` is set and `clue` is None if the reply is empty, has no closed box (boxed),
    was cut off by the token limit before its answer ended, or has an answer without any word.
    """
    reply = _take_apart(text, boxed, stop)
    thought = clean(reply.thought)
    if reply.problem:
        return Understood(thought, problem=reply.problem)
    clue = clean(reply.answer, max_characters)
    if not any(c.isalnum() for c in clue):
        return Understood(thought, problem="the clue has no words")
    return Understood(thought, clue=clue)


def read_vote(text: str, boxed: bool, choices: int, stop: StopReason = StopReason.END_OF_TURN) -> Understood:
    """Thought and vote of a reply; numbers in the reply count from 1 to `choices`, `vote` from 0.

    Never raises. `vote` is "N/A" for an abstention, None with a `problem` for anything unreadable.
    """
    reply = _take_apart(text, boxed, stop)
    thought = clean(reply.thought)
    if not reply.problem:
        vote, problem = _vote(reply.answer, choices)
        return Understood(thought, vote=vote, problem=problem, answer=reply.answer)
    # without a box an object {"spy": 2} is still an answer
    if (answer := _spy_of(reply.answer)) is not None and stop is StopReason.END_OF_TURN:
        vote, problem = _vote(answer, choices)
        return Understood(thought, vote=vote, problem=problem, answer=answer)
    return Understood(thought, problem=reply.problem)


def clue_reader(boxed: bool, max_characters: int) -> ReadReply:
    """`read_clue` as the reader of an ask."""

    def read(utterance: Utterance) -> Understood:
        return read_clue(utterance.text, boxed, max_characters, utterance.stop)

    return read


def vote_reader(boxed: bool, choices: int) -> ReadReply:
    """`read_vote` as the reader of an ask."""

    def read(utterance: Utterance) -> Understood:
        return read_vote(utterance.text, boxed, choices, utterance.stop)

    return read


def _vote(answer: str, choices: int) -> tuple[Vote, str | None]:
    stated = _spy_of(answer)
    words = clean(answer if stated is None else stated)
    if not words:
        return None, "the vote is empty"
    numbers = set(_NUMBER.findall(words))
    abstains = _ABSTENTION.search(words) is not None
    if len(numbers) + abstains > 1:
        return None, "the vote names more than one"
    if abstains:
        return ABSTAIN, None
    if not numbers:
        return None, "the vote has no number"
    number = numbers.pop()
    # a long run of digits is no seat, and too long for int()
    if number.isdecimal() and len(number) <= 9 and 1 <= int(number) <= choices:
        return int(number) - 1, None
    return None, f"there is no number {number[:9]}, only 1 to {choices}"


def _take_apart(text: str, boxed: bool, stop: StopReason) -> _Reply:
    cut = stop is StopReason.LENGTH
    if not text.strip():
        return _Reply("", "", "cut off before a word" if cut else "an empty reply")
    spoken = max((close.end() for close in _THINK_CLOSE.finditer(text)), default=0)
    box, left_open = _last_box(text, spoken)
    if box:
        start, content, end = box
        return _Reply(text[:start], text[content:end])
    if openings := list(_ANSWER_OPEN.finditer(text, spoken)):
        start, content = openings[-1].span()
        closing = _ANSWER_CLOSE.search(text, content)
        if closing or not cut:
            return _Reply(text[:start], text[content : closing.start() if closing else len(text)])
    elif not boxed and not cut:
        return _Reply(text[:spoken], text[spoken:])
    if cut:
        problem = "cut off inside the box" if left_open else "cut off before the answer ended"
    else:
        problem = "the box is not closed" if left_open else "no box"
    return _Reply(text if boxed else text[:spoken], text[spoken:], problem)


def _last_box(text: str, start: int) -> tuple[tuple[int, int, int] | None, bool]:
    r"""Where the last closed `\boxed{...}` starts, its content starts and ends; and whether one is still open."""
    last = None
    open_braces: list[re.Match[str]] = []
    for brace in _BRACE.finditer(text, start):
        if brace[0] == "}":
            opening = open_braces.pop() if open_braces else None
            if opening and opening[0] != "{":
                last = (opening.start(), opening.end(), brace.start())
        elif brace[0][-1] == "{" and brace[0] != r"\{":
            open_braces.append(brace)
    return last, any(b[0] != "{" for b in open_braces)


def _spy_of(text: str) -> str | None:
    """What the last JSON object with a key "spy" says."""
    for found in reversed(_OBJECT.findall(text)):
        if '"spy"' not in found.lower():
            continue
        try:
            stated = json.loads(found)
        except (ValueError, RecursionError):
            continue
        for key, value in stated.items():
            if key.lower() == "spy":
                return value if isinstance(value, str) else json.dumps(value)
    return None
