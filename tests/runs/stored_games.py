"""A small real game on real PNG files, for the tests of this room."""

from __future__ import annotations

import io

from PIL import Image

from vision_zero.types import (
    ABSTAIN,
    Change,
    Episode,
    ImagePair,
    Message,
    Outcome,
    Picture,
    PicturePart,
    Prompt,
    Role,
    Seat,
    Stage,
    StopReason,
    TextPart,
    Turn,
    Understood,
    Utterance,
)


def picture(color: str, format: str = "PNG", size: tuple[int, int] = (12, 8)) -> Picture:
    file = io.BytesIO()
    Image.new("RGB", size, color).save(file, format)
    return Picture(file.getvalue(), {"objects": [{"color": color}]})


ORIGINAL, MODIFIED = picture("red"), picture("blue")
PAIR = ImagePair(
    "clevr-0", ORIGINAL, MODIFIED, (Change("object 0", {"color": "red"}, {"color": "blue"}),), "clevr", "CC0-1.0"
)


def said(seat: int, text: str, **understood: object) -> tuple[Utterance, Understood]:
    prompt = Prompt((1, 7, 7, 3 + seat), ((ORIGINAL if seat != 1 else MODIFIED).sha,))
    utterance = Utterance(text, StopReason.END_OF_TURN, prompt, (9, 2), (-0.1, -1 / 3))
    return utterance, Understood(**understood)  # type: ignore[arg-type]


def game(number: int = 0, step: int = 0, votes: tuple[object, ...] = (1, 1, ABSTAIN)) -> Episode:
    """Four seats, seat 1 is the spy; one clue each, then the votes of seats 0, 2 and 3."""
    seats = tuple(
        Seat(k, Role.SPY if k == 1 else Role.CIVILIAN, MODIFIED if k == 1 else ORIGINAL, "policy") for k in range(4)
    )
    turns = []
    for k in range(4):
        shown = (
            Message("user", (PicturePart(seats[k].picture), TextPart("4 players\n"), TextPart(f"you are {k + 1}"))),
        )
        clue = None if k == 3 else f"a cube that {k + 1} sees"
        problem = "no box" if clue is None else None
        spoken = said(k, f"hm \\boxed{{{clue}}}", thought=f"private thought of {k + 1}", clue=clue, problem=problem)
        turns.append(Turn(k, Stage.CLUE, 1, 0, shown, *spoken))
    for voter, vote in zip((0, 2, 3), votes, strict=True):
        shown = (Message("user", (PicturePart(ORIGINAL), TextPart("who is it?"))),)
        turns.append(Turn(voter, Stage.DECISION, 1, 0, shown, *said(voter, f"\\boxed{{{vote}}}", vote=vote)))
    received = tuple(float(sum(v == k for v in votes)) for k in range(4))
    best = max(received)
    accused = received.index(best) if received.count(best) == 1 else None
    outcome = Outcome(accused, accused == 1, received, float(votes.count(ABSTAIN)), float(votes.count(None)), 3)
    return Episode(
        id=f"{step:06d}-{number:04d}",
        game="spy",
        pair=PAIR.id,
        seed=81 + number,
        seats=seats,
        turns=tuple(turns),
        outcome=outcome,
        versions={"policy": "start"},
        rewards=(0.05, -0.15, 0.05, 0.05),
        advantages=(0.1, None, -0.2, 0.3, 1.0, 1.0, -2.0),
    )
