"""Has the policy become better? The same held-out deals played by the policy and by the frozen start.

Gains in self-play can come from a weaker opponent, and gains against one opponent from its habits. So
every figure here pits the policy against something that did not move: the start's own clues, the start
as the other side, and (where given) a perfect reader of clues. Every row is a paired difference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Literal

from vision_zero.evaluate.statistics import Counts, Estimate, difference, rate
from vision_zero.games.base import Ask, Deal, Player
from vision_zero.types import ABSTAIN, JSON, Episode, Role, Stage, Utterance

Play = Callable[[Sequence[Deal], Mapping[str, Player]], list[Episode]]
"""Plays all deals of one game with the named players; episodes in the order of the deals."""

IsTrue = Callable[[str, Mapping[str, Any]], bool | None]
"""Whether a clue is true of a picture's facts; None if it cannot be told, which counts as not true."""

Better = Literal["higher", "lower", "neither"]
Verdict = Literal["improved", "worse", "rose", "fell", "no clear change"]


@dataclass(frozen=True)
class Row:
    """One measure before (frozen start) and after (policy), on the same deals.

    Example: `Row("votes_on_start_clues", "votes that name the spy, ...", "higher", before, after, difference)`
    """

    name: str
    label: str
    better: Better
    before: Estimate
    after: Estimate
    difference: Estimate

    @property
    def verdict(self) -> Verdict:
        """In words, by whether the difference's interval leaves out 0. Rows with no better side rose or fell."""
        if self.difference.low <= 0 <= self.difference.high:
            return "no clear change"
        up = self.difference.point > 0
        if self.better == "neither":
            return "rose" if up else "fell"
        return "improved" if up == (self.better == "higher") else "worse"

    @property
    def sentence(self) -> str:
        """Example: "improved: votes that name the spy, on the start's clues: 35 % -> 51 % (+16 points, ...)"."""
        d = self.difference
        return (
            f"{self.verdict}: {self.label}: {self.before.point:.0%} -> {self.after.point:.0%}"
            f" ({100 * d.point:+.0f} points, 95 % interval {100 * d.low:+.0f} to {100 * d.high:+.0f};"
            f" {d.trials} trials in {d.games} games)"
        )


@dataclass(frozen=True)
class HeldOutResult:
    """The before/after table.

    `perfect_reader` is the share of games in which perfect readers of the start's own clues accuse the
    spy: what voters could reach at most while the clues stay as they are. `same_clues` is the share of
    clues that were word for word the start's in the games where only the votes are the policy's: below
    1 the engine's results depend on its batches, and those rows are a little noisier than they look.
    """

    start: str
    policy: str
    games: int
    rows: tuple[Row, ...]
    same_clues: float
    perfect_reader: Estimate | None = None

    def row(self, name: str) -> Row:
        """The row of that name. Raises KeyError."""
        return {row.name: row for row in self.rows}[name]

    @property
    def private_code(self) -> Estimate | None:
        """How much more the policy's voters gain over the start's on the policy's clues than on the start's clues.

        Whoever sees better gains on both; what is gained on one's own clues alone is a private code. The interval
        takes the two gains for independent, which is wide: they are of the same deals.
        """
        named = {row.name: row.difference for row in self.rows}
        own, others = named.get("policy_clues_read"), named.get("votes_on_start_clues")
        if own is None or others is None:
            return None
        point = own.point - others.point
        low = point - math.hypot(own.point - own.low, others.high - others.point)
        high = point + math.hypot(own.high - own.point, others.point - others.low)
        return Estimate(point, low, high, own.trials, own.games)

    @property
    def metrics(self) -> dict[str, float]:
        """The policy's side of every row, and how far its clues are a private code, for the metrics of a step."""
        found = {f"held_out/{row.name}": row.after.point for row in self.rows}
        if (code := self.private_code) is not None:
            found |= {"held_out/private_code": code.point, "held_out/private_code/low": code.low}
        return found

    @property
    def summary(self) -> list[str]:
        """Every row as a sentence: what improved, what got worse, what did not clearly change, the rest."""
        order = ("improved", "worse", "no clear change", "rose", "fell")
        lines = [row.sentence for row in sorted(self.rows, key=lambda row: order.index(row.verdict))]
        if not any(row.verdict == "improved" for row in self.rows):
            lines.insert(0, "nothing clearly improved")
        if (code := self.private_code) is not None:
            lines.append(
                "its voters gained"
                f" {100 * code.point:+.0f} points more on its own clues than on the start's"
                f" ({100 * code.low:+.0f} to {100 * code.high:+.0f}): far above 0 they may be a private code"
            )
        if self.perfect_reader is not None:
            r = self.perfect_reader
            lines.append(
                f"perfect readers of the start's clues find the spy in {r.point:.0%} of the games"
                f" ({r.low:.0%} to {r.high:.0%})"
            )
        if self.same_clues < 1:
            lines.append(f"only {self.same_clues:.1%} of the start's clues came out the same when played again")
        return lines

    def to_json(self) -> JSON:
        """Plain data for `json.dumps`, verdicts included."""
        tree = asdict(self)
        tree["rows"] = [asdict(row) | {"verdict": row.verdict} for row in self.rows]
        return tree


