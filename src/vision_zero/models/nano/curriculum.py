"""What the language model is taught with: prompts as in play, and what a teacher would reply to them.

All prompts about one picture are one row. Its trunk is the picture and the public part of a game; a branch
is a private part with a reply, and sees only the trunk before it and itself. Along every branch the
row reads exactly as the prompt and the reply read in play.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Any

import torch
from torch import Tensor

from vision_zero.config import GameConfig
from vision_zero.games.base import PublicClue, View
from vision_zero.games.prompts import clue_messages, vote_messages
from vision_zero.models.nano import teacher
from vision_zero.models.nano.architecture import (
    ASSISTANT,
    CELLS,
    END,
    GRID,
    IMAGE,
    PAD,
    VISION_END,
    VISION_START,
    VOCABULARY,
    build_tokenizer,
)
from vision_zero.models.nano.scenes import Object
from vision_zero.models.nano.teacher import Says, Words
from vision_zero.pairs.clevr.language import ATTRIBUTES, false_clue, is_true
from vision_zero.types import Message, Picture, Role, TextPart

GAME = GameConfig(wording="compact")
IDS = {word: i for i, word in enumerate(VOCABULARY)}
YES, NO = IDS["yes"], IDS["no"]
PICTURE = (IDS[VISION_START], *[IDS[IMAGE]] * CELLS, IDS[VISION_END])
_BLANK = Picture(b"")
_WEIGHTS = {"clue": 1.0, "vote": 3.0, "answer": 1.0, "caption": 0.5, "end": 0.2}
"""How much each word of a reply counts: a vote is one word, a caption is long, an end is obvious."""


@dataclass
class Row:
    """Prompts and replies about one picture. `branch[i]` is 0 for the trunk; `sees[i]` is how much of the trunk
    token i sees. `targets` are (index, distribution of the next token, weight); `verdicts` are (index, truth):
    there the balance of yes and no is taught, though at play nothing is ever said there."""

    ids: list[int] = field(default_factory=lambda: list(PICTURE))
    branch: list[int] = field(default_factory=lambda: [0] * len(PICTURE))
    sees: list[int] = field(default_factory=lambda: list(range(1, len(PICTURE) + 1)))
    place: list[int] = field(default_factory=lambda: list(range(len(PICTURE))))
    targets: list[tuple[int, dict[int, float], float]] = field(default_factory=list)
    verdicts: list[tuple[int, bool]] = field(default_factory=list)
    trunk: int = len(PICTURE)
    """Length of the trunk so far."""
    branches: int = 0

    def say(self, text: str) -> None:
        """Append public words to the trunk. All branches come after."""
        for i in tokens(text):
            self.trunk += 1
            self._append(i, 0, self.trunk, self.trunk - 1)

    def ask(self, rng: Random, after: int, request: str, says: Says, kind: str, verdict: bool | None = None) -> None:
        """Append a branch: a request that sees the first `after` tokens of the trunk, and the teacher's reply.

        The reply is drawn; what is taught at each of its words is the whole distribution there.
        """
        self.branches += 1
        request_ids = tokens(request)
        for k, i in enumerate(request_ids):
            self._append(i, self.branches, after, after + k)
        if verdict is not None:
            self.verdicts.append((len(self.ids) - 1, verdict))
        [path] = rng.choices(list(says), list(says.values()))
        start = after + len(request_ids)
        for k, distribution in enumerate(teacher.next_words(says, path)):
            self._append(IDS[ASSISTANT if k == 0 else path[k - 1]], self.branches, after, start + k)
            target = {IDS[END if word is None else word]: p for word, p in distribution.items()}
            self.targets.append((len(self.ids) - 1, target, _WEIGHTS["end" if None in distribution else kind]))
        self._append(IDS[END], self.branches, after, start + len(path) + 1)

    def _append(self, token: int, branch: int, sees: int, place: int) -> None:
        self.ids.append(token)
        self.branch.append(branch)
        self.sees.append(sees)
        self.place.append(place)


MakeRow = Callable[[Random, Sequence[Object], Sequence[Object]], Row]
"""Makes a row about the first scene; the second is its twin."""


@cache
def _tokenizer() -> Any:
    return build_tokenizer()


@cache
def tokens(text: str) -> tuple[int, ...]:
    """Ids of one text part."""
    return tuple(_tokenizer()(text, add_special_tokens=False)["input_ids"])


def table_row(rng: Random, own: Sequence[Object], other: Sequence[Object]) -> Row:
    """A game as the holders of one picture see it: their clues, their votes, and yes/no on what is said.

    Civilians hold `own` and the spy `other`, or (one row in four) the other way round.
    """
    seats = rng.choices((4, 3, 5), (0.8, 0.1, 0.1))[0]
    rounds = rng.choices((2, 1, 3), (0.8, 0.1, 0.1))[0]
    spy = rng.randrange(seats)
    mine = Role.SPY if rng.random() < 0.25 else Role.CIVILIAN
    scenes = {mine: own, (Role.CIVILIAN if mine is Role.SPY else Role.SPY): other}
    honesty = rng.choice((1.0, 0.9, 0.6))
    roles = [Role.SPY if i == spy else Role.CIVILIAN for i in range(seats)]
    clues: list[PublicClue] = []
    row = Row()
    asked = []
    for number in range(rounds):
        for seat, role in enumerate(roles):
            scene = scenes[role]
            says = teacher.spy_clues(scene, clues) if role is Role.SPY else teacher.clues(scene)
            if role is mine:
                asked.append((tuple(clues), seat, number + 1, says))
            clues.append(PublicClue(seat, number + 1, _public(rng, scene, says, honesty)))

    everything = _texts(clue_messages(_view(0, mine, seats, clues), 1, GAME))[:-1]
    ends = []
    for k, text in enumerate(everything):
        row.say(text)
        ends.append(row.trunk)
        if k and (truth := is_true(clues[k - 1].text, {"objects": own})) is not None:
            row.verdicts.append((row.trunk - 1, truth))
    for heard, seat, number, says in rng.sample(asked, min(len(asked), 4)):
        request = _texts(clue_messages(_view(seat, mine, seats, heard), number, GAME))[-1]
        row.ask(rng, ends[len(heard)], request, says, "clue")
    if mine is Role.CIVILIAN:
        voters: list[int | None] = [i for i in range(seats) if i != spy]
        for voter in [*rng.sample(voters, 2), *([None] if rng.random() < 0.2 else [])]:
            view = _view(voter, mine if voter is not None else None, seats, clues)
            request = _texts(vote_messages(view, GAME))[-1]
            row.ask(rng, row.trunk, request, teacher.votes(rng, clues, seats, voter, own), "vote")
    for _ in range(4):
        _verify(rng, row, own, other)
    return row


def question_row(rng: Random, own: Sequence[Object], other: Sequence[Object]) -> Row:
    """Questions on a picture without a game: everything that is there, one object in full, yes or no."""
    row = Row()
    full = tuple(ATTRIBUTES)
    everything = tuple(word for obj in own for word in teacher.sentence(obj, full))
    row.ask(rng, len(PICTURE), "what is here ?\n", {everything: 1.0}, "caption")
    for obj in rng.sample(own, min(len(own), 3)):
        attributes = rng.sample(full, rng.randint(1, 3))
        clue = teacher.sentence(obj, attributes)
        same = [o for o in own if teacher.sentence(o, attributes) == clue]
        says: Says = {}
        for o in same:
            words = teacher.sentence(o, full)
            says[words] = says.get(words, 0.0) + 1 / len(same)
        row.ask(rng, len(PICTURE), f"what is {' '.join(clue[:-1])} ?\n", says, "answer")
    for _ in range(8):
        _verify(rng, row, own, other)
    return row


def statement(rng: Random, own: Sequence[Object], other: Sequence[Object]) -> tuple[str, bool]:
    """A yes/no question and its answer: half of them true, the others false in a detail or true of the twin only."""
    says = teacher.clues(own)
    text = " ".join(rng.choices(list(says), list(says.values()))[0])
    if rng.random() < 0.5:
        twin = teacher.clues(other)
        told = " ".join(rng.choices(list(twin), list(twin.values()))[0])
        text = told if rng.random() < 0.5 and not is_true(told, {"objects": own}) else _lie(rng, own)
    return f"{text.removesuffix(' .')} ?\n", bool(is_true(text, {"objects": own}))


def _verify(rng: Random, row: Row, own: Sequence[Object], other: Sequence[Object]) -> None:
    text, truth = statement(rng, own, other)
    reply: Words = ("yes",) if truth else ("no",)
    row.ask(rng, len(PICTURE), text, {reply: 1.0}, "answer", truth)


def _public(rng: Random, scene: Sequence[Object], says: Says, honesty: float) -> str:
    if rng.random() < 0.01:
        return ""
    if rng.random() < honesty:
        return " ".join(rng.choices(list(says), list(says.values()))[0])
    return _lie(rng, scene)


def _lie(rng: Random, scene: Sequence[Object]) -> str:
    return false_clue(rng, {"objects": scene})


def _view(seat: int | None, role: Role | None, seats: int, clues: Sequence[PublicClue]) -> View:
    return View(seat, role, seats, _BLANK, tuple(clues))


def _texts(messages: Sequence[Message]) -> list[str]:
    return [part.text for part in messages[0].parts if isinstance(part, TextPart)]


@dataclass(frozen=True)
class Batch:
    """B rows of at most L tokens: ids (B, L); mask bool (B, 1, L, L), true where a query sees a key; positions
    (3, B, L). Of the T taught tokens: where (T, 2), targets (T, V), weights (T). Verdicts: where (N, 2), truth (N)."""

    ids: Tensor
    mask: Tensor
    positions: Tensor
    where: Tensor
    targets: Tensor
    weights: Tensor
    verdict_where: Tensor
    verdict_truth: Tensor


def collate(rows: Sequence[Row]) -> Batch:
    """Rows side by side, padded at the end; padding sees itself and nobody sees it."""
    length = max(len(r.ids) for r in rows)

    def padded(values: list[list[int]], fill: int) -> Tensor:
        return torch.tensor([v + [fill] * (length - len(v)) for v in values])

    ids = padded([r.ids for r in rows], IDS[PAD])
    branch, sees = padded([r.branch for r in rows], -1), padded([r.sees for r in rows], 0)
    index = torch.arange(length)
    in_trunk = (branch[:, None, :] == 0) & (index < sees[:, :, None])
    in_branch = (branch[:, None, :] == branch[:, :, None]) & (index <= index[:, None])
    taught = [(b, i, target, weight) for b, r in enumerate(rows) for i, target, weight in r.targets]
    targets = torch.zeros(len(taught), len(VOCABULARY))
    for k, (_, _, target, _) in enumerate(taught):
        for token, p in target.items():
            targets[k, token] = p
    verdicts = [(b, i, truth) for b, r in enumerate(rows) for i, truth in r.verdicts]
    return Batch(
        ids=ids,
        mask=(in_trunk | in_branch)[:, None],
        positions=positions(padded([r.place for r in rows], 0)),
        where=torch.tensor([t[:2] for t in taught]),
        targets=targets,
        weights=torch.tensor([t[3] for t in taught]),
        verdict_where=torch.tensor([v[:2] for v in verdicts]),
        verdict_truth=torch.tensor([v[2] for v in verdicts]).long(),
    )


def positions(place: Tensor) -> Tensor:
    """M-RoPE positions (3, ...) of the token at each place of a prompt that starts with one picture."""
    cell = (place - 1).clamp(0, CELLS - 1)
    inside = (place >= 1) & (place <= CELLS)
    # text goes on after the larger side of the picture
    text = torch.where(place > CELLS, place - CELLS + max(GRID), place)
    picture = torch.stack([torch.zeros_like(cell), cell // GRID[1], cell % GRID[1]]) + 1
    return torch.where(inside, picture, text)
