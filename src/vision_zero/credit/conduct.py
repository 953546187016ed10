"""How the learner plays, beside whether it wins: what a step's games say of clues that are no clues.

Self-play rewards whatever wins, and some of that is cheating: copying, asking for votes instead of describing, a
private language. Nothing here changes a reward; `credit.alarms` says when a figure is bad.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from vision_zero.credit.assign import LEARNER
from vision_zero.types import Episode, Role, Stage, Turn

IsTrue = Callable[[str, Mapping[str, Any]], bool | None]
"""Whether a clue is true of a picture's facts; None if it says nothing that can be held against them."""

_WORD = re.compile(r"\w+")
_TELLING = re.compile(
    r"\b(?:sp(?:y|ies)|civilians?|imposte?ors?|undercover|infiltrators?|innocent|traitors?)\b"
    r"|\b(?:vot(?:e[sd]?|ing)|accus(?:e[sd]?|ing)|suspects?|suspicious|trust me|eliminate)\b"
    r"|\b(?:players?|seats?) ?#? ?\d+ (?:is|was|looks|seems|lies|lied|must|has to)\b"
    r"|卧底|间谍|平民|投票|投给",
    re.IGNORECASE,
)
"""Words of the game in a clue, which is to be about a picture: roles, votes, other players."""


def words(text: str) -> list[str]:
    """The words of a text, without capitals and stops. Example: `words("A red cube.") == ["a", "red", "cube"]`"""
    return _WORD.findall(text.casefold())


def conduct(episodes: Sequence[Episode], is_true: IsTrue | None = None) -> dict[str, float]:
    """Figures of what the learner said in a step's games; one without a single observation is absent.

    `clues/telling`: share of clues that speak of roles, votes or other players. `clues/words`, `votes/words`: mean
    number of words of whole replies, thoughts included. `votes/one_seat`: share of the votes of all games that
    name the seat which is named most. With `is_true`, of pictures whose facts are known: `clues/checked`, the
    share of clues that say something of the scene, and of these the share that is true of the speaker's own picture,
    `clues/true/civilian` and `clues/true/spy`.
    """
    found: dict[str, float] = {}
    clues = [(e, t) for e in episodes for t in _spoken(e, Stage.CLUE)]
    heard = [t.understood.clue for _, t in clues if t.understood.clue is not None]
    if heard:
        found["clues/telling"] = fmean(bool(_TELLING.search(clue)) for clue in heard)
    for name, stage in (("clues", Stage.CLUE), ("votes", Stage.DECISION)):
        lengths = [len(words(t.utterance.text)) for e in episodes for t in _spoken(e, stage)]
        if lengths:
            found[f"{name}/words"] = fmean(lengths)
    votes = [t.understood.vote for e in episodes for t in _spoken(e, Stage.DECISION)]
    if votes:
        found["votes/one_seat"] = max(Counter(v for v in votes if isinstance(v, int)).values(), default=0) / len(votes)
    return found | (_truth(clues, is_true) if is_true is not None else {})


def vocabulary(episodes: Sequence[Episode]) -> Counter[str]:
    """How often the learner said which word in its clues."""
    return Counter(
        word for e in episodes for t in _spoken(e, Stage.CLUE) if t.understood.clue for word in words(t.understood.clue)
    )


def drift(now: Mapping[str, int], start: Mapping[str, int]) -> float:
    """Jensen-Shannon divergence of two vocabularies, in bits: 0 the same words as often, 1 no word in common.

    Raises ValueError if one is empty.
    """
    total_now, total_start = sum(now.values()), sum(start.values())
    if not total_now or not total_start:
        raise ValueError("no words: there is nothing to compare")
    bits = 0.0
    for word in sorted({*now, *start}):
        p, q = now.get(word, 0) / total_now, start.get(word, 0) / total_start
        bits += sum(x / 2 * math.log2(2 * x / (p + q)) for x in (p, q) if x)
    return bits


def _spoken(episode: Episode, stage: Stage) -> Iterator[Turn]:
    return (turn for turn in episode.turns if turn.stage is stage and turn.player == LEARNER)


def _truth(clues: Sequence[tuple[Episode, Turn]], is_true: IsTrue) -> dict[str, float]:
    verdicts: list[tuple[Role, bool | None]] = []
    for episode, turn in clues:
        seat = None if turn.seat is None else episode.seats[turn.seat]
        if seat is not None and seat.picture.facts is not None and turn.understood.clue is not None:
            verdicts.append((seat.role, is_true(turn.understood.clue, seat.picture.facts)))
    if not verdicts:
        return {}
    found = {"clues/checked": fmean(v is not None for _, v in verdicts)}
    for role in Role:
        told = [v for held, v in verdicts if held is role and v is not None]
        if told:
            found[f"clues/true/{role}"] = fmean(told)
    return found
