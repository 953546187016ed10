"""What a knowing teacher would say of a picture: distributions over sentences, votes and answers.

The teacher never draws one sentence for the model to imitate: it gives the probabilities of all of them,
so that every word of a reply is taught against the exact distribution of what could stand there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from random import Random

from vision_zero.games.base import PublicClue
from vision_zero.models.nano.scenes import Object
from vision_zero.pairs.clevr.language import ANY_SHAPE, CLUE_WEIGHTS, is_true

Words = tuple[str, ...]
Says = dict[Words, float]
"""Probabilities of whole replies, as words. They sum to 1."""

_VAGUE = {("color",): 3.0, ("shape",): 3.0, ("size", "shape"): 2.0, ("size",): 1.0, ("color", "shape"): 3.0}
_COPIES, _VAGUENESS = 0.1, 0.2
"""How often a spy of the curriculum repeats a clue that it heard, and how often it is vague."""
_NOTICES, _IMAGINES = 0.8, 0.05
"""How often a voter of the curriculum sees that a false clue is false, and takes a true one for false."""
_DECIDES, _ABSTAINS = 0.5, 0.1
"""How much of a vote follows what the voter noticed, and how much is an abstention; the rest is a blind guess.
Low on purpose: the warm start teaches what a vote is; to vote well is left to self-play."""


def clues(scene: Sequence[Object], weights: Mapping[tuple[str, ...], float] = CLUE_WEIGHTS) -> Says:
    """All true clues: a random object, described by a random set of attributes."""
    says: defaultdict[Words, float] = defaultdict(float)
    total = sum(weights.values()) * len(scene)
    for attributes, weight in weights.items():
        for obj in scene:
            says[sentence(obj, attributes)] += weight / total
    return dict(says)


def spy_clues(scene: Sequence[Object], heard: Sequence[PublicClue]) -> Says:
    """True of the spy's own picture and often vague; now and then a repeated clue."""
    parts = [(1 - _VAGUENESS, clues(scene)), (_VAGUENESS, clues(scene, _VAGUE))]
    copied = [tuple(c.text.split()) for c in heard if c.text]
    if copied:
        parts = [((1 - _COPIES) * share, says) for share, says in parts]
        parts += [(_COPIES / len(copied), dict.fromkeys([words], 1.0)) for words in copied]
    mixed: defaultdict[Words, float] = defaultdict(float)
    for share, says in parts:
        for words, p in says.items():
            mixed[words] += share * p
    return dict(mixed)


def votes(rng: Random, clues: Sequence[PublicClue], seats: int, seat: int | None, scene: Sequence[Object]) -> Says:
    """Against the seats with most clues that the voter took for false, mixed with abstention and guessing."""
    suspicions = [0] * seats
    for clue in clues:
        false = not is_true(clue.text, {"objects": scene})
        suspicions[clue.seat] += rng.random() < (_NOTICES if false else _IMAGINES)
    others = [i for i in range(seats) if i != seat]
    worst = max(suspicions[i] for i in others)
    suspects = [i for i in others if suspicions[i] == worst] if worst else others
    says: Says = {("n/a",): _ABSTAINS}
    for i in others:
        says[(str(i + 1),)] = (1 - _DECIDES - _ABSTAINS) / len(others) + (i in suspects) * _DECIDES / len(suspects)
    return says


def sentence(obj: Object, attributes: Sequence[str]) -> Words:
    """Words of the clue that names these attributes. Example: `("a", "red", "cube", ".")`"""
    before = [obj[name] for name in ("size", "material", "color") if name in attributes]
    return ("a", *before, obj["shape"] if "shape" in attributes else ANY_SHAPE, ".")


def next_words(says: Says, path: Words) -> list[dict[str | None, float]]:
    """For every word of a reply and for its end (None), the distribution of what the teacher could say there."""
    here = says
    out = []
    for k in range(len(path) + 1):
        following: defaultdict[str | None, float] = defaultdict(float)
        for words, p in here.items():
            following[words[k] if k < len(words) else None] += p
        total = sum(following.values())
        out.append({word: p / total for word, p in following.items()})
        if k < len(path):
            here = {words: p for words, p in here.items() if k < len(words) and words[k] == path[k]}
    return out
