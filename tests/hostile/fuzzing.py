"""Hostile completions played as whole games, and everything that must hold of such a game.

`make soak` plays many games with `fuzz_words`, `make test` a few.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import hypothesis
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForImageTextToText, AutoProcessor

from tests.hostile.words import SAID, TOKENS, VoteRow, votes
from tests.tiny_models import FAMILIES, folder, picture
from vision_zero.config import GameConfig, ModelConfig, RunConfig
from vision_zero.games import make_game
from vision_zero.games.base import Ask, Deal
from vision_zero.games.cleaning import clean
from vision_zero.models.base import VLM, load
from vision_zero.rollouts.runner import play
from vision_zero.runs.store import RunStore
from vision_zero.types import (
    Episode,
    ImagePair,
    Message,
    PicturePart,
    Stage,
    StopReason,
    TextPart,
    Turn,
    Utterance,
    Vote,
)

SEATS, ROUNDS, VOTERS = 4, 2, 3
CLUES = SEATS * ROUNDS
COMPLETIONS_A_GAME = CLUES + VOTERS
PAIR = ImagePair("hostile", picture(1), picture(2))


@cache
def readers() -> dict[str, VLM]:
    """A tiny random model of every family with its real processor, whose tokenizer knows every token of the corpus
    as a special one; and the model that ships with the package."""
    made = {"nano": load(ModelConfig(path="nano"), device="cpu")}
    for family in FAMILIES:
        with tempfile.TemporaryDirectory() as place:
            processor = AutoProcessor.from_pretrained(folder(family))
            model = AutoModelForImageTextToText.from_pretrained(folder(family))
            processor.tokenizer.add_tokens(TOKENS, special_tokens=True)
            with torch.random.fork_rng():
                model.resize_token_embeddings(len(processor.tokenizer) + 5)
            model.save_pretrained(place)
            processor.save_pretrained(place)
            made[family] = load(ModelConfig(path=place), device="cpu")
    return made


class Says:
    """A player of fixed completions, in the order in which it is asked."""

    name, version = "policy", "hostile"

    def __init__(self, said: Sequence[Utterance]) -> None:
        self._left = iter(said)

    def respond(self, asks: Sequence[Ask]) -> list[Utterance]:
        return [next(self._left) for _ in asks]


@dataclass(frozen=True)
class Script:
    """What is said in one game: clues in the order spoken, then votes as in the reference table."""

    clues: tuple[str, ...]
    votes: tuple[VoteRow, ...]
    cut: tuple[bool, ...]
    wording: str
    layout: str

    def play(self) -> Episode:
        config = GameConfig.model_validate({"wording": self.wording, "layout": self.layout})
        said = [
            *(
                Utterance(t, StopReason.LENGTH if cut else StopReason.END_OF_TURN)
                for t, cut in zip(self.clues, self.cut, strict=True)
            ),
            *(Utterance(row.say, row.stop) for row in self.votes),
        ]
        deal = Deal("000000-0000", PAIR, seed=7)
        return play(make_game(config), [deal], {"policy": Says(said)})[0]

    def expected(self) -> list[Vote]:
        """What the table says, in a game of fewer seats than its rows: there is no number above theirs."""
        return [None if isinstance(row.vote, int) and row.vote >= SEATS else row.vote for row in self.votes]


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    wording = draw(st.sampled_from(("full", "compact")))
    return Script(
        clues=draw(st.tuples(*[SAID] * CLUES)),
        cut=draw(st.tuples(*[st.sampled_from([False, False, False, True])] * CLUES)),
        votes=draw(st.tuples(*[votes(wording == "full")] * VOTERS)),
        wording=wording,
        layout=draw(st.sampled_from(("shared", "published"))),
    )


@dataclass
class Figures:
    """What a fuzzing run has looked at."""

    completions: int = 0
    clues: int = 0
    kept_clues: int = 0
    prompts: int = 0
    forwards: int = 0
    votes: Counter[str] = field(default_factory=Counter)

    def check(self, script: Script, families: Sequence[str], store: RunStore, forward: bool) -> None:
        """Play the script and require all that must hold. `forward`: also read one prompt of every family's."""
        episode = script.play()
        raw = [*script.clues, *(row.say for row in script.votes)]
        self.completions += len(raw)
        clues = [turn for turn in episode.turns if turn.stage is Stage.CLUE]
        ballots = [turn for turn in episode.turns if turn.stage is Stage.DECISION]
        for turn in episode.turns:
            for text in (turn.understood.thought, turn.understood.clue or ""):
                assert clean(text) == text
        self.clues += len(clues)
        self.kept_clues += sum(turn.understood.clue is not None for turn in clues)
        assert [turn.understood.vote for turn in ballots] == script.expected(), script.votes
        self.votes.update(str(turn.understood.vote) for turn in ballots)
        for name in families:
            for turn in episode.turns:
                require_plain_prompt(readers()[name], turn.shown)
                self.prompts += 1
            if forward:
                self.forwards += require_forward(readers()[name], ballots)
        require_on_record(store, episode, raw)


