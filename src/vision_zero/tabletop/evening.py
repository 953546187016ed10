"""Games of one person against invited players, one after the other, with a score.

The game runs in a thread of its own and waits there for the person. What the person may know at a moment is
`Evening.state`: it is made of the person's own seat and of what every player hears, and of nothing else, until the
game has ended and is stored. Who plays on the other seats is not told before, since players may be cast by role.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from threading import Condition, Thread

from vision_zero.config import RunConfig
from vision_zero.errors import UserError
from vision_zero.evaluate.entrants import Entrant, Players
from vision_zero.games import make_game
from vision_zero.games.base import Ask, Asked, Deal, PublicClue
from vision_zero.pairs.base import PairSource
from vision_zero.players.human import choices, typed
from vision_zero.rollouts.dealing import deals_of_step
from vision_zero.rollouts.runner import play
from vision_zero.runs.store import RunStore
from vision_zero.seeds import derive_seed
from vision_zero.tabletop.score import score
from vision_zero.tabletop.watching import Watched
from vision_zero.types import JSON, Picture, Role, Seat, Stage, Turn, Utterance

YOU = "you"
"""The person's name as a player."""
ANYBODY = "anybody"
"""Instead of a player's name: drawn anew for every seat among the invited."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wish:
    """What the person asks for. Example: `Wish(Role.SPY, civilians="policy", spies="anybody")`; role None: by lot."""

    role: Role | None
    civilians: str
    spies: str


@dataclass
class _Game:
    """The game that is being played, or was last."""

    step: int
    deal: Deal
    seat: Seat
    pictures: tuple[Picture, ...]
    stage: Stage = Stage.CLUE
    speaking: int | None = None
    clues: list[PublicClue] = field(default_factory=list)
    ask: Ask | None = None
    answer: Utterance | None = None
    asks: int = 0
    left: bool = False
    problem: str | None = None
    ended: bool = False


class Evening:
    """One person, one table. Methods may be called from any thread; `say` and `state` never wait for players."""

    name, version = YOU, "human"

    def __init__(
        self,
        config: RunConfig,
        guests: Sequence[Entrant],
        pairs: PairSource,
        store: RunStore,
        seed: int,
        deal: Callable[[int, Wish], Deal] | None = None,
    ) -> None:
        """`deal` makes the deal of a game by its number and the wish; without it they are drawn from `seed`."""
        self._config, self._guests, self._pairs, self._store, self._seed = config, guests, pairs, store, seed
        self._rules = make_game(config.game.model_copy(update={"votes_per_voter": 1}))
        self._players = Players(guests, config)
        self._deal = deal or self._drawn
        self._changed = Condition()
        self._game: _Game | None = None
        self._version = 0
        self._score = score(store, YOU)

    # What the page may do

    def state(self) -> JSON:
        """All that the person may know now."""
        with self._changed:
            game, facts = self._game, self._rules.facts
            return {
                "version": self._version,
                "run": self._store.path.resolve().name,
                "invited": [guest.label for guest in self._guests],
                "rules": {
                    "game": facts.name,
                    "seats": facts.seats,
                    "spies": facts.spies,
                    "rounds": self._config.game.rounds,
                    "compact": self._config.game.wording == "compact",
                    "most_characters": self._config.game.max_clue_characters,
                },
                "score": self._score,
                "game": None if game is None else _told(game),
            }

    def picture(self, sha: str) -> Picture:
        """A picture that lies before the person. Raises `UserError` for every other."""
        with self._changed:
            for picture in () if self._game is None else self._game.pictures:
                if picture.sha == sha:
                    return picture
        raise UserError("no such picture lies before you")

    def begin(self, wish: Wish) -> None:
        """Deal a new game. Raises `UserError` while one is being played, and for players who were not invited."""
        labels = [guest.label for guest in self._guests]
        for name in (wish.civilians, wish.spies):
            if name not in (*labels, ANYBODY):
                raise UserError(f"{name!r} was not invited (there are: {', '.join(labels)})")
        if wish.role is Role.SPY and not self._rules.facts.spies:
            raise UserError(f"nobody is a spy in the game {self._rules.facts.name}")
        with self._changed:
            if self._game is not None and not self._game.ended:
                raise UserError("a game is being played: end it, or leave the table")
            step = max(self._store.steps(), default=-1) + 1
            deal = self._deal(step, wish)
            seat = next(s for s in self._rules.seating(deal) if s.player == YOU)
            self._game = _Game(step, deal, seat, (seat.picture,))
            self._tell()
            Thread(target=self._play, args=(self._game,), name=f"game-{step}", daemon=True).start()

    def say(self, number: int, text: str) -> None:
        """Answer ask `number`. Raises `NotAnAnswer` if it is none, `UserError` if nothing of that number is asked."""
        with self._changed:
            game = self._game
            if game is None or game.ask is None or game.asks != number:
                raise UserError("this was answered already, or is not asked any more")
            game.answer = typed(game.ask, text, self._config.game.max_clue_characters)
            game.ask = None
            self._tell()

    def leave(self) -> None:
        """Give up the game that is being played; it is not stored."""
        with self._changed:
            if self._game is not None:
                self._game.left = True
                self._tell()

    # What the game's thread does

    def respond(self, asks: Sequence[Ask]) -> list[Utterance]:
        """The person as a player: waits for what the page sends. Raises `UserError` if the person leaves."""
        return [self._wait(ask) for ask in asks]

    def asked(self, asks: Sequence[Asked]) -> None:
        """Others are told who speaks, but not who votes: spies do not."""
        with self._changed:
            assert self._game is not None
            if self._game.left:
                raise UserError("you left the table")
            self._game.stage = asks[0].ask.stage
            self._game.speaking = asks[0].ask.seat if self._game.stage is Stage.CLUE else None
            self._tell()

    def answered(self, asks: Sequence[Asked], turns: Sequence[Turn]) -> None:
        """Clues are public, votes are not."""
        with self._changed:
            assert self._game is not None
            self._game.clues += [
                PublicClue(turn.seat, turn.round, turn.understood.clue or "")
                for turn in turns
                if turn.stage is Stage.CLUE and turn.seat is not None
            ]
            self._game.speaking = None
            self._tell()

    def _play(self, game: _Game) -> None:
        try:
            names = dict.fromkeys((*game.deal.cast.values(), *game.deal.seats.values()))
            players = {**self._players.open(*(n for n in names if n != YOU)), YOU: self}
            (episode,) = play(Watched(self._rules, self), [game.deal], players)
            self._store.write_episodes(game.step, [episode], [game.deal.pair])
        except UserError as e:
            self._end(game, str(e))
        except BaseException as e:
            self._end(game, f"the game broke off ({type(e).__name__}): the terminal tells more")
            raise
        else:
            self._end(game, None)

    def _end(self, game: _Game, problem: str | None) -> None:
        with self._changed:
            game.ended, game.ask, game.speaking = True, None, None
            game.problem = None if game.left else problem
            if problem is not None:
                log.warning("game %d was not finished: %s", game.step, problem)
            self._score = score(self._store, YOU)
            self._tell()

    def _wait(self, ask: Ask) -> Utterance:
        with self._changed:
            game = self._game
            assert game is not None
            game.ask, game.answer, game.asks = ask, None, game.asks + 1
            game.pictures = (ask.view.picture, *ask.view.more_pictures)
            self._tell()
            self._changed.wait_for(lambda: game.answer is not None or game.left)
            if game.answer is None:
                raise UserError("you left the table")
            return game.answer

    def _tell(self) -> None:
        self._version += 1
        self._changed.notify_all()

    # Deals

    def _drawn(self, step: int, wish: Wish) -> Deal:
        """A held-out pair that was not played before (until all were), spies and the person's seat by lot."""
        (dealt,) = deals_of_step(self._pairs, self._seed, step, 1, {})
        facts, rng = self._rules.facts, Random(derive_seed(self._seed, "evening", step))
        first = 1 if facts.spies and not self._config.game.spy_may_speak_first else 0
        spies = tuple(sorted(rng.sample(range(first, facts.seats), facts.spies)))
        able = [k for k in range(facts.seats) if wish.role is None or (k in spies) == (wish.role is Role.SPY)]
        mine = rng.choice(able)
        labels = [guest.label for guest in self._guests]
        wanted = {k: wish.spies if k in spies else wish.civilians for k in range(facts.seats)}
        seats = {k: rng.choice(labels) if name == ANYBODY else name for k, name in wanted.items()}
        # an analyst, who is nobody's seat, is cast as a civilian
        analyst = labels[0] if wish.civilians == ANYBODY else wish.civilians
        cast = {Role.CIVILIAN: analyst, Role.SPY: analyst}
        return replace(dealt, cast=cast, seats={**seats, mine: YOU}, spies=spies or None)


def _told(game: _Game) -> JSON:
    ask = game.ask
    asked = ask and {"number": game.asks, "stage": ask.stage, "round": ask.round, "choices": choices(ask)}
    return {
        "step": game.step,
        "seat": game.seat.index,
        "role": game.seat.role,
        "pictures": [picture.sha for picture in game.pictures],
        "stage": game.stage,
        "speaking": game.speaking,
        "clues": [{"seat": c.seat, "round": c.round, "text": c.text} for c in game.clues],
        "ask": asked,
        "ended": game.ended,
        "left": game.left,
        "problem": game.problem,
    }
