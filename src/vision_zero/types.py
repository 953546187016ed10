"""The vocabulary. Every room speaks in these types; this module imports nothing of ours.

All types are frozen: a stage of the pipeline makes new values, it never edits old ones.
Seats are counted from 0 in code and from 1 in everything that a player reads or says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, Literal

JSON = dict[str, Any]


class Role(StrEnum):
    """Which picture a seat holds: the common one (civilian) or the odd one (spy)."""

    CIVILIAN = "civilian"
    SPY = "spy"


class Stage(StrEnum):
    """Part of a game, and of training: speaking in turn, then voting."""

    CLUE = "clue"
    DECISION = "decision"


class StopReason(StrEnum):
    """Why an utterance ended. Counted in the metrics of every step."""

    END_OF_TURN = "end_of_turn"
    """The player closed its turn itself (for a model: it sampled an end token)."""
    LENGTH = "length"
    """The token budget of the turn ran out; what was said may be cut off."""


@dataclass(frozen=True)
class Picture:
    """An encoded image file, known by the hash of its bytes.

    Example: `Picture(b"\\x89PNG...", facts={"objects": [{"shape": "cube", "color": "red", ...}]})`

    `facts` is what is known to be in the picture (a CLEVR scene, a chart's table). Models never
    see it; scripted players, probes and metrics do.
    """

    data: bytes = field(repr=False)
    facts: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)

    @cached_property
    def sha(self) -> str:
        """Hex SHA-256 of the file's bytes: the picture's name in stores and prompts."""
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True)
class Change:
    """One difference between the pictures of a pair.

    Example: `Change("object 2", {"shape": "cube", "color": "red"}, {"shape": "sphere", "color": "blue"})`
    """

    what: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]


@dataclass(frozen=True)
class ImagePair:
    """A picture and, unless the set has single pictures, its twin with small differences.

    Example: `ImagePair("clevr-7-000012", original, modified, (change, change), "clevr", "CC0-1.0")`
    """

    id: str
    original: Picture
    modified: Picture | None
    changes: tuple[Change, ...] = ()
    source: str = ""
    licence: str = ""


@dataclass(frozen=True)
class TextPart:
    """A piece of a message that is tokenised apart from its neighbours. Example: `TextPart("4 players\\n")`"""

    text: str


@dataclass(frozen=True)
class PicturePart:
    """A picture inside a message."""

    picture: Picture


@dataclass(frozen=True)
class Message:
    """One chat message. Example: `Message("user", (PicturePart(p), TextPart("1 : a red cube .\\n")))`"""

    role: Literal["system", "user", "assistant"]
    parts: tuple[TextPart | PicturePart, ...]


@dataclass(frozen=True)
class Prompt:
    """A message list in the model's own tokens, placeholders expanded.

    Example: `Prompt(ids=(5, 6, 6, 6, 7, 12, 40), pictures=("9f2c…",))`: `pictures` are hashes, in the
    order in which their placeholders stand in `ids`.
    """

    ids: tuple[int, ...]
    pictures: tuple[str, ...]


@dataclass(frozen=True)
class Utterance:
    """What a player said, as it was said.

    For a model `prompt`, `ids` and `logprobs` are the record that training uses (`logprobs[i]` is the
    log-probability of `ids[i]` under the distribution it was sampled from; the end token is included)
    and `text` is only a view. For people, scripts and remote APIs they are empty.

    Example: `Utterance("a cube .", StopReason.END_OF_TURN, prompt, (9, 40, 8, 2), (-0.1, -2.0, -0.1, -0.0))`
    """

    text: str
    stop: StopReason
    prompt: Prompt | None = None
    ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()


Vote = int | Literal["N/A"] | None
"""Index of a seat (from 0), "N/A" for an abstention, None for something that is not a valid vote."""

ABSTAIN: Literal["N/A"] = "N/A"


@dataclass(frozen=True)
class Understood:
    """What the referee read in an utterance.

    Example: `Understood(thought="2 sounds vague", clue="a large red cube", vote=None, problem=None)`

    `clue` is clean: safe to show to other seats. `answer` is what stood in the box of a vote, as it stood
    there, whether or not it could be read. `problem` says in a few words why a clue or a vote could not be
    read; it is None when all is well.
    """

    thought: str = ""
    clue: str | None = None
    vote: Vote = None
    problem: str | None = None
    answer: str = ""


@dataclass(frozen=True)
class Seat:
    """A place at the table. Example: `Seat(2, Role.SPY, picture, player="policy")`"""

    index: int
    role: Role
    picture: Picture
    player: str


@dataclass(frozen=True)
class Turn:
    """One request to one seat and what came of it.

    `seat` is None for the impersonal analyst. `draw` numbers repeated samples of one and the same
    prompt (several votes of one voter). Example: `Turn(2, Stage.CLUE, 1, 0, messages, utterance, understood)`
    """

    seat: int | None
    stage: Stage
    round: int
    draw: int
    shown: tuple[Message, ...]
    utterance: Utterance
    understood: Understood
    player: str = "policy"


@dataclass(frozen=True)
class Outcome:
    """How a game ended, before anybody assigns credit.

    `votes_received[k]` is the number of valid votes against seat k, over `voters` voters: a voter that
    was asked several times counts once, split over its answers. `accused` is the seat with strictly
    most votes, None for a tie or when all abstained.

    Example: `Outcome(2, True, votes_received=(0.0, 0.5, 2.5, 0.0), abstained=0.0, invalid=0.0, voters=3)`
    """

    accused: int | None
    civilians_win: bool
    votes_received: tuple[float, ...]
    abstained: float
    invalid: float
    voters: int


@dataclass(frozen=True)
class Episode:
    """A finished game, complete and viewable before any reward is known.

    `rewards` (one per seat) and `advantages` (one per turn) are filled by credit. `versions` names the
    weights that each player had. Example id: `"000012-0007"` (step 12, game 7).
    """

    id: str
    game: str
    pair: str
    seed: int
    seats: tuple[Seat, ...]
    turns: tuple[Turn, ...]
    outcome: Outcome
    versions: Mapping[str, str] = field(default_factory=dict)
    rewards: tuple[float, ...] | None = None
    advantages: tuple[float | None, ...] | None = None


@dataclass(frozen=True)
class Sample:
    """What the update eats: a prompt, what was sampled after it, and how much to want it again.

    `advantage` multiplies the policy gradient of every sampled token. An anchor has
    `advantage=None`: it only pulls the policy towards the reference on its tokens.
    `sampling_logprobs` come from the engine; the update computes its own before the first step.

    Example: `Sample(prompt, (9, 40, 8, 2), (-0.1, -2.0, -0.1, -0.0), 0.12, "clue/spy", "000012-0007", turn=3)`
    """

    prompt: Prompt
    ids: tuple[int, ...]
    sampling_logprobs: tuple[float, ...]
    advantage: float | None
    label: str
    episode: str
    turn: int
