"""Pick: one player describes a picture, the others pick it out of the pair. All win or lose together.

A second game on the same interface, with other rules than the first: no roles against each other, seats
with two pictures, no rounds. It trains precise description and careful comparison.
"""

from __future__ import annotations

from string import Template

from vision_zero.config import GameConfig
from vision_zero.errors import UserError
from vision_zero.games.base import Ask, Asked, Deal, GameFacts, PublicClue, Result, Table, View
from vision_zero.games.prompts import templates
from vision_zero.games.speech import clue_reader, vote_reader
from vision_zero.seeds import derive_seed
from vision_zero.types import ABSTAIN, Message, Outcome, Picture, PicturePart, Role, Seat, Stage, TextPart


class PickGame:
    """Seat 0 describes the original; every other of `config.civilians` seats sees both pictures of the
    pair, in an order of its own drawn from the seed, and says 1 or 2 (or N/A)."""

    def __init__(self, config: GameConfig) -> None:
        self.config = config
        self._words = templates("pick")[config.wording]

    @property
    def facts(self) -> GameFacts:
        """One tick for the description, one for all picks together."""
        seats = self.config.civilians
        return GameFacts("pick", seats, 0, False, 2, 1 + (seats - 1) * self.config.votes_per_voter)

    async def play(self, table: Table) -> Result:
        """Play one game. Raises `UserError` if the pair has no twin."""
        config, deal = self.config, table.deal
        original, orders, seats = deal.pair.original, self._orders(deal), self.seating(deal)
        (described,) = await table.ask([self._ask_clue(seats, deal)])
        clue = PublicClue(0, 1, described.understood.clue or "")
        asks = [
            self._ask_pick(seats[seat], both, clue, draw, deal)
            for seat, both in zip(self._pickers, orders, strict=True)
            for draw in range(config.votes_per_voter)
        ]
        picks = await table.ask(asks)

        right = wrong = 0
        for asked, turn in zip(asks, picks, strict=True):
            vote = turn.understood.vote
            if isinstance(vote, int):
                view = asked.ask.view
                is_original = (view.picture, *view.more_pictures)[vote] == original
                right, wrong = right + is_original, wrong + (not is_original)
        abstained = sum(turn.understood.vote == ABSTAIN for turn in picks)
        each = config.votes_per_voter
        # nobody is accused here: votes are for pictures, so no seat received any
        outcome = Outcome(
            accused=None,
            civilians_win=right > wrong,
            votes_received=(0.0,) * len(seats),
            abstained=abstained / each,
            invalid=(len(picks) - right - wrong - abstained) / each,
            voters=len(self._pickers),
        )
        return Result(seats, (described, *picks), outcome)

    def seating(self, deal: Deal) -> tuple[Seat, ...]:
        """A picker's picture is the first of the two that it sees. Raises `UserError` if the pair has no twin."""
        pictures = [deal.pair.original, *(first for first, _ in self._orders(deal))]
        player_of = Table(deal).player_of
        return tuple(Seat(k, Role.CIVILIAN, picture, player_of(k, Role.CIVILIAN)) for k, picture in enumerate(pictures))

    def _orders(self, deal: Deal) -> list[tuple[Picture, Picture]]:
        """The two pictures as each picker sees them."""
        original, modified = deal.pair.original, deal.pair.modified
        if modified is None:
            raise UserError(f"pair {deal.pair.id} has no twin to pick from: use pairs with twins, or game.name=spy")
        rng = Table(deal).rng
        return [(original, modified) if rng.random() < 0.5 else (modified, original) for _ in self._pickers]

    @property
    def _pickers(self) -> range:
        return range(1, self.config.civilians)

    def _ask_clue(self, seats: tuple[Seat, ...], deal: Deal) -> Asked:
        view = View(0, Role.CIVILIAN, len(seats), deal.pair.original)
        messages = (Message("user", (PicturePart(view.picture), TextPart(self._words["clue"]))),)
        boxed, seed = self.config.wording == "full", derive_seed(deal.seed, 0, Stage.CLUE.value, 1, 0)
        ask = Ask(view, Stage.CLUE, 1, 0, messages, self.config.max_clue_tokens, boxed, seed)
        return Asked(ask, seats[0].player, clue_reader(boxed, self.config.max_clue_characters))

    def _ask_pick(self, seat: Seat, both: tuple[Picture, Picture], clue: PublicClue, draw: int, deal: Deal) -> Asked:
        first, second = both
        view = View(seat.index, seat.role, self.config.civilians, first, (clue,), more_pictures=(second,))
        text = Template(self._words["vote"]).substitute(text=clue.text or self._words["no_clue"], seat=seat.index + 1)
        lines = (TextPart(line) for line in text.splitlines(keepends=True))
        messages = (Message("user", (PicturePart(first), PicturePart(second), *lines)),)
        boxed, seed = self.config.wording == "full", derive_seed(deal.seed, seat.index, Stage.DECISION.value, 2, draw)
        ask = Ask(view, Stage.DECISION, 2, draw, messages, self.config.max_vote_tokens, boxed, seed)
        return Asked(ask, seat.player, vote_reader(boxed, len(both)))
