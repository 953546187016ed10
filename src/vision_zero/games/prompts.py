"""What the players of who-is-the-spy read: a view of the game as one chat message.

The words are in `templates/spy.yaml`; this module only orders them. Two layouts:

- `shared`: picture, rules and how to speak, public clues in the order spoken, how to vote if it is a vote, then
  the private part (who you are, your own earlier thoughts, a short request). All prompts of seats with the same
  picture start with the same parts, and a later prompt repeats the public parts of an earlier one and appends to
  them. What is told to everybody is told there, since the private part is read anew in every turn.
- `published`: the private part before the clues, own thoughts among the clues (arXiv 2509.25541, A.2.1).

Every text part ends with a newline, so that parts tokenised apart make the same ids in every prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from string import Template
from typing import Any

import yaml

from vision_zero.config import GameConfig
from vision_zero.games.base import PublicClue, View
from vision_zero.types import Message, PicturePart, TextPart


def clue_messages(view: View, round: int, config: GameConfig, changes: int = 0) -> tuple[Message, ...]:
    """The request to the seat of `view` to give its clue of `round` (from 1).

    `changes` is the number of differences between the pictures; 0 if it is not known.
    """
    if view.seat is None or view.role is None:
        raise ValueError("only a seat with a role can be asked for a clue")
    words = templates("spy")[config.wording]
    if config.wording == "compact":
        request = _fill(words["clue_request"], seat=view.seat + 1, role=view.role.value, round=round)
        return _compact(view, config, words, request)
    request = _fill(words["clue_request"], round=round, first="" if view.clues else words["first"])
    return _full(view, config, words, changes, request)


def vote_messages(view: View, config: GameConfig, changes: int = 0) -> tuple[Message, ...]:
    """The request to the seat of `view`, or to the analyst (seat None), to name a spy."""
    words = templates("spy")[config.wording]
    who = "analyst" if view.seat is None else "player"
    if config.wording == "compact":
        named = {} if view.seat is None or view.role is None else {"seat": view.seat + 1, "role": view.role.value}
        return _compact(view, config, words, _fill(words["vote_request"][who], **named))
    request = words["vote_request"]["analyst" if view.seat is None else "civilian"]
    return _full(view, config, words, changes, request, [_fill(words["voting"], seats=view.seats)])


@cache
def templates(name: str) -> Mapping[str, Any]:
    """The texts of `templates/<name>.yaml`."""
    text = files(__package__).joinpath("templates", f"{name}.yaml").read_text(encoding="utf-8")
    tree: Mapping[str, Any] = yaml.safe_load(text)
    return tree


def _full(
    view: View, config: GameConfig, words: Mapping[str, Any], changes: int, request: str, voting: Sequence[str] = ()
) -> tuple[Message, ...]:
    blank = config.spy_picture == "blank"
    differing = words["difference"][config.subject][changes != 1]
    odd = _fill(words["odd"]["blank" if blank else config.subject], differences=f"{_number(changes)} {differing}")
    rules = _fill(words["rules"], seats=view.seats, spies=config.spies, odd=odd, topics=words["topics"][config.subject])
    examples = words["examples"][config.subject]
    spying = words["spying"]["blank" if blank else "modified"]
    speaking = _fill(words["speaking"], spying=spying, example_1=examples[0], example_2=examples[1])
    if view.seat is None or view.role is None:
        identity: str = words["identity"]["analyst"]
    else:
        identity = _fill(words["identity"][view.role.value], seat=view.seat + 1)
    thoughts = [_fill(words["thought"], round=n, text=t) for n, t in enumerate(view.own_thoughts, 1) if t]
    if config.layout == "shared":
        clues = [_clue(words, clue) for clue in view.clues]
        return _message(view, [rules, speaking, words["heading"], *clues, *voting, identity, *thoughts, request])
    history = []
    by_round = dict(enumerate(view.own_thoughts, 1))
    for clue in view.clues:
        if clue.seat == view.seat and (thought := by_round.get(clue.round)):
            history.append(_fill(words["thought"], round=clue.round, text=thought))
        history.append(_clue(words, clue))
    return _message(view, [identity, rules, *(voting or [speaking]), request, words["heading"], *history])


def _compact(view: View, config: GameConfig, words: Mapping[str, Any], request: str) -> tuple[Message, ...]:
    public = [_fill(words["rules"], seats=view.seats), *(_clue(words, clue) for clue in view.clues)]
    return _message(view, [*public, request] if config.layout == "shared" else [request, *public])


def _clue(words: Mapping[str, Any], clue: PublicClue) -> str:
    return _fill(words["clue"], seat=clue.seat + 1, round=clue.round, text=clue.text or words["no_clue"])


def _message(view: View, texts: Sequence[str]) -> tuple[Message, ...]:
    return (Message("user", (PicturePart(view.picture), *map(PicturePart, view.more_pictures), *map(TextPart, texts))),)


def _number(changes: int) -> str:
    return {0: "some", 1: "one"}.get(changes, str(changes))


def _fill(template: str, **values: object) -> str:
    return Template(template).substitute(values)
