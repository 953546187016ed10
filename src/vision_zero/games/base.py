"""What a game is, and what it may ask of the seats.

A game is one coroutine. It asks seats to speak and waits; it cannot know who answers (a model, a
person, a script) nor that other games are being played at the same time:

    turns = await table.ask([...])        # one tick: all asks of the list are answered together

The runner drives many such coroutines in lock-step and answers the asks of all games in one batch.
"""

from __future__ import annotations

from collections.abc import Awaitable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from vision_zero.types import ImagePair, Message, Outcome, Picture, Role, Seat, Stage, Turn, Understood, Utterance


@dataclass(frozen=True)
class PublicClue:
    """A clue as everybody heard it. Example: `PublicClue(seat=0, round=1, text="a red cube .")`"""

    seat: int
    round: int
    text: str


@dataclass(frozen=True)
class View:
    """Everything that the asked seat may know, as data. Models get it as text (`Ask.messages`);
    scripted players and people's screens use it directly.

    `seat` is None for the impersonal analyst. `picture` is the seat's own picture; `more_pictures` are
    shown after it in games where a seat sees several. `own_thoughts[r - 1]` is the private thought of
    the seat's own turn in round r, "" if there was none. A clue that could not be read has the text "".
    """

    seat: int | None
    role: Role | None
    seats: int
    picture: Picture
    clues: tuple[PublicClue, ...] = ()
    own_thoughts: tuple[str, ...] = ()
    more_pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True)
class Ask:
    """A request to one seat to say something.

    `read` is the referee's reading of the reply. `seed` is this turn's own seed: equal seeds and equal
    prompts give equal replies whatever else is in the batch. `boxed` tells how an answer is marked:
    after free private thought in `\\boxed{}`, or (False) the reply is the bare answer.
    """

    view: View
    stage: Stage
    round: int
    draw: int
    messages: tuple[Message, ...]
    max_new_tokens: int
    boxed: bool
    seed: int

    @property
    def seat(self) -> int | None:
        """Index of the asked seat; None for the analyst."""
        return self.view.seat


class Player(Protocol):
    """Whoever sits on a seat. One batch of asks, from any number of games, one utterance each, in order."""

    name: str
    version: str

    def respond(self, asks: Sequence[Ask]) -> Sequence[Utterance]:
        """Answer every ask; never fewer, never out of order."""
        ...


@dataclass(frozen=True)
class Deal:
    """What a game starts from.

    `cast` names the player of each role; `seats` overrides it seat by seat. `spies` fixes the spies'
    seats; None lets the seed decide. The analyst is cast as a civilian.

    Example: `Deal("000012-0007", pair, seed=81, cast={Role.CIVILIAN: "policy", Role.SPY: "frozen"})`
    """

    id: str
    pair: ImagePair
    seed: int
    cast: Mapping[Role, str] = field(default_factory=lambda: {Role.CIVILIAN: "policy", Role.SPY: "policy"})
    seats: Mapping[int, str] = field(default_factory=dict)
    spies: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Result:
    """What a game coroutine returns. The runner makes an `Episode` of it."""

    seats: tuple[Seat, ...]
    turns: tuple[Turn, ...]
    outcome: Outcome


@dataclass(frozen=True)
class Asked:
    """An ask on its way to the named player, with the referee's function that will read the reply."""

    ask: Ask
    player: str
    read: ReadReply


class ReadReply(Protocol):
    """Turns an utterance into what the referee understood. Pure; never raises on any text."""

    def __call__(self, utterance: Utterance) -> Understood: ...


class Table:
    """The only thing a game can touch: its deal, its own randomness, and the way to ask seats."""

    def __init__(self, deal: Deal) -> None:
        self.deal = deal
        self.rng = Random(deal.seed)

    def player_of(self, seat: int, role: Role) -> str:
        """Name of the player on a seat."""
        return self.deal.seats.get(seat, self.deal.cast[role])

    def ask(self, asks: Sequence[Asked]) -> Awaitable[tuple[Turn, ...]]:
        """Ask several seats at once; the turns come back in the order of the asks."""
        return _Tick(tuple(asks))


class _Tick:
    """The awaitable behind `Table.ask`: hands the asks to whoever drives the coroutine."""

    def __init__(self, asks: tuple[Asked, ...]) -> None:
        self.asks = asks

    def __await__(self) -> Generator[tuple[Asked, ...], tuple[Turn, ...], tuple[Turn, ...]]:
        return (yield self.asks)


@dataclass(frozen=True)
class GameFacts:
    """What can be known of a game before it is played.

    Example: `GameFacts("spy", seats=4, spies=1, zero_sum=True, ticks=9, turns=11)`
    """

    name: str
    seats: int
    spies: int
    zero_sum: bool
    ticks: int
    turns: int


class Game(Protocol):
    """Rules. Stateless: all state of a game lives in its coroutine's local variables."""

    @property
    def facts(self) -> GameFacts: ...

    def seating(self, deal: Deal) -> tuple[Seat, ...]:
        """Who sits where and sees what when `deal` is played. Drawn from the deal alone."""
        ...

    async def play(self, table: Table) -> Result:
        """Play one game to its end."""
        ...
