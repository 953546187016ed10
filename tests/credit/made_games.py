"""Finished games made by hand, for the tests of credit and evaluation."""

from __future__ import annotations

from collections.abc import Sequence

from vision_zero.types import (
    ABSTAIN,
    Episode,
    Outcome,
    Picture,
    Prompt,
    Role,
    Seat,
    Stage,
    StopReason,
    Turn,
    Understood,
    Utterance,
    Vote,
)

PICTURE = Picture(b"picture")


def said(text: str = "x", ids: tuple[int, ...] = (7, 8, 2)) -> Utterance:
    """What a model said, or (no ids) a person or a script."""
    prompt = Prompt((1, 2, 3), ()) if ids else None
    return Utterance(text, StopReason.END_OF_TURN, prompt, ids, tuple(-0.5 for _ in ids))


def clue(seat: int, text: str | None = "a cube .", round: int = 1, player: str = "policy", ids: int = 3) -> Turn:
    understood = Understood(clue=text, problem=None if text else "no clue")
    return Turn(seat, Stage.CLUE, round, 0, (), said(text or "", tuple(range(ids))), understood, player)


def vote(
    seat: int | None, choice: Vote, draw: int = 0, player: str = "policy", thought: str = "", answer: str | None = None
) -> Turn:
    """A vote; without `answer` its box holds the choice, or nothing if that is None."""
    box = answer if answer is not None else "" if choice is None else str(choice)
    understood = Understood(thought, vote=choice, problem="no vote" if choice is None else None, answer=box)
    return Turn(seat, Stage.DECISION, 1, draw, (), said(str(choice)), understood, player)


def outcome(votes: Sequence[Turn], seats: int, spies: Sequence[int]) -> Outcome:
    """Every voter counts once, split over its draws; strictly most votes accuse."""
    draws: dict[int | None, list[Vote]] = {}
    for turn in votes:
        draws.setdefault(turn.seat, []).append(turn.understood.vote)
    received = [sum(d.count(k) / len(d) for d in draws.values()) for k in range(seats)]
    top = [k for k, v in enumerate(received) if v == max(received) and v > 0]
    accused = top[0] if len(top) == 1 else None
    abstained = sum(d.count(ABSTAIN) / len(d) for d in draws.values())
    invalid = sum(d.count(None) / len(d) for d in draws.values())
    return Outcome(accused, accused in spies, tuple(received), abstained, invalid, len(draws))


def game(
    votes: Sequence[Turn],
    clues: Sequence[Turn] | None = None,
    spy: int = 1,
    seats: int = 4,
    id: str = "000000-0000",
    players: Sequence[str] | None = None,
) -> Episode:
    """One clue a seat unless given, then the votes; seat `spy` is the spy."""
    names = players or ["policy"] * seats
    if clues is None:
        clues = [clue(k, f"clue {k}", player=names[k]) for k in range(seats)]
    held = tuple(Seat(k, Role.SPY if k == spy else Role.CIVILIAN, PICTURE, names[k]) for k in range(seats))
    return Episode(id, "spy", "pair", 0, held, (*clues, *votes), outcome(votes, seats, [spy]))
