"""The longest game that a recipe allows, played by the real rules with real prompts, and its tokens counted."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from PIL import Image

from vision_zero.config import ChartPairs, ClevrPairs, GameConfig, PairsConfig, PhotoPairs, RunConfig
from vision_zero.errors import UserError
from vision_zero.games import make_game
from vision_zero.games.base import Asked, Deal, Game, Table
from vision_zero.models.pictures import PictureReader
from vision_zero.models.prompts import PromptEncoder
from vision_zero.pairs.reading import EXTENSIONS
from vision_zero.plan.shapes import Shape
from vision_zero.types import (
    Change,
    ImagePair,
    Message,
    Picture,
    PicturePart,
    Stage,
    StopReason,
    TextPart,
    Turn,
    Understood,
    Utterance,
)

CHARACTERS_PER_TOKEN = 4.0
"""Where the model's tokenizer is not at hand. English is nearer 4.5, so that prompts come out a little long."""
TEMPLATE_TOKENS = 16
"""For the chat template, likewise."""
WORD = " red"
"""What the longest game is made of: one token of most tokenizers."""

Ids = tuple[Hashable, ...]


@dataclass(frozen=True)
class Request:
    """One prompt of the longest game. `ids` are tokens, or stand for them one by one; `draws`: completions of it."""

    stage: Stage
    seat: int | None
    tick: int
    messages: tuple[Message, ...]
    ids: Ids
    budget: int
    draws: int

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """What it shows, in order."""
        return tuple(p.picture for m in self.messages for p in m.parts if isinstance(p, PicturePart))


@dataclass(frozen=True)
class LongestGame:
    """All prompts of one game at full length. `exact`: counted by the model's own tokenizer."""

    requests: tuple[Request, ...]
    exact: bool
    picture_tokens: int
    picture_size: tuple[int, int]

    @property
    def longest(self) -> Request:
        """The prompt that, with its answer, takes most tokens."""
        return max(self.requests, key=lambda r: len(r.ids) + r.budget)

    def completions(self, stages: Sequence[Stage]) -> int:
        """How many answers the game has in these stages."""
        return sum(r.draws for r in self.requests if r.stage in stages)

    def unpacked(self, stages: Sequence[Stage]) -> int:
        """Tokens of these stages' samples when stored apart."""
        return sum((len(r.ids) + r.budget - 1) * r.draws for r in self.requests if r.stage in stages)

    def trees(self, stages: Sequence[Stage]) -> list[int]:
        """Tokens of the prefix trees of these stages' samples, one for each picture that is looked at."""
        key = frozenset(stages)
        if key not in self._trees:
            views: dict[tuple[Picture, ...], list[Request]] = {}
            for request in self.requests:
                if request.stage in stages:
                    views.setdefault(request.pictures, []).append(request)
            self._trees[key] = [
                _distinct([r.ids for r in view]) + sum((r.budget - 1) * r.draws for r in view)
                for view in views.values()
            ]
        return self._trees[key]

    @cached_property
    def _trees(self) -> dict[frozenset[Stage], list[int]]:
        return {}


def longest_game(config: RunConfig, shape: Shape) -> LongestGame:
    """Play it: every clue and thought as long as the recipe allows, the largest picture of the set for everybody.

    Raises `UserError` if the model or `update.tokens_per_batch` cannot hold it.
    """
    game = play_longest(config, shape)
    refuse_what_does_not_fit(game, config, shape)
    return game


def play_longest(config: RunConfig, shape: Shape) -> LongestGame:
    """The longest game, whether it fits or not. Depends on `game`, `pairs`, and the model's tokenizer and pictures."""
    width, height = max(picture_sizes(config.pairs), key=lambda s: shape.picture_tokens(s[1], s[0]))
    pair = _blank_pair(width, height, getattr(config.pairs, "changes", 1))
    encode, exact = _counter(shape)
    requests = []
    for tick, asks in enumerate(_play(make_game(config.game), config.game, pair)):
        draws: dict[tuple[Message, ...], list[Asked]] = {}
        for asked in asks:
            draws.setdefault(asked.ask.messages, []).append(asked)
        for messages, same in draws.items():
            ask = same[0].ask
            ids = encode(messages)
            requests.append(Request(ask.stage, ask.seat, tick, messages, ids, ask.max_new_tokens, len(same)))
    return LongestGame(tuple(requests), exact, shape.picture_tokens(height, width), (width, height))


def picture_sizes(pairs: PairsConfig) -> list[tuple[int, int]]:
    """Widths and heights that pictures of the set can have. Reads the headers of a folder's files, no pixels."""
    if isinstance(pairs, ClevrPairs | ChartPairs):
        return [(pairs.width, pairs.height)]
    sizes = set(_sizes_in(pairs.path))
    if not sizes:
        raise UserError(f"{pairs.path} holds no picture: check pairs.path")
    if isinstance(pairs, PhotoPairs):
        return [_scaled(size, pairs.side) for size in sizes]
    return list(sizes)


