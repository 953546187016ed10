"""Players that follow a rule, reading the scene behind a CLEVR picture instead of the picture.

They give known ceilings and floors, opponents that do not drift, and games that can be checked by hand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, Literal

from vision_zero.errors import UserError
from vision_zero.games.base import Ask
from vision_zero.pairs.clevr import language
from vision_zero.types import ABSTAIN, Picture, Role, Stage, StopReason, Utterance

Kind = Literal["perfect", "cautious", "honest", "vague", "copying", "random"]

VAGUE_CLUE = language.Description().text
"""True of every scene with an object."""


class ScriptedPlayer:
    """A player of one `kind`; its choices depend on the ask (and its seed) only.

    Clues: `perfect` and `cautious` say something true and new, as a spy only what agrees with the clues
    heard; `honest` anything true; `vague` next to nothing; `copying` the last clue heard; `random` any
    sentence, true or not. Votes: for the seat with most clues that are false of its own picture, ties at
    random; `cautious` abstains if no clue is false; `random` votes for anybody or abstains.

    A blank picture tells nothing: whoever has it copies. Other pictures without a scene raise `UserError`.
    """

    def __init__(self, kind: Kind, name: str | None = None) -> None:
        self.kind = kind
        self.name = name or kind
        self.version = f"scripted-{kind}"

    def respond(self, asks: Sequence[Ask]) -> list[Utterance]:
        """One utterance an ask, in order."""
        return [self._answer(ask) for ask in asks]

    def _answer(self, ask: Ask) -> Utterance:
        rng = Random(ask.seed)
        if ask.stage is Stage.CLUE:
            thought, answer = f"I am {self.kind}.", self._clue(ask, rng)
        else:
            thought, choice = self._choice(ask, rng)
            answer = (ABSTAIN if ask.boxed else "n/a") if choice is None else str(choice + 1)
        return Utterance(rf"{thought} \boxed{{{answer}}}" if ask.boxed else answer, StopReason.END_OF_TURN)

    def _clue(self, ask: Ask, rng: Random) -> str:
        heard = [clue.text for clue in ask.view.clues if clue.text]
        if self.kind == "random":
            return language.Description(**{n: rng.choice(v) for n, v in language.ATTRIBUTES.items()}).text
        if self.kind == "vague":
            return VAGUE_CLUE
        blind = ask.view.role is Role.SPY and ask.view.picture.facts is None
        if blind or self.kind == "copying":
            return heard[-1] if heard else VAGUE_CLUE
        scene = _scene(ask.view.picture)
        if self.kind == "honest":
            return language.true_clue(rng, scene)
        if ask.view.role is Role.SPY and heard:
            agreed = [text for text in heard if language.is_true(text, scene)]
            return rng.choice(agreed) if agreed else VAGUE_CLUE
        drawn = [language.true_clue(rng, scene) for _ in range(8)]
        return next((text for text in drawn if text not in heard), drawn[0])

    def _choice(self, ask: Ask, rng: Random) -> tuple[str, int | None]:
        """A thought, and the number to name, from 0; None to abstain."""
        view = ask.view
        if view.more_pictures:
            pictures = (view.picture, *view.more_pictures)
            if self.kind == "random":
                return "I guess.", rng.choice([*range(len(pictures)), None])
            # the picture of which fewest clues are false is the one that was described
            false = [-sum(_is_false(c.text, picture) for c in view.clues) for picture in pictures]
            counts = dict(enumerate(false))
        else:
            others = [k for k in range(view.seats) if k != view.seat]
            if self.kind == "random":
                return "I guess.", rng.choice([*others, None])
            lies = Counter(c.seat for c in view.clues if _is_false(c.text, view.picture))
            counts = {k: lies[k] for k in others}
        suspects = [k for k, n in counts.items() if n == max(counts.values())]
        told = ", ".join(f"{k + 1}: {abs(n)}" for k, n in counts.items())
        undecided = len(suspects) == len(counts)
        return f"False clues: {told}.", None if self.kind == "cautious" and undecided else rng.choice(suspects)


def _is_false(text: str, picture: Picture) -> bool:
    """Whether a clue is in the language and false of the picture; what cannot be read is not held against anyone."""
    return language.is_true(text, _scene(picture)) is False


def _scene(picture: Picture) -> Mapping[str, Any]:
    if picture.facts is None or "objects" not in picture.facts:
        raise UserError(
            f"scripted players need to know what is in a picture, and picture {picture.sha[:12]} has no scene: "
            "use pairs.kind=clevr, or let another player sit there"
        )
    return picture.facts
