"""Who is the spy: all players but the spies see one and the same picture; find who does not.

Players speak in turn for some rounds, then every civilian (or an impersonal analyst with the common
picture) votes in private on who is a spy. Spies win by not being accused (arXiv 2509.25541, section 3).
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Collection, Sequence
from fractions import Fraction

from PIL import Image, UnidentifiedImageError

from vision_zero.config import GameConfig
from vision_zero.errors import UserError
from vision_zero.games.base import Ask, Asked, Deal, GameFacts, PublicClue, Result, Table, View
from vision_zero.games.prompts import clue_messages, vote_messages
from vision_zero.games.speech import clue_reader, vote_reader
from vision_zero.seeds import derive_seed
from vision_zero.types import ABSTAIN, ImagePair, Outcome, Picture, Role, Seat, Stage, Turn, Vote


class SpyGame:
    """The rules of who-is-the-spy, as set in `config`."""

    def __init__(self, config: GameConfig) -> None:
        self.config = config

    @property
    def facts(self) -> GameFacts:
        """One tick for every clue, one for all votes together."""
        config = self.config
        seats = config.civilians + config.spies
        voters = config.civilians if config.voters == "civilians" else 1
        clues = config.rounds * seats
        return GameFacts("spy", seats, config.spies, True, clues + 1, clues + voters * config.votes_per_voter)

    async def play(self, table: Table) -> Result:
        """Play one game. Raises `UserError` if the pair or the deal does not suit the configuration."""
        config, deal = self.config, table.deal
        seats = self.seating(deal)
        thoughts: list[list[str]] = [[] for _ in seats]
        clues: list[PublicClue] = []
        turns: list[Turn] = []

        for round in range(1, config.rounds + 1):
            for seat in seats:
                view = self._view(seat, seats, clues, thoughts)
                (turn,) = await table.ask([self._ask_clue(view, seat, round, deal)])
                turns.append(turn)
                clues.append(PublicClue(seat.index, round, turn.understood.clue or ""))
                thoughts[seat.index].append(turn.understood.thought)

        if config.voters == "analyst":
            view = View(None, None, len(seats), deal.pair.original, tuple(clues))
            asks = self._ask_votes(view, deal.cast[Role.CIVILIAN], deal)
        else:
            civilians = [seat for seat in seats if seat.role is Role.CIVILIAN]
            views = [self._view(seat, seats, clues, thoughts) for seat in civilians]
            asks = [
                ask for s, view in zip(civilians, views, strict=True) for ask in self._ask_votes(view, s.player, deal)
            ]
        answers = await table.ask(asks)

        each = config.votes_per_voter
        votes = [[t.understood.vote for t in answers[i : i + each]] for i in range(0, len(answers), each)]
        spies = {seat.index for seat in seats if seat.role is Role.SPY}
        return Result(seats, (*turns, *answers), tally(votes, len(seats), spies))

    def seating(self, deal: Deal) -> tuple[Seat, ...]:
        """Raises `UserError` if the pair or the deal does not suit the configuration."""
        config, table = self.config, Table(deal)
        total = config.civilians + config.spies
        spies = deal.spies
        if spies is None:
            spies = tuple(table.rng.sample(range(0 if config.spy_may_speak_first else 1, total), config.spies))
        elif len(set(spies)) != config.spies or len(spies) != config.spies or not set(spies) <= set(range(total)):
            raise UserError(
                f"game {deal.id}: spies={spies} must be {config.spies} different seat(s) of 0 to {total - 1}; "
                "change the deal or game.spies"
            )
        odd = self._odd_picture(deal.pair)
        roles = [Role.SPY if k in spies else Role.CIVILIAN for k in range(total)]
        return tuple(
            Seat(k, role, odd if role is Role.SPY else deal.pair.original, table.player_of(k, role))
            for k, role in enumerate(roles)
        )

    def _odd_picture(self, pair: ImagePair) -> Picture:
        if self.config.spy_picture == "blank":
            return blank_picture(pair)
        if pair.modified is None:
            raise UserError(f"pair {pair.id} has no twin to give to the spy: set game.spy_picture=blank, or add a twin")
        return pair.modified

    def _view(
        self, seat: Seat, seats: Sequence[Seat], clues: Sequence[PublicClue], thoughts: Sequence[Sequence[str]]
    ) -> View:
        return View(seat.index, seat.role, len(seats), seat.picture, tuple(clues), tuple(thoughts[seat.index]))

    def _ask_clue(self, view: View, seat: Seat, round: int, deal: Deal) -> Asked:
        config = self.config
        boxed = config.wording == "full"
        messages = clue_messages(view, round, config, len(deal.pair.changes))
        seed = derive_seed(deal.seed, seat.index, Stage.CLUE.value, round, 0)
        ask = Ask(view, Stage.CLUE, round, 0, messages, config.max_clue_tokens, boxed, seed)
        return Asked(ask, seat.player, clue_reader(boxed, config.max_clue_characters))

    def _ask_votes(self, view: View, player: str, deal: Deal) -> list[Asked]:
        """The same question to one voter, `votes_per_voter` times."""
        config = self.config
        boxed = config.wording == "full"
        messages = vote_messages(view, config, len(deal.pair.changes))
        round = config.rounds + 1
        who = "analyst" if view.seat is None else view.seat
        asked = []
        for draw in range(config.votes_per_voter):
            seed = derive_seed(deal.seed, who, Stage.DECISION.value, round, draw)
            ask = Ask(view, Stage.DECISION, round, draw, messages, config.max_vote_tokens, boxed, seed)
            asked.append(Asked(ask, player, vote_reader(boxed, view.seats)))
        return asked


def tally(votes: Sequence[Sequence[Vote]], seats: int, spies: Collection[int]) -> Outcome:
    """Count the votes, `votes[v]` being all answers of voter v; a voter counts once, split over its answers.

    The seat with strictly most votes is accused; nobody is after a tie or when nobody named a seat.
    The civilians win if the accused is a spy. Every voter must have at least one answer, and there
    must be two seats or more.
    """
    total: defaultdict[Vote, Fraction] = defaultdict(Fraction)  # exact, so that a tie of thirds is a tie
    for answers in votes:
        for vote in answers:
            total[vote] += Fraction(1, len(answers))
    received = [total[k] for k in range(seats)]
    most = max(received)
    accused = received.index(most) if received.count(most) == 1 else None
    return Outcome(
        accused=accused,
        civilians_win=accused in spies,
        votes_received=tuple(map(float, received)),
        abstained=float(total[ABSTAIN]),
        invalid=float(total[None]),
        voters=len(votes),
    )


def blank_picture(pair: ImagePair) -> Picture:
    """A plain grey PNG of the size of the pair's original."""
    try:
        with Image.open(io.BytesIO(pair.original.data)) as image:
            size = image.size
    except UnidentifiedImageError as e:
        raise UserError(f"pair {pair.id}: the original is not a picture that can be read; replace the file") from e
    file = io.BytesIO()
    Image.new("RGB", size, (128, 128, 128)).save(file, "PNG")
    return Picture(file.getvalue())