def _sizes_in(folder: Path) -> Iterator[tuple[int, int]]:
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in EXTENSIONS:
            try:
                with Image.open(path) as image:
                    yield image.size
            except OSError as e:
                raise UserError(f"{path} is not a picture that can be read: {e}; replace or remove it") from e


def _scaled(size: tuple[int, int], side: int) -> tuple[int, int]:
    scale = min(1.0, side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _blank_pair(width: int, height: int, changes: int) -> ImagePair:
    made = []
    for shade in (128, 129):
        file = io.BytesIO()
        Image.new("RGB", (width, height), (shade,) * 3).save(file, "PNG")
        made.append(Picture(file.getvalue()))
    return ImagePair("plan", made[0], made[1], (Change("something", {}, {}),) * changes)


def _play(game: Game, config: GameConfig, pair: ImagePair) -> Iterator[Sequence[Asked]]:
    """The asks of every tick. Spies sit last, where they have most to read."""
    facts = game.facts
    spies = tuple(range(facts.seats))[facts.seats - facts.spies :]
    coroutine = game.play(Table(Deal("plan", pair, seed=0, spies=spies)))
    turns = None
    while True:
        try:
            asks: Sequence[Asked] = coroutine.send(turns)
        except StopIteration:
            return
        yield asks
        turns = tuple(_longest_turn(asked, config) for asked in asks)


def _longest_turn(asked: Asked, config: GameConfig) -> Turn:
    ask = asked.ask
    characters = ask.max_new_tokens * len(WORD)
    thought = (WORD * ask.max_new_tokens).strip() if ask.boxed else ""
    clue = (WORD * ask.max_new_tokens).strip()[: min(characters, config.max_clue_characters)].strip()
    understood = Understood(thought, clue) if ask.stage is Stage.CLUE else Understood(thought, vote=0)
    said = Utterance(clue, StopReason.LENGTH)
    return Turn(ask.seat, ask.stage, ask.round, ask.draw, ask.messages, said, understood, asked.player)


def _counter(shape: Shape) -> tuple[Callable[[Sequence[Message]], Ids], bool]:
    """A function from messages to tokens (or what stands for them), and whether it is the model's own."""
    if shape.processor is None:
        return lambda messages: _estimated(messages, shape), False
    image = int(shape.config.image_token_id)
    reader = PictureReader(shape.processor, image, shape.family.shape_names)
    tokenizer = shape.processor.tokenizer
    encoder = PromptEncoder(shape.processor, image, frozenset(set(tokenizer.all_special_ids) | {image}))
    return lambda messages: encoder.encode(messages, reader.expansion).ids, True


def _estimated(messages: Sequence[Message], shape: Shape) -> Ids:
    """As many stand-ins as tokens are to be expected; equal beginnings have equal stand-ins."""
    ids: list[Hashable] = [("template", i) for i in range(TEMPLATE_TOKENS)]
    for part in (p for m in messages for p in m.parts):
        if isinstance(part, TextPart):
            ids += [(part.text, i) for i in range(math.ceil(len(part.text) / CHARACTERS_PER_TOKEN))]
        else:
            with Image.open(io.BytesIO(part.picture.data)) as image:
                width, height = image.size
            # two more enclose it
            ids += [(part.picture.sha, i) for i in range(shape.picture_tokens(height, width) + 2)]
    return tuple(ids)


def _distinct(sequences: Sequence[Ids]) -> int:
    """Nodes of the trie of the sequences, taken in an order in which neighbours share most."""
    ordered = sorted(sequences, key=repr)
    total = 0
    last: Ids = ()
    for ids in ordered:
        shared = next((i for i, (a, b) in enumerate(zip(ids, last, strict=False)) if a != b), min(len(ids), len(last)))
        total += len(ids) - shared
        last = ids
    return total


def refuse_what_does_not_fit(game: LongestGame, config: RunConfig, shape: Shape) -> None:
    """Raises `UserError` if the model's context or `update.tokens_per_batch` cannot hold the longest sample."""
    longest, limit = game.longest, config.update.tokens_per_batch
    length, budget = len(longest.ids), longest.budget
    needed, context = length + budget, int(shape.text.max_position_embeddings)
    who = "the analyst" if longest.seat is None else f"player {longest.seat + 1}"
    where = f"the longest {longest.stage.value} prompt ({who}) has {length} tokens and {budget} to come"
    remedy = "lower game.rounds, game.max_clue_tokens, game.max_clue_characters or model.max_pixels"
    if needed > context:
        raise UserError(f"{where}: {needed} exceed the model's context of {context}; {remedy}")
    if needed - 1 > limit:
        raise UserError(f"{where}: {needed - 1} exceed update.tokens_per_batch={limit}; raise it, or {remedy}")
