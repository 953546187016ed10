"""A small language of clues about CLEVR scenes: what can be said, and whether it is true.

One sentence form, the existence of an object: `a [size] [material] [colour] shape .` where `object`
stands for any shape. Objects and scenes are plain mappings in CLEVR's schema.

    a cube .        a large red cube .        a rubber object .        a small metal cyan sphere .
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from random import Random
from typing import Any

SHAPES = ("cube", "sphere", "cylinder")
COLORS = ("gray", "red", "blue", "green", "brown", "purple", "cyan", "yellow")
SIZES = ("small", "large")
MATERIALS = ("metal", "rubber")

ATTRIBUTES: Mapping[str, tuple[str, ...]] = {"size": SIZES, "material": MATERIALS, "color": COLORS, "shape": SHAPES}
"""Every attribute with its values, in the order in which a sentence names them."""

ANY_SHAPE = "object"

CLUE_WEIGHTS: Mapping[tuple[str, ...], float] = {
    ("color", "shape"): 6.0,
    ("size", "color", "shape"): 1.5,
    ("material", "color", "shape"): 1.0,
    ("color",): 0.6,
    ("shape",): 0.4,
    ("size", "shape"): 0.3,
    ("size", "color"): 0.2,
}
"""How often a clue names which attributes: mostly colour and shape, sometimes more, sometimes vaguer."""

_SAYS: Mapping[str, tuple[str, str]] = {
    **{value: (name, value) for name, values in ATTRIBUTES.items() for value in values},
    **{"grey": ("color", "gray"), "big": ("size", "large"), "tiny": ("size", "small"), "little": ("size", "small")},
    **dict.fromkeys(("metallic", "shiny"), ("material", "metal")),
    **dict.fromkeys(("matte", "matt"), ("material", "rubber")),
    **{"ball": ("shape", "sphere"), "block": ("shape", "cube"), "box": ("shape", "cube")},
    **dict.fromkeys((ANY_SHAPE, "thing", "item", "shape"), ("shape", ANY_SHAPE)),
}
"""Words that free speech has for attributes. Example: `{"ball": ("shape", "sphere")}`"""
_DENIES = frozenset(
    {"no", "not", "without", "none", "never", "nor", "neither", "isn", "aren", "doesn", "lacks", "nothing"}
)

_SENTENCE = re.compile(
    r"an? "
    + "".join(f"(?:(?P<{name}>{'|'.join(ATTRIBUTES[name])}) )?" for name in ("size", "material", "color"))
    + rf"(?P<shape>{'|'.join((*SHAPES, ANY_SHAPE))}) ?\.?"
)


@dataclass(frozen=True)
class Description:
    """What a sentence says of an object; None where it says nothing.

    Example: `Description(color="red", shape="cube")`
    """

    size: str | None = None
    material: str | None = None
    color: str | None = None
    shape: str | None = None

    @property
    def text(self) -> str:
        """The sentence. Example: `"a red cube ."`"""
        words = [self.size, self.material, self.color, self.shape or ANY_SHAPE]
        return " ".join(["a", *(w for w in words if w), "."])

    @property
    def attributes(self) -> tuple[str, ...]:
        """Names of the attributes that are spoken of. Example: `("color", "shape")`"""
        return tuple(name for name in ATTRIBUTES if getattr(self, name) is not None)


def describe(obj: Mapping[str, Any], attributes: Collection[str]) -> str:
    """The sentence that names these attributes of an object: `describe(o, {"color", "shape"})` is "a red cube ."."""
    return _description(obj, attributes).text


def parse(text: str) -> Description | None:
    """What a sentence says; None if it is not in the language.

    Capitals, "an", spacing and a missing final dot are forgiven; word order is not.
    """
    found = _SENTENCE.fullmatch(" ".join(text.lower().split()))
    if found is None:
        return None
    said = found.groupdict()
    return Description(**{**said, "shape": None if said["shape"] == ANY_SHAPE else said["shape"]})


def matches(description: Description, obj: Mapping[str, Any]) -> bool:
    """Whether all that is said holds for the object."""
    return all(obj[name] == getattr(description, name) for name in description.attributes)


def is_true(text: str, scene: Mapping[str, Any]) -> bool | None:
    """Whether the scene has an object as described; None if the text is not in the language."""
    description = parse(text)
    return None if description is None else _holds(description, scene)


def mentioned(text: str) -> list[Description]:
    """What a text in any words says there is: each run of attributes that ends in a noun, "a shiny red ball next to
    two cubes" being two. Nothing of a text that denies something.

    How many there are, and where, is not read. Example: `[Description(material="metal", color="red", shape="sphere"),
    Description(shape="cube")]`
    """
    words = re.findall(r"[a-z]+", text.lower())
    if not _DENIES.isdisjoint(words):
        return []
    found = []
    said: dict[str, str] = {}
    for word in words:
        name, value = _SAYS.get(word) or _SAYS.get(word.removesuffix("s"), ("", ""))
        if not name:
            said = {}
        elif name == "shape":
            found.append(Description(**said, shape=None if value == ANY_SHAPE else value))
            said = {}
        else:
            said[name] = value
    return found


def holds(text: str, scene: Mapping[str, Any]) -> bool | None:
    """Whether everything that a text in any words says there is, is there; None if it says nothing of the kind, or
    denies something. For sentences of the language the same as `is_true`."""
    descriptions = mentioned(text)
    return all(_holds(d, scene) for d in descriptions) if descriptions else None


def true_clue(rng: Random, scene: Mapping[str, Any], weights: Mapping[tuple[str, ...], float] = CLUE_WEIGHTS) -> str:
    """A sentence that is true of the scene: a random object, described by a random set of attributes."""
    return _draw(rng, scene, weights).text


def false_clue(rng: Random, scene: Mapping[str, Any], weights: Mapping[tuple[str, ...], float] = CLUE_WEIGHTS) -> str:
    """A sentence that is false of the scene: a true one with as few attributes changed as make it false.

    A description too vague to be made false (all shapes are there) is made fuller. Raises ValueError
    for a scene that holds every kind of object.
    """
    start = _draw(rng, scene, weights)
    obj = rng.choice([o for o in scene["objects"] if matches(start, o)])
    for attributes in (start.attributes, ("color", "shape"), tuple(ATTRIBUTES)):
        lies = [d for d in _variants(attributes) if not _holds(d, scene)]
        if lies:
            distance = [sum(getattr(d, name) != obj[name] for name in attributes) for d in lies]
            return rng.choice([d for d, n in zip(lies, distance, strict=True) if n == min(distance)]).text
    raise ValueError("the scene holds every kind of object: no existence clue is false of it")


def _description(obj: Mapping[str, Any], attributes: Collection[str]) -> Description:
    return Description(**{name: obj[name] for name in attributes})


def _holds(description: Description, scene: Mapping[str, Any]) -> bool:
    return any(matches(description, o) for o in scene["objects"])


def _draw(rng: Random, scene: Mapping[str, Any], weights: Mapping[tuple[str, ...], float]) -> Description:
    attributes = rng.choices(list(weights), list(weights.values()))[0]
    return _description(rng.choice(scene["objects"]), attributes)


def _variants(attributes: tuple[str, ...]) -> Iterator[Description]:
    for values in product(*(ATTRIBUTES[name] for name in attributes)):
        yield Description(**dict(zip(attributes, values, strict=True)))
