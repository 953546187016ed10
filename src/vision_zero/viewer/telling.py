"""A game as JSON values for the page: a row of the list, and the whole of it.

Texts of players are passed on as they are. It is the page that shows them as text and nothing else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from vision_zero.runs.replay import ending
from vision_zero.runs.serialise import from_float
from vision_zero.types import JSON, Change, Episode, Picture, Role, StopReason, TextPart, Turn
from vision_zero.viewer.regions import differing_regions

_FIRST_CLUE = 80


def game_row(episode: Episode) -> JSON:
    """What a list shows and filters by.

    `unreadable` and `cut_off` count clues and votes by the role of who said them (`analyst` for one without a
    seat), `reward` holds the lowest and the highest of each role.
    """
    roles = {seat.index: str(seat.role) for seat in episode.seats}
    unreadable = {"civilian": 0, "spy": 0, "analyst": 0}
    cut_off = dict(unreadable)
    for turn in episode.turns:
        who = "analyst" if turn.seat is None else roles[turn.seat]
        unreadable[who] += turn.understood.problem is not None
        cut_off[who] += turn.utterance.stop is StopReason.LENGTH
    reward: dict[str, list[float | str]] = {}
    for role in Role:
        gained = [r for s, r in zip(episode.seats, episode.rewards or (), strict=False) if s.role is role]
        if gained:
            reward[role] = [from_float(min(gained)), from_float(max(gained))]
    clue = next((t.understood.clue for t in episode.turns if t.understood.clue is not None), "")
    return {
        "id": episode.id,
        "pair": episode.pair,
        "ending": ending(episode),
        "spies": [s.index for s in episode.seats if s.role is Role.SPY],
        "accused": episode.outcome.accused,
        "abstained": from_float(episode.outcome.abstained),
        "unreadable": unreadable,
        "cut_off": cut_off,
        "reward": reward,
        "clue": clue[:_FIRST_CLUE],
    }


def game_view(episode: Episode, changes: Sequence[Change] | None) -> JSON:
    """Everything of a game but token ids and single log-probs.

    `twins` are the two pictures of the table if there are exactly two, the civilians' first, and `regions` the
    boxes where they differ.
    """
    outcome = episode.outcome
    twins = _twins(episode)
    return {
        "id": episode.id,
        "game": episode.game,
        "pair": episode.pair,
        "seed": str(episode.seed),  # larger than the page's numbers are exact
        "ending": ending(episode),
        "changes": None if changes is None else [dataclasses.asdict(c) for c in changes],
        "outcome": {
            "accused": outcome.accused,
            "civilians_win": outcome.civilians_win,
            "votes_received": [from_float(v) for v in outcome.votes_received],
            "abstained": from_float(outcome.abstained),
            "invalid": from_float(outcome.invalid),
            "voters": outcome.voters,
        },
        "seats": [
            {
                "index": s.index,
                "role": s.role,
                "player": s.player,
                "version": episode.versions.get(s.player),
                "picture": s.picture.sha,
                "reward": None if episode.rewards is None else from_float(episode.rewards[k]),
            }
            for k, s in enumerate(episode.seats)
        ],
        "twins": [p.sha for p in twins],
        "regions": [list(box) for box in differing_regions(*twins)] if len(twins) == 2 else [],
        "turns": [
            _turn_view(turn, None if episode.advantages is None else episode.advantages[k])
            for k, turn in enumerate(episode.turns)
        ],
    }


def _turn_view(turn: Turn, advantage: float | None) -> JSON:
    said, read = turn.utterance, turn.understood
    return {
        "seat": turn.seat,
        "stage": turn.stage,
        "round": turn.round,
        "draw": turn.draw,
        "player": turn.player,
        "shown": "".join(part.text for m in turn.shown for part in m.parts if isinstance(part, TextPart)),
        "text": said.text,
        "stop": said.stop,
        "tokens": len(said.ids),
        "logprob": from_float(sum(said.logprobs)) if said.logprobs else None,
        "thought": read.thought,
        "clue": read.clue,
        "vote": read.vote,
        "problem": read.problem,
        "advantage": None if advantage is None else from_float(advantage),
    }


def _twins(episode: Episode) -> list[Picture]:
    by_role = sorted(episode.seats, key=lambda seat: list(Role).index(seat.role))
    different = {seat.picture.sha: seat.picture for seat in by_role}
    return list(different.values()) if len(different) == 2 else []