class StagePlayer:
    """Two players on one seat: one gives the clues, the other votes."""

    def __init__(self, clues: Player, votes: Player) -> None:
        self.name = f"{clues.name}+{votes.name}"
        self.version = f"{clues.version}+{votes.version}"
        self._players = {Stage.CLUE: clues, Stage.DECISION: votes}

    def respond(self, asks: Sequence[Ask]) -> Sequence[Utterance]:
        """Every ask goes to the player of its stage."""
        answers: dict[int, Utterance] = {}
        for stage, player in self._players.items():
            mine = [i for i, ask in enumerate(asks) if ask.stage is stage]
            if mine:
                answers.update(zip(mine, player.respond([asks[i] for i in mine]), strict=True))
        return [answers[i] for i in range(len(asks))]


class HeldOutGames:
    """Fixed deals and a fixed opponent. What the start plays alone is played once and kept.

    `reader` votes perfectly from the facts of its picture (a scripted player); `is_true` judges clues by
    those facts. Without them, or where pictures have no facts, the rows that need them are left out.
    Raises ValueError for fewer than 2 deals.
    """

    def __init__(
        self,
        deals: Sequence[Deal],
        play: Play,
        start: Player,
        reader: Player | None = None,
        is_true: IsTrue | None = None,
    ) -> None:
        if len(deals) < 2:
            raise ValueError(f"{len(deals)} deal(s): a comparison needs at least 2")
        self.deals, self.start, self.reader, self.is_true = tuple(deals), start, reader, is_true
        self._play_deals = play

    def evaluate(self, policy: Player) -> HeldOutResult:
        """Play the policy in every part. 5 times the deals, 7 with a reader (and 1 or 2 more the first time)."""
        start, before = self.start, self._before
        votes = self._play(StagePlayer(start, policy), start)
        civilians = self._play(policy, start)
        spy = self._play(start, policy)
        self_play = self._play(policy, policy)
        # the policy's own clues, read by voters who never learned what it may mean by them
        read_by_start = self._play(StagePlayer(policy, start), policy)
        on_start = "on the start's clues"
        rows = [
            _row("votes_on_start_clues", f"votes that name the spy, {on_start}", "higher", _right, before, votes),
            _row(
                "games_on_start_clues",
                f"games in which voters find the spy, {on_start}",
                "higher",
                _caught,
                before,
                votes,
            ),
            _row("abstentions", f"votes that abstain, {on_start}", "neither", _abstains, before, votes),
            _row("invalid_votes", f"votes that cannot be read, {on_start}", "lower", _invalid, before, votes),
            _row(
                "wins_as_civilians",
                "games won as civilians against the start's spy",
                "higher",
                _caught,
                before,
                civilians,
            ),
            _row("wins_as_spy", "games won as spy against the start's civilians", "higher", _escaped, before, spy),
            _row("self_play_votes", "votes that name the spy in self-play", "neither", _right, before, self_play),
            _row(
                "policy_clues_read",
                "votes that name the spy on the policy's clues, by the start -> by the policy",
                "neither",
                _right,
                read_by_start,
                self_play,
            ),
            _row("self_play_caught", "games won by the civilians in self-play", "neither", _caught, before, self_play),
        ]
        rows += self._truth_rows(civilians, spy)
        if self.reader is not None:
            by_civilians = self._play(StagePlayer(policy, self.reader), start)
            by_spy = self._play(StagePlayer(start, self.reader), policy)
            rows += [
                _row(
                    "reader_finds_spy",
                    "games in which perfect readers of its civilians' clues find the start's spy",
                    "higher",
                    _caught,
                    self._read,
                    by_civilians,
                ),
                _row(
                    "spy_escapes_reader",
                    "games in which its spy escapes perfect readers among the start's clues",
                    "higher",
                    _escaped,
                    self._read,
                    by_spy,
                ),
            ]
        return HeldOutResult(
            start=start.version,
            policy=policy.version,
            games=len(self.deals),
            rows=tuple(row for row in rows if row is not None),
            same_clues=_same_clues(before, votes),
            perfect_reader=rate(_count(_caught, self._read)) if self.reader is not None else None,
        )

    @cached_property
    def _before(self) -> list[Episode]:
        return self._play(self.start, self.start)

    @cached_property
    def _read(self) -> list[Episode]:
        assert self.reader is not None
        return self._play(StagePlayer(self.start, self.reader), self.start)

    def _play(self, civilian: Player, spy: Player) -> list[Episode]:
        """The same deals with these players on the seats. One that plays both roles answers in one batch."""
        names = {Role.CIVILIAN: "civilians", Role.SPY: "civilians" if spy is civilian else "spy"}
        deals = [replace(deal, cast=names, seats={}) for deal in self.deals]
        episodes = self._play_deals(deals, {"civilians": civilian, names[Role.SPY]: spy})
        if [e.id for e in episodes] != [d.id for d in deals]:
            raise ValueError("play must return one episode a deal, in order")
        return episodes

    def _truth_rows(self, civilians: Sequence[Episode], spy: Sequence[Episode]) -> list[Row | None]:
        judge = self.is_true
        if judge is None:
            return []
        return [
            _row(
                "true_civilian_clues",
                "civilians' clues that are true of their picture",
                "higher",
                lambda e: _truths(e, Role.CIVILIAN, judge),
                self._before,
                civilians,
            ),
            _row(
                "true_spy_clues",
                "the spy's clues that are true of its own picture",
                "neither",
                lambda e: _truths(e, Role.SPY, judge),
                self._before,
                spy,
            ),
        ]


