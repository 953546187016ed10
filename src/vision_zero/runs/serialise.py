"""Games to JSON and back, exactly. Pictures stand in the JSON as their hashes.

Floats keep every bit (shortest decimal that reads back as the same number). JSON has no word for
numbers that are not finite: they are written as the strings "NaN", "Infinity" and "-Infinity" and
come back as numbers.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from vision_zero.runs.typed import require_type
from vision_zero.types import (
    JSON,
    Change,
    Episode,
    Message,
    Outcome,
    Picture,
    PicturePart,
    Prompt,
    Role,
    Sample,
    Seat,
    Stage,
    StopReason,
    TextPart,
    Turn,
    Understood,
    Utterance,
)

_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def dumps(value: object) -> str:
    """One line of strict JSON. A stray NaN (not passed through `from_float`) raises ValueError."""
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def from_float(value: float) -> float | str:
    """A number as JSON can hold it. Example: `from_float(math.nan) == "NaN"`"""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def sample_to_json(sample: Sample) -> JSON:
    """A sample as plain data, numbers that are not finite as words."""
    return {
        "episode": sample.episode,
        "turn": sample.turn,
        "label": sample.label,
        "advantage": None if sample.advantage is None else from_float(sample.advantage),
        "prompt": list(sample.prompt.ids),
        "pictures": list(sample.prompt.pictures),
        "ids": list(sample.ids),
        "sampling_logprobs": [from_float(p) for p in sample.sampling_logprobs],
    }


def to_float(value: Any) -> Any:
    """Undo `from_float`; everything else passes through."""
    return _NOT_FINITE.get(value, value) if isinstance(value, str) else value


def episode_to_json(episode: Episode, changes: Sequence[Change] | None = None) -> JSON:
    """A game as a tree of plain values. `changes` is what differs between the pair's pictures, None if unknown."""
    return {
        "id": episode.id,
        "game": episode.game,
        "pair": episode.pair,
        "changes": None if changes is None else [dataclasses.asdict(c) for c in changes],
        "seed": episode.seed,
        "versions": dict(episode.versions),
        "seats": [
            {"index": s.index, "role": s.role, "picture": s.picture.sha, "player": s.player} for s in episode.seats
        ],
        "turns": [_turn_to_json(t) for t in episode.turns],
        "outcome": {
            **dataclasses.asdict(episode.outcome),
            "votes_received": _floats(episode.outcome.votes_received),
            "abstained": from_float(episode.outcome.abstained),
            "invalid": from_float(episode.outcome.invalid),
        },
        "rewards": None if episode.rewards is None else _floats(episode.rewards),
        "advantages": None
        if episode.advantages is None
        else [None if a is None else from_float(a) for a in episode.advantages],
    }


def episode_from_json(tree: JSON, picture: Callable[[str], Picture]) -> Episode:
    """Undo `episode_to_json`; `picture` finds a picture by its hash.

    Raises KeyError, TypeError, AttributeError or ValueError if the tree is not one that `episode_to_json` made.
    """
    outcome = tree["outcome"]
    episode = Episode(
        id=tree["id"],
        game=tree["game"],
        pair=tree["pair"],
        seed=tree["seed"],
        seats=tuple(Seat(s["index"], Role(s["role"]), picture(s["picture"]), s["player"]) for s in tree["seats"]),
        turns=tuple(_turn_from_json(t, picture) for t in tree["turns"]),
        outcome=Outcome(
            **{
                **outcome,
                "votes_received": _tuple(outcome["votes_received"]),
                "abstained": to_float(outcome["abstained"]),
                "invalid": to_float(outcome["invalid"]),
            }
        ),
        versions=tree["versions"],
        rewards=None if tree["rewards"] is None else _tuple(tree["rewards"]),
        advantages=None if tree["advantages"] is None else _tuple(tree["advantages"]),
    )
    require_type(episode, Episode, "game")
    return episode


def require_seats(episode: Episode) -> None:
    """Raise ValueError unless everything that counts seats or turns counts those that there are."""
    seats = range(len(episode.seats))
    asked = [turn.seat for turn in episode.turns if turn.seat is not None]
    named = [turn.understood.vote for turn in episode.turns if isinstance(turn.understood.vote, int)]
    if [seat.index for seat in episode.seats] != list(seats) or not seats:
        raise ValueError("its seats are not numbered from 0")
    if not set(asked) <= set(seats) or episode.outcome.accused not in {None, *seats}:
        raise ValueError("it speaks of a seat that is not there")
    # other games vote for other things, of which there are as many as votes were counted for
    if not set(named) <= set(range(len(episode.outcome.votes_received))):
        raise ValueError("a vote is for nobody")
    if episode.rewards is not None and len(episode.rewards) != len(seats):
        raise ValueError("it has not one reward a seat")
    if episode.advantages is not None and len(episode.advantages) != len(episode.turns):
        raise ValueError("it has not one advantage a turn")


def changes_from_json(tree: JSON) -> tuple[Change, ...] | None:
    """The changes that were stored with a game; None if they were not known."""
    changes = None if tree["changes"] is None else tuple(Change(**c) for c in tree["changes"])
    require_type(changes, tuple[Change, ...] | None, "changes")
    return changes


def pictures_of(episode: Episode) -> Iterator[Picture]:
    """Every picture that a game's JSON refers to, repeats included."""
    for seat in episode.seats:
        yield seat.picture
    for turn in episode.turns:
        for message in turn.shown:
            for part in message.parts:
                if isinstance(part, PicturePart):
                    yield part.picture


def _turn_to_json(turn: Turn) -> JSON:
    said = turn.utterance
    return {
        "seat": turn.seat,
        "stage": turn.stage,
        "round": turn.round,
        "draw": turn.draw,
        "player": turn.player,
        "shown": [
            {
                "role": m.role,
                "parts": [
                    {"picture": p.picture.sha} if isinstance(p, PicturePart) else {"text": p.text} for p in m.parts
                ],
            }
            for m in turn.shown
        ],
        "utterance": {
            "text": said.text,
            "stop": said.stop,
            "prompt": None
            if said.prompt is None
            else {"ids": list(said.prompt.ids), "pictures": list(said.prompt.pictures)},
            "ids": list(said.ids),
            "logprobs": _floats(said.logprobs),
        },
        "understood": dataclasses.asdict(turn.understood),
    }


def _turn_from_json(tree: JSON, picture: Callable[[str], Picture]) -> Turn:
    said = tree["utterance"]
    prompt = said["prompt"]
    return Turn(
        seat=tree["seat"],
        stage=Stage(tree["stage"]),
        round=tree["round"],
        draw=tree["draw"],
        player=tree["player"],
        shown=tuple(
            Message(
                m["role"],
                tuple(
                    PicturePart(picture(p["picture"])) if "picture" in p else TextPart(p["text"]) for p in m["parts"]
                ),
            )
            for m in tree["shown"]
        ),
        utterance=Utterance(
            text=said["text"],
            stop=StopReason(said["stop"]),
            prompt=None if prompt is None else Prompt(tuple(prompt["ids"]), tuple(prompt["pictures"])),
            ids=tuple(said["ids"]),
            logprobs=_tuple(said["logprobs"]),
        ),
        understood=Understood(**tree["understood"]),
    )


def _floats(values: Sequence[float]) -> list[float | str]:
    return [from_float(v) for v in values]


def _tuple(values: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(to_float(v) for v in values)