@cache
def special_ids(vlm: VLM) -> frozenset[int]:
    """Every id that the tokenizer makes of more than plain text."""
    tokenizer = vlm.processor.tokenizer
    return (frozenset(tokenizer.added_tokens_decoder) | vlm.forbidden_ids) - {tokenizer.unk_token_id}


def require_plain_prompt(vlm: VLM, shown: Sequence[Message]) -> None:
    """The prompt has the special tokens of its template and of its pictures, in their order, and no others; every
    spoken line is one line."""
    special = special_ids(vlm)
    tame = tuple(
        replace(m, parts=tuple(TextPart("a\n") if isinstance(p, TextPart) else p for p in m.parts)) for m in shown
    )
    ids = vlm.encode(shown).ids
    assert [i for i in ids if i in special] == [i for i in vlm.encode(tame).ids if i in special]
    pictures = [p.picture for m in shown for p in m.parts if isinstance(p, PicturePart)]
    assert ids.count(vlm.image_token_id) == sum(vlm.placeholders(p) for p in pictures) > 0


def require_forward(vlm: VLM, turns: Sequence[Turn]) -> bool:
    """On the shortest of the prompts the model itself counts placeholders against features, and what it says of the
    next token is finite. False if the prompt is longer than the model was made for, which the engine refuses."""
    shown = min((turn.shown for turn in turns), key=lambda shown: len(vlm.encode(shown).ids))
    prompt = vlm.encode(shown)
    if len(prompt.ids) > vlm.context:
        return False
    pictures = [p.picture for m in shown for p in m.parts if isinstance(p, PicturePart)]
    with vlm.evaluating():
        assert sum(len(f.tokens) for f in vlm.image_features(pictures)) == prompt.ids.count(vlm.image_token_id)
        ids = torch.tensor([prompt.ids])
        hidden = vlm.forward_hidden(ids, None, vlm.positions(prompt, 0)[:, None], pictures)
        assert vlm.logits(hidden[0, -1]).isfinite().all()
    return True


def require_on_record(store: RunStore, episode: Episode, raw: Sequence[str]) -> None:
    """What was said comes back from the run directory as it was said."""
    store.write_episodes(0, [episode], [PAIR])
    (read,) = store.read_episodes(0)
    assert [turn.utterance.text for turn in read.turns] == [as_json(text) for text in raw]
    assert read == replace(episode, turns=tuple(map(_as_json, episode.turns)))


def as_json(text: str) -> str:
    """JSON's strings are UTF-16: the two halves of a character outside of the first plane are that character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def _as_json(turn: Turn) -> Turn:
    said = replace(turn.utterance, text=as_json(turn.utterance.text))
    return replace(turn, utterance=said, understood=replace(turn.understood, answer=as_json(turn.understood.answer)))


def fuzz_words(completions: int, forward_every: int = 20, seed: int = 0) -> Figures:
    """Play at least so many completions in games, each read by every family; raises at the first that breaks a
    promise. `forward_every`: about one game in so many is also read by the models themselves."""
    figures = Figures()
    with tempfile.TemporaryDirectory() as place:
        store = RunStore.create(Path(place), RunConfig())

        @hypothesis.seed(seed)
        @settings(
            max_examples=-(-completions // COMPLETIONS_A_GAME),
            database=None,
            deadline=None,
            derandomize=False,
            suppress_health_check=list(HealthCheck),
        )
        @given(scripts(), st.integers(0, forward_every - 1))
        def games(script: Script, lot: int) -> None:
            figures.check(script, ["nano", *FAMILIES], store, forward=lot == 0)

        games()
    if figures.completions < completions:
        raise RuntimeError(f"the fuzzer ended after {figures.completions} of {completions} completions")
    return figures
