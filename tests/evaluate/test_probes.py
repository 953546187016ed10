"""Questions have one right answer, which another count of the same facts gives too; replies are read strictly."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from random import Random
from typing import Any

import pytest

from vision_zero.evaluate.chart_probes import chart_probes
from vision_zero.evaluate.clevr_probes import COMPACT, FAMILIES, clevr_probes
from vision_zero.evaluate.probes import YES_NO, Probe, is_right, messages_of
from vision_zero.models.nano.architecture import VOCABULARY
from vision_zero.pairs.clevr.language import is_true
from vision_zero.pairs.clevr.scenes import SceneRules, make_pair
from vision_zero.seeds import derive_seed
from vision_zero.types import ImagePair, Picture, PicturePart, TextPart

RULES = SceneRules((3, 6), "nano", 96, 64)


def scenes(count: int) -> list[ImagePair]:
    """Pairs with scenes; nobody looks at the pixels here."""
    made = []
    for k in range(count):
        scene, twin, changes = make_pair(Random(k), RULES, 2, ("shape", "color"))
        made.append(ImagePair(f"pair-{k}", Picture(b"o%d" % k, scene), Picture(b"m%d" % k, twin), changes))
    return made


PAIRS = scenes(30)


def asked(wording: str) -> dict[str, list[tuple[ImagePair, Probe]]]:
    by_family: dict[str, list[tuple[ImagePair, Probe]]] = defaultdict(list)
    for k, pair in enumerate(PAIRS):
        for probe in clevr_probes(pair, Random(derive_seed(k, "probes")), wording):
            by_family[probe.family].append((pair, probe))
    return by_family


FULL, SHORT = asked("full"), asked("compact")


def which(phrase: str, scene: Any) -> list[dict[str, Any]]:
    """Objects of which all words of a phrase hold."""
    words = set(phrase.split()) - {"the", "a", "object"}
    return [o for o in scene["objects"] if words <= {o["size"], o["material"], o["color"], o["shape"]}]


def test_all_families_are_asked_and_only_the_taught_ones_of_the_tiny_model() -> None:
    assert set(FULL) == set(FAMILIES)
    assert set(SHORT) == set(COMPACT)
    assert all(len(probes) > 15 for probes in FULL.values())
    for probes in SHORT.values():
        for _, probe in probes:
            assert set(probe.question.split()) <= set(VOCABULARY), probe.question


def test_questions_of_being_there_and_of_twins_are_true_of_the_right_picture() -> None:
    for _, probe in FULL["exists"] + FULL["twins"]:
        clue = probe.question.removeprefix("Is there ").removesuffix(" in the picture?")
        assert YES_NO[not is_true(clue, probe.pictures[0].facts or {})] == probe.answer
    by_pair = defaultdict(list)
    for pair, probe in FULL["twins"]:
        by_pair[pair.id].append((probe.pictures[0].sha, probe.answer))
    assert all(len(two) == 2 and {a for _, a in two} == set(YES_NO) for two in by_pair.values())


def test_attributes_are_asked_of_one_object() -> None:
    for pair, probe in FULL["attribute"]:
        found = re.fullmatch(r"What is the (\w+) of the (.+)\?", probe.question)
        assert found
        [obj] = which(found[2], pair.original.facts)
        assert obj[{"colour": "color"}.get(found[1], found[1])] == probe.answer
        assert probe.answer not in found[2].split()
    for pair, probe in SHORT["attribute"]:
        [obj] = which(probe.question.removeprefix("what is ").removesuffix(" ?"), pair.original.facts)
        assert obj[probe.reads or ""] == probe.answer


def test_counts_and_comparisons() -> None:
    for pair, probe in FULL["count"]:
        phrase = probe.question.removeprefix("How many ").removesuffix(" are there in the picture?")
        assert str(len(which(phrase.removesuffix("s").removesuffix(" object"), pair.original.facts))) == probe.answer
    for pair, probe in FULL["compare"]:
        found = re.fullmatch(r"Are there more (\w+)s than (\w+)s in the picture\?", probe.question)
        assert found
        more, less = (len(which(shape, pair.original.facts)) for shape in found.groups())
        assert more != less
        assert (probe.answer == "yes") == (more > less)


def test_places_are_those_that_the_camera_sees() -> None:
    for pair, probe in FULL["relation"]:
        found = re.fullmatch(
            r"Is the (.+) (to the left of|to the right of|in front of|behind) the (.+)\?", probe.question
        )
        assert found
        [a], [b] = which(found[1], pair.original.facts), which(found[3], pair.original.facts)
        column, depth = (a["pixel_coords"][k] - b["pixel_coords"][k] for k in (0, 2))
        truth = {"to the left of": column < 0, "to the right of": column > 0, "in front of": depth < 0}.get(
            found[2], depth > 0
        )
        # perspective shifts columns a little; depth is along the view, not along the ground
        if abs(column) > 6 or "of" not in found[2]:
            assert (probe.answer == "yes") == truth


def test_twins_differ_where_it_is_said() -> None:
    for _, probe in FULL["same_or_different"]:
        assert (probe.pictures[0] == probe.pictures[1]) == (probe.answer == "yes")
    for pair, probe in FULL["spot_the_difference"]:
        options = dict(re.findall(r"([A-D]): (a [^.]+)\.", probe.question))
        assert pair.modified is not None
        new = [
            letter
            for letter, clue in options.items()
            if is_true(clue, pair.modified.facts or {}) and not is_true(clue, pair.original.facts or {})
        ]
        assert new == [probe.answer]


@pytest.mark.parametrize("family", ["exists", "compare", "relation", "same_or_different"])
def test_saying_always_yes_does_not_pay(family: str) -> None:
    answers = Counter(probe.answer for _, probe in FULL[family])
    assert 0.2 < answers["yes"] / answers.total() < 0.8


def test_equal_seeds_ask_the_same() -> None:
    again = [list(clevr_probes(PAIRS[0], Random(4), "full")) for _ in range(2)]
    assert again[0] == again[1] != list(clevr_probes(PAIRS[0], Random(5), "full"))


def chart(kind: str, values: list[list[float]], printed: bool = False) -> ImagePair:
    facts = {
        "chart": kind,
        "values_printed": printed,
        "title": "Rain",
        "category": "Month",
        "categories": ["Jan", "Feb", "Mar", "Apr"],
        "series": [{"name": n, "prefix": "", "suffix": " mm", "values": v} for n, v in zip("AB", values, strict=False)],
    }
    return ImagePair("chart-0", Picture(b"c", facts), None)


def of(pair: ImagePair, family: str) -> list[Probe]:
    found = [p for seed in range(20) for p in chart_probes(pair, Random(seed)) if p.family == family]
    return list({p.question: p for p in found}.values())


def test_charts() -> None:
    line = chart("line", [[10, 20, 40, 12.5], [4, 50, 30, 1]])
    for probe in of(line, "value"):
        found = re.match(r"What is the value of (\w) for (\w+)\? Leave out the unit \(mm\)\.", probe.question)
        assert found
        row = ["Jan", "Feb", "Mar", "Apr"].index(found[2])
        assert float(probe.answer) == (line.original.facts or {})["series"]["AB".index(found[1])]["values"][row]
    extremes = {p.question: p.answer for p in of(line, "extremum")}
    assert extremes["Which Month has the largest value of A?"] == "Mar"
    assert "Which Month has the smallest value of B?" not in extremes, "4 and 1 are too near to be told apart"
    trends = {p.question: p.answer for p in of(line, "trend")}
    assert trends == {}, "the ends of both lines are too near to be told apart"
    [trend] = of(chart("area", [[10, 20, 40, 30]]), "trend")
    assert (trend.question, trend.answer) == ("Is the value higher or lower for Apr than for Jan?", "higher")


def test_what_cannot_be_read_off_is_not_asked() -> None:
    pie = [[10.0, 20.0, 40.0, 30.0]]
    assert of(chart("pie", pie), "value") == []
    assert of(chart("pie", pie, printed=True), "value") != []
    assert of(chart("bar", pie), "trend") == []
    assert list(chart_probes(chart("scatter", [*pie, *pie]), Random(0))) == []
    assert of(chart("bar", [[10, 39, 40, 30]]), "extremum")[0].question == "Which Month has the smallest value?"


def probe(answer: str, choices: tuple[str, ...] = (), **more: Any) -> Probe:
    return Probe("x", "pair-0", (), "?", answer, choices, **more)


@pytest.mark.parametrize(
    ("question", "reply", "right"),
    [
        (probe("yes", YES_NO), "Yes.", True),
        (probe("yes", YES_NO), r"There is no cube, hm, but a ball. \boxed{yes}", True),
        (probe("yes", YES_NO), "no", False),
        (probe("yes", YES_NO), "yes or no", None),
        (probe("yes", YES_NO), "I know nothing", None),
        (probe("yes", YES_NO), "", None),
        (probe("3"), r"I see 2 red and 1 blue: \boxed{3}", True),
        (probe("3"), "3 of 4", None),
        (probe("12500", tolerance=0.05), "$12,400", True),
        (probe("12500", tolerance=0.05), "11,800", False),
        (probe("-4"), "-4", True),
        (probe("New York", ("York", "New York")), "new york", True),
        (probe("York", ("York", "New York")), "New York", False),
        (probe("B", tuple("ABCD")), r"\boxed{B}", True),
        (probe("red", reads="color"), "a small metal red cube .", True),
        (probe("red", reads="color"), "a small metal blue cube .", False),
        (probe("red", reads="color"), "a small cube .", None),
        (probe("red", reads="color"), "red", None),
    ],
)
def test_replies_are_read(question: Probe, reply: str, right: bool | None) -> None:
    assert is_right(question, reply) is right


def test_what_models_read() -> None:
    picture = Picture(b"p")
    asked = Probe("exists", "pair-0", (picture,), "Is there a cube in the picture?", "yes", YES_NO)
    [message] = messages_of(asked, "full")
    assert message.parts == (
        PicturePart(picture),
        TextPart("Is there a cube in the picture? Answer yes or no in \\boxed{}.\n"),
    )
    [message] = messages_of(Probe("exists", "pair-0", (picture,), "a cube ?", "yes", YES_NO), "compact")
    assert message.parts[1] == TextPart("a cube ?\n")
