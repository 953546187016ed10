"""Probes on CLEVR scenes: what is there, attributes, counts, comparisons, places, and what differs in the twin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from random import Random
from typing import Any

from vision_zero.evaluate.probes import YES_NO, Probe
from vision_zero.pairs.clevr.language import ATTRIBUTES, SHAPES, describe, false_clue, is_true, true_clue
from vision_zero.types import ImagePair

Scene = Mapping[str, Any]

FAMILIES = (
    "exists",
    "attribute",
    "count",
    "compare",
    "relation",
    "same_or_different",
    "spot_the_difference",
    "twins",
)
COMPACT = ("exists", "attribute", "twins")
"""Families that the tiny model's words can ask for, as it was taught to be asked."""
PLACES = {"left": "to the left of", "right": "to the right of", "front": "in front of", "behind": "behind"}
_WORDS = {"color": "colour"}


def clevr_probes(pair: ImagePair, rng: Random, wording: str) -> Iterator[Probe]:
    """At most one probe (or group) of each family about a pair whose pictures come with their scenes."""
    full = wording == "full"
    scene = pair.original.facts or {}
    yield _exists(pair, rng, scene, full)
    yield from _attribute(pair, rng, scene, full)
    twin = pair.modified.facts if pair.modified is not None else None
    if twin is not None:
        yield from _twins(pair, rng, scene, twin, full)
    if full:
        yield _count(pair, rng, scene)
        yield from _compare(pair, rng, scene)
        yield from _relation(pair, rng, scene)
        if pair.modified is not None:
            yield _same(pair, rng)
        if twin is not None:
            yield from _spot(pair, rng, scene, twin)


def _exists(pair: ImagePair, rng: Random, scene: Scene, full: bool) -> Probe:
    truth = rng.random() < 0.5
    clue = true_clue(rng, scene) if truth else false_clue(rng, scene)
    return Probe("exists", pair.id, (pair.original,), _is_there(clue, full), YES_NO[not truth], YES_NO)


def _attribute(pair: ImagePair, rng: Random, scene: Scene, full: bool) -> Iterator[Probe]:
    """One attribute of an object that the others tell from the rest."""
    objects = scene["objects"]
    for name in rng.sample(list(ATTRIBUTES), len(ATTRIBUTES)):
        for obj in rng.sample(objects, len(objects)):
            phrase = _only(objects, obj, [n for n in ATTRIBUTES if n != name])
            if phrase is None:
                continue
            if full:
                question = f"What is the {_WORDS.get(name, name)} of the {phrase}?"
                yield Probe("attribute", pair.id, (pair.original,), question, obj[name], ATTRIBUTES[name])
            else:
                question = f"what is a {phrase} ?"
                yield Probe("attribute", pair.id, (pair.original,), question, obj[name], ATTRIBUTES[name], reads=name)
            return


def _twins(pair: ImagePair, rng: Random, scene: Scene, twin: Scene, full: bool) -> Iterator[Probe]:
    """A question whose answer differs between the twins, asked of both: who does not look gets one of them wrong."""
    assert pair.modified is not None
    clue = _new(rng, scene, twin)
    if clue is not None:
        for picture, answer in ((pair.original, "no"), (pair.modified, "yes")):
            yield Probe("twins", pair.id, (picture,), _is_there(clue, full), answer, YES_NO)


def _count(pair: ImagePair, rng: Random, scene: Scene) -> Probe:
    name = rng.choice(list(ATTRIBUTES))
    value = rng.choice([rng.choice(scene["objects"])[name], rng.choice(ATTRIBUTES[name])])
    count = sum(o[name] == value for o in scene["objects"])
    things = f"{value}s" if name == "shape" else f"{value} objects"
    return Probe("count", pair.id, (pair.original,), f"How many {things} are there in the picture?", str(count))


