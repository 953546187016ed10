"""Any episode survives the way to JSON and back, bit for bit."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vision_zero.runs.serialise import (
    changes_from_json,
    dumps,
    episode_from_json,
    episode_to_json,
    from_float,
    pictures_of,
    to_float,
)
from vision_zero.types import (
    ABSTAIN,
    Change,
    Episode,
    Message,
    Outcome,
    Picture,
    PicturePart,
    Prompt,
    Role,
    Seat,
    Stage,
    StopReason,
    TextPart,
    Turn,
    Understood,
    Utterance,
)

pictures = st.builds(Picture, st.binary(max_size=8))
# NaN differs from itself, so equality cannot see it come back: it has a test of its own
floats = st.floats(allow_nan=False)
ints = st.integers(0, 2**63)
words = st.text(max_size=20)
shas = st.text("0123456789abcdef", min_size=64, max_size=64)


def tuples(of: st.SearchStrategy) -> st.SearchStrategy:
    return st.lists(of, max_size=3).map(tuple)


prompts = st.builds(Prompt, tuples(ints), tuples(shas))
utterances = st.builds(Utterance, words, st.sampled_from(StopReason), st.none() | prompts, tuples(ints), tuples(floats))
understood = st.builds(
    Understood, words, st.none() | words, st.none() | st.just(ABSTAIN) | st.integers(0, 20), st.none() | words
)
messages = st.builds(
    Message,
    st.sampled_from(["system", "user", "assistant"]),
    tuples(st.builds(TextPart, words) | st.builds(PicturePart, pictures)),
)
turns = st.builds(
    Turn,
    st.none() | st.integers(0, 20),
    st.sampled_from(Stage),
    st.integers(0, 9),
    st.integers(0, 9),
    tuples(messages),
    utterances,
    understood,
    words,
)
outcomes = st.builds(
    Outcome, st.none() | st.integers(0, 20), st.booleans(), tuples(floats), floats, floats, st.integers(0, 20)
)
seats = st.builds(Seat, st.integers(0, 20), st.sampled_from(Role), pictures, words)
episodes = st.builds(
    Episode,
    words,
    words,
    words,
    ints,
    tuples(seats),
    tuples(turns),
    outcomes,
    st.dictionaries(words, words, max_size=2),
    st.none() | tuples(floats),
    st.none() | tuples(st.none() | floats),
)


def round_trip(episode: Episode) -> Episode:
    known = {p.sha: p for p in pictures_of(episode)}
    line = dumps(episode_to_json(episode))
    assert "\n" not in line
    return episode_from_json(json.loads(line), known.__getitem__)


@settings(max_examples=150, deadline=None)
@given(episodes)
def test_round_trip_is_exact(episode: Episode) -> None:
    again = round_trip(episode)
    assert again == episode
    assert repr(again) == repr(episode)  # types too: 1 is not 1.0, "clue" is not Stage.CLUE


@given(st.floats())
def test_every_float_comes_back(value: float) -> None:
    again = to_float(json.loads(dumps(from_float(value))))
    assert repr(again) == repr(value)


def test_numbers_that_are_not_finite_stay_in_place() -> None:
    outcome = Outcome(None, False, (math.nan, 1.0), math.inf, -math.inf, 3)
    episode = Episode("e", "spy", "p", 0, (), (), outcome, {}, (math.nan,), (None, -math.inf))
    again = round_trip(episode)
    assert repr(again) == repr(episode)


def test_stray_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        dumps({"x": math.nan})


def test_changes_known_unknown_and_none_are_told_apart() -> None:
    episode = Episode("e", "spy", "p", 0, (), (), Outcome(None, False, (), 0.0, 0.0, 3))
    change = Change("object 2", {"shape": "cube"}, {"shape": "sphere"})
    for changes in (None, (), (change,)):
        assert changes_from_json(json.loads(dumps(episode_to_json(episode, changes)))) == changes


def test_every_field_of_the_vocabulary_is_stored() -> None:
    """A field that is added to a type and forgotten here would come back as its default."""
    stored = episode_to_json(
        Episode(
            "e",
            "spy",
            "p",
            0,
            (Seat(0, Role.SPY, Picture(b""), "policy"),),
            (Turn(0, Stage.CLUE, 1, 0, (), Utterance("", StopReason.LENGTH, Prompt((), ())), Understood()),),
            Outcome(None, False, (), 0.0, 0.0, 3),
        )
    )
    turn = stored["turns"][0]
    for kind, tree in (
        (Episode, stored),
        (Seat, stored["seats"][0]),
        (Outcome, stored["outcome"]),
        (Turn, turn),
        (Utterance, turn["utterance"]),
        (Prompt, turn["utterance"]["prompt"]),
        (Understood, turn["understood"]),
    ):
        assert {f.name for f in dataclasses.fields(kind)} <= tree.keys()
