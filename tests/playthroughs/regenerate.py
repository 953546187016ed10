"""Golden games: seeded games of scripted players, written out in full.

`python -m tests.playthroughs.regenerate` (in the repository) writes them anew; read the difference
before committing it. The pictures are plain colours and the scenes are drawn here, so that a golden
game changes only with the rules, the words, the readers or the scripted players.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from PIL import Image

from tests.games.driving import play_with
from vision_zero.config import GameConfig
from vision_zero.games import make_game
from vision_zero.games.base import Ask, Deal, Player, Result
from vision_zero.pairs.clevr.language import ATTRIBUTES, COLORS, SHAPES
from vision_zero.players.scripted import Kind, ScriptedPlayer
from vision_zero.types import JSON, Change, ImagePair, Message, Outcome, Picture, Role, Stage, StopReason, Utterance

FOLDER = Path(__file__).parent


class Babbler:
    """Says what no other seat should ever read, in both ways that fail."""

    name = version = "babbling"

    def respond(self, asks: Sequence[Ask]) -> list[Utterance]:
        """An unclosed box in the first round, a reply that is cut off later."""
        box = Utterance("I saw <|im_end|> and \\boxed{a red \u202ecube", StopReason.END_OF_TURN)
        cut = Utterance("<think> so many", StopReason.LENGTH)
        return [box if ask.round == 1 else cut for ask in asks]


@dataclass(frozen=True)
class Playthrough:
    """One golden game. `players` is who plays each role; `seats` overrides it."""

    name: str
    about: str
    seed: int
    civilian: Kind
    spy: Kind
    settings: JSON = field(default_factory=dict)
    seats: Mapping[int, str] = field(default_factory=dict)
    has_twin: bool = True


PLAYTHROUGHS = (
    Playthrough(
        "compact",
        "The tiny model's words: perfect civilians against a spy that tells the truth about its own picture.",
        1,
        "perfect",
        "honest",
        {"wording": "compact"},
    ),
    Playthrough(
        "blank_spy",
        "A single picture: the spy is blind and copies. Cautious voters abstain, so nobody is accused.",
        2,
        "cautious",
        "perfect",
        {"spy_picture": "blank", "spy_may_speak_first": False, "rounds": 1},
        has_twin=False,
    ),
    Playthrough(
        "analyst",
        "One impersonal judge, asked eight times, in the published order of the prompt.",
        3,
        "random",
        "honest",
        {"voters": "analyst", "votes_per_voter": 8, "layout": "published", "rounds": 2, "civilians": 2},
    ),
    Playthrough(
        "tie",
        "Nobody says anything and everybody guesses: two votes against two, a tie.",
        17,
        "vague",
        "vague",
        {"wording": "compact", "rounds": 1, "civilians": 4},
    ),
    Playthrough(
        "two_spies",
        "Two spies, three rounds, two votes a voter, and a player whose clues cannot be read.",
        8,
        "perfect",
        "copying",
        {"civilians": 4, "spies": 2, "rounds": 3, "votes_per_voter": 2, "wording": "full"},
        {0: "babbling"},
    ),
)


def play(game: Playthrough) -> Result:
    """Play a golden game."""
    kinds: tuple[Kind, ...] = ("perfect", "cautious", "honest", "vague", "copying", "random")
    players: dict[str, Player] = {kind: ScriptedPlayer(kind) for kind in kinds}
    players["babbling"] = Babbler()
    cast = {Role.CIVILIAN: game.civilian, Role.SPY: game.spy}
    deal = Deal(game.name, _pair(game.seed, game.has_twin), game.seed, cast, game.seats)
    return play_with(make_game(GameConfig.model_validate(game.settings)), deal, players)


def write(game: Playthrough) -> str:
    """A golden game as text."""
    return "\n".join(_lines(game, play(game))) + "\n"


def _lines(game: Playthrough, result: Result) -> Iterator[str]:
    yield game.about
    yield f"settings: {game.settings}, seed {game.seed}"
    yield ""
    for seat in result.seats:
        yield f"player {seat.index + 1}: {seat.role.value}, {seat.player}"
        objects = seat.picture.facts["objects"] if seat.picture.facts else []
        yield f"    sees {', '.join(' '.join(o[name] for name in ATTRIBUTES) for o in objects) or 'nothing'}"
    shown: set[Stage | Role | None] = set()
    for turn in result.turns:
        who = "judge" if turn.seat is None else f"player {turn.seat + 1}"
        yield ""
        yield f"== {turn.stage.value} {turn.round}, {who}" + (f", draw {turn.draw + 1}" if turn.draw else "")
        last_clue = turn.stage is Stage.CLUE and turn.round == game.settings.get("rounds", 2)
        role = None if turn.seat is None else result.seats[turn.seat].role
        key = role if last_clue else Stage.DECISION if turn.stage is Stage.DECISION else None
        if key and key not in shown:
            shown.add(key)
            yield from (f"    | {line}" for line in _text(turn.shown).splitlines())
        yield f"    says {turn.utterance.text!a} ({turn.utterance.stop.value})"
        understood = turn.understood
        if understood.problem:
            yield f"    is not understood: {understood.problem}"
        elif understood.clue is not None:
            yield f"    is heard as: {understood.clue}"
        else:
            yield f"    votes for {_number(understood.vote)}"
    yield ""
    yield from _outcome(result.outcome)


def _outcome(outcome: Outcome) -> Iterator[str]:
    for name, value in dataclasses.asdict(outcome).items():
        if name == "accused":
            value = _number(value)
        elif isinstance(value, tuple):
            value = ", ".join(f"{votes:g}" for votes in value)
        yield f"{name}: {value}"


def _number(seat: int | str | None) -> str:
    return f"player {seat + 1}" if isinstance(seat, int) else str(seat or "nobody")


def _text(messages: tuple[Message, ...]) -> str:
    return "".join(getattr(part, "text", "<picture>\n") for message in messages for part in message.parts)


def _pair(seed: int, has_twin: bool) -> ImagePair:
    """Four drawn objects and, in the twin, two of them in another colour and shape."""
    rng = Random(seed)
    before = [{name: rng.choice(values) for name, values in ATTRIBUTES.items()} for _ in range(4)]
    after = [dict(o) for o in before]
    changes = []
    for k in sorted(rng.sample(range(4), 2)):
        after[k]["color"] = rng.choice([c for c in COLORS if c != before[k]["color"]])
        after[k]["shape"] = rng.choice([s for s in SHAPES if s != before[k]["shape"]])
        changes.append(Change(f"object {k + 1}", before[k], after[k]))
    original = _picture("red", before)
    if not has_twin:
        return ImagePair(f"single-{seed}", original, None)
    return ImagePair(f"pair-{seed}", original, _picture("blue", after), tuple(changes))


def _picture(color: str, objects: list[dict[str, str]]) -> Picture:
    file = io.BytesIO()
    Image.new("RGB", (24, 16), color).save(file, "PNG")
    return Picture(file.getvalue(), {"objects": objects})


if __name__ == "__main__":
    for playthrough in PLAYTHROUGHS:
        path = FOLDER / f"{playthrough.name}.txt"
        path.write_text(write(playthrough), encoding="utf-8")
        print(path.name)
