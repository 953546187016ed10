from __future__ import annotations

from itertools import product
from random import Random

import pytest

from vision_zero.pairs.clevr.language import (
    ATTRIBUTES,
    COLORS,
    MATERIALS,
    SHAPES,
    SIZES,
    Description,
    describe,
    false_clue,
    holds,
    is_true,
    matches,
    mentioned,
    parse,
    true_clue,
)

RED_CUBE = {"shape": "cube", "color": "red", "size": "large", "material": "rubber"}
BLUE_BALL = {"shape": "sphere", "color": "blue", "size": "small", "material": "metal"}
SCENE = {"objects": [RED_CUBE, BLUE_BALL]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a red cube .", Description(color="red", shape="cube")),
        ("a small metal cyan sphere .", Description("small", "metal", "cyan", "sphere")),
        ("a object .", Description()),
        ("An Object", Description()),
        ("  A  LARGE   cylinder.", Description(size="large", shape="cylinder")),
        ("a rubber object .", Description(material="rubber")),
        ("a red", None),
        ("a red cube . .", None),
        ("a red cube and", None),
        ("a metal small cube .", None),
        ("a red blue cube .", None),
        ("a cube cube .", None),
        ("red cube .", None),
        ("a redcube .", None),
        ("", None),
    ],
)
def test_parse(text: str, said: Description | None) -> None:
    assert parse(text) == said


@pytest.mark.parametrize(
    ("text", "truth"),
    [
        ("a red cube .", True),
        ("a blue cube .", False),
        ("a large object .", True),
        ("a large metal object .", False),
        ("a small metal blue sphere .", True),
        ("a cylinder .", False),
        ("a object .", True),
        ("two red cubes .", None),
    ],
)
def test_truth_table(text: str, truth: bool | None) -> None:
    assert is_true(text, SCENE) is truth


def test_every_sentence_of_the_language_reads_back_as_it_was_said() -> None:
    values = [(*ATTRIBUTES[name], None) for name in ATTRIBUTES]
    sentences = {Description(*v) for v in product(*values)}
    assert len(sentences) == 3 * 3 * 9 * 4
    assert all(parse(d.text) == d for d in sentences)
    assert len({d.text for d in sentences}) == len(sentences)


def test_describe_names_what_was_asked_for_and_holds_for_the_object() -> None:
    assert describe(BLUE_BALL, ("shape", "size")) == "a small sphere ."
    assert describe(RED_CUBE, set(ATTRIBUTES)) == "a large rubber red cube ."
    assert describe(RED_CUBE, ()) == "a object ."
    said = parse(describe(RED_CUBE, {"color"}))
    assert said is not None
    assert matches(said, RED_CUBE)
    assert not matches(said, BLUE_BALL)


def test_clues_are_true_or_false_as_promised_and_reproducible() -> None:
    rng = Random(3)
    for seed in range(300):
        objects = [{n: rng.choice(v) for n, v in ATTRIBUTES.items()} for _ in range(rng.randint(1, 10))]
        scene = {"objects": objects}
        honest, lie = true_clue(Random(seed), scene), false_clue(Random(seed), scene)
        assert is_true(honest, scene) is True
        assert is_true(lie, scene) is False
        assert (honest, lie) == (true_clue(Random(seed), scene), false_clue(Random(seed), scene))


def test_false_clue_changes_no_more_than_needed() -> None:
    weights = {("color", "shape"): 1.0}
    for seed in range(50):
        said = parse(false_clue(Random(seed), {"objects": [RED_CUBE]}, weights))
        assert said is not None
        assert (said.color == "red") + (said.shape == "cube") == 1


def test_false_clue_becomes_fuller_when_vagueness_cannot_lie() -> None:
    objects = [{**RED_CUBE, "shape": shape} for shape in SHAPES]
    said = parse(false_clue(Random(0), {"objects": objects}, {("shape",): 1.0}))
    assert said is not None
    assert said.attributes == ("color", "shape")


def test_a_scene_with_everything_admits_no_lie() -> None:
    everything = [dict(zip(ATTRIBUTES, v, strict=True)) for v in product(*ATTRIBUTES.values())]
    assert len(everything) == len(SIZES) * len(MATERIALS) * len(COLORS) * len(SHAPES)
    with pytest.raises(ValueError, match="every kind"):
        false_clue(Random(0), {"objects": everything})


def test_weights_decide_what_is_named() -> None:
    said = {true_clue(Random(s), SCENE, {("material",): 1.0}) for s in range(40)}
    assert said == {"a rubber object .", "a metal object ."}


@pytest.mark.parametrize(
    ("text", "truth"),
    [
        ("There is a shiny blue ball to the left of two large cubes.", True),
        ("I see a red block and a small metallic sphere", True),
        ("The blue cube stands behind something", False),
        ("a red cube next to a green thing", False),
        ("Big red matte box.", True),
        ("A cube that is red.", True),
        ("grey cylinders", False),
        ("There is no cylinder.", None),
        ("It isn't a cube", None),
        ("The colours are warm.", None),
        ("red, blue", None),
        ("zubadaga", None),
        ("", None),
    ],
)
def test_truth_of_free_speech(text: str, truth: bool | None) -> None:
    assert holds(text, SCENE) is truth


def test_mentioned_reads_sentences_of_the_language_as_parse_does() -> None:
    for size, color, shape in product((None, *SIZES), (None, *COLORS), (None, *SHAPES)):
        said = Description(size, None, color, shape)
        assert mentioned(said.text) == [said] == [parse(said.text)]
        assert holds(said.text, SCENE) is is_true(said.text, SCENE)
