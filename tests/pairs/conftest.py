from __future__ import annotations

from random import Random

import pytest

from vision_zero.pairs.clevr.scenes import SceneRules, make_pair
from vision_zero.types import JSON, Change

RULES = {
    "nano": SceneRules((3, 6), "nano", 96, 64),
    "clevr": SceneRules((4, 6), "clevr", 168, 112),
}
MadePair = tuple[JSON, JSON, tuple[Change, ...]]


@pytest.fixture(scope="session")
def made() -> dict[str, list[MadePair]]:
    """A few pairs of each style, as scenes."""
    return {
        name: [make_pair(Random(seed), rules, 2, ("shape", "color")) for seed in range(12)]
        for name, rules in RULES.items()
    }