Flags = Callable[[Episode], Iterable[bool]]
"""What is counted of a game: one flag a trial."""


def _count(flags: Flags, episodes: Sequence[Episode]) -> Counts:
    return Counts.of(flags(e) for e in episodes)


def _row(
    name: str, label: str, better: Better, flags: Flags, before: Sequence[Episode], after: Sequence[Episode]
) -> Row | None:
    """None if one side has not a single trial."""
    old, new = _count(flags, before), _count(flags, after)
    if not old.total or not new.total:
        return None
    return Row(name, label, better, rate(old), rate(new), difference(old, new))


def _votes(episode: Episode) -> list[Any]:
    return [turn.understood.vote for turn in episode.turns if turn.stage is Stage.DECISION]


def _right(episode: Episode) -> Iterable[bool]:
    spies = {seat.index for seat in episode.seats if seat.role is Role.SPY}
    return (vote in spies for vote in _votes(episode))


def _abstains(episode: Episode) -> Iterable[bool]:
    return (vote == ABSTAIN for vote in _votes(episode))


def _invalid(episode: Episode) -> Iterable[bool]:
    return (vote is None for vote in _votes(episode))


def _caught(episode: Episode) -> Iterable[bool]:
    return (episode.outcome.civilians_win,)


def _escaped(episode: Episode) -> Iterable[bool]:
    return (not episode.outcome.civilians_win,)


def _truths(episode: Episode, role: Role, is_true: IsTrue) -> Iterable[bool]:
    """One flag a clue of the role's seats whose picture has facts; a clue that says nothing readable is not true."""
    for turn in episode.turns:
        if turn.stage is Stage.CLUE and turn.seat is not None and episode.seats[turn.seat].role is role:
            facts = episode.seats[turn.seat].picture.facts
            if facts is not None:
                yield turn.understood.clue is not None and is_true(turn.understood.clue, facts) is True


def _same_clues(before: Sequence[Episode], after: Sequence[Episode]) -> float:
    pairs = [
        (a.utterance.text, b.utterance.text)
        for old, new in zip(before, after, strict=True)
        for a, b in zip(old.turns, new.turns, strict=True)
        if a.stage is Stage.CLUE
    ]
    return sum(a == b for a, b in pairs) / len(pairs) if pairs else 1.0