def _compare(pair: ImagePair, rng: Random, scene: Scene) -> Iterator[Probe]:
    counts = {shape: sum(o["shape"] == shape for o in scene["objects"]) for shape in SHAPES}
    unequal = [(a, b) for a in SHAPES for b in SHAPES if counts[a] != counts[b]]
    if unequal:
        a, b = rng.choice(unequal)
        question = f"Are there more {a}s than {b}s in the picture?"
        yield Probe("compare", pair.id, (pair.original,), question, YES_NO[counts[a] < counts[b]], YES_NO)


def _relation(pair: ImagePair, rng: Random, scene: Scene) -> Iterator[Probe]:
    """Where one of two objects that can be named is, seen from the other."""
    objects, places = scene["objects"], scene.get("relationships")
    if places is None:
        return
    named = [(k, phrase) for k, o in enumerate(objects) if (phrase := _only(objects, o, list(ATTRIBUTES)))]
    word, opposite = rng.choice([("left", "right"), ("right", "left"), ("front", "behind"), ("behind", "front")])
    clear = [(a, b) for a in named for b in named if a[0] in places[word][b[0]] or a[0] in places[opposite][b[0]]]
    if clear:
        (a, first), (b, second) = rng.choice(clear)
        question = f"Is the {first} {PLACES[word]} the {second}?"
        yield Probe("relation", pair.id, (pair.original,), question, YES_NO[a not in places[word][b]], YES_NO)


def _same(pair: ImagePair, rng: Random) -> Probe:
    assert pair.modified is not None
    same = rng.random() < 0.5
    first, second = rng.sample((pair.original, pair.modified), 2)
    shown = (first, first if same else second)
    question = "Do the two pictures show exactly the same objects?"
    return Probe("same_or_different", pair.id, shown, question, YES_NO[not same], YES_NO)


def _spot(pair: ImagePair, rng: Random, scene: Scene, twin: Scene) -> Iterator[Probe]:
    """Which of four objects is only in the second picture. The others are in both, or in the first alone."""
    assert pair.modified is not None
    right = _new(rng, scene, twin)
    wrong = sorted({describe(o, ("color", "shape")) for o in (*scene["objects"], *twin["objects"])})
    wrong = [c for c in wrong if is_true(c, scene)]
    if right is None or len(wrong) < 3:
        return
    options = [right, *rng.sample(wrong, 3)]
    rng.shuffle(options)
    letters = "ABCD"
    told = " ".join(f"{letter}: {_phrase(c)}." for letter, c in zip(letters, options, strict=True))
    question = (
        "The second picture is a copy of the first in which some objects were replaced. "
        f"Which of these is in the second picture but not in the first? {told}"
    )
    answer = letters[options.index(right)]
    yield Probe("spot_the_difference", pair.id, (pair.original, pair.modified), question, answer, tuple(letters))


def _new(rng: Random, scene: Scene, twin: Scene) -> str | None:
    """A clue that is true of the twin and false of the scene, as short as can be; None if nothing is new."""
    for attributes in (("color", "shape"), tuple(ATTRIBUTES)):
        new = sorted({c for o in twin["objects"] if not is_true(c := describe(o, attributes), scene)})
        if new:
            return rng.choice(new)
    return None


def _only(objects: Sequence[Mapping[str, Any]], obj: Mapping[str, Any], attributes: Sequence[str]) -> str | None:
    """The fewest of these attributes that tell an object from all others, as a phrase; None if nothing does."""
    for size in range(1, len(attributes) + 1):
        for chosen in combinations(attributes, size):
            if sum(all(o[n] == obj[n] for n in chosen) for o in objects) == 1:
                return _phrase(describe(obj, chosen)).removeprefix("a ")
    return None


def _is_there(clue: str, full: bool) -> str:
    return f"Is there {_phrase(clue)} in the picture?" if full else f"{_phrase(clue)} ?"


def _phrase(clue: str) -> str:
    """ "a red cube" of "a red cube ."."""
    return clue.removesuffix(" .")
