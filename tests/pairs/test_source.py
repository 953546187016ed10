from __future__ import annotations

import hashlib
import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from vision_zero.config import ClevrPairs
from vision_zero.errors import UserError
from vision_zero.pairs import made as module
from vision_zero.pairs import open_pairs
from vision_zero.pairs.clevr.raycast import render
from vision_zero.pairs.clevr.source import VERSION, ClevrSource
from vision_zero.types import ImagePair

NANO = ClevrPairs(style="nano", width=96, height=64, objects=(3, 5), count=9)


def shas(pair: ImagePair) -> tuple[str, str]:
    assert pair.modified is not None
    return pair.original.sha, pair.modified.sha


def test_a_pair_has_its_pictures_facts_and_changes() -> None:
    source = ClevrSource(NANO, 3, "train")
    pair = source[4]
    assert len(source) == 9
    assert pair.id == "clevr-train-3-000004"
    assert pair.licence == "CC0-1.0"
    assert len(pair.changes) == 2
    assert pair.modified is not None
    for picture in (pair.original, pair.modified):
        assert picture.facts is not None
        pixels = np.asarray(Image.open(io.BytesIO(picture.data)))
        assert pixels.shape == (64, 96, 3)
        assert (pixels == render(picture.facts, 96, 64)).all()
        assert picture.facts["image_index"] == 4
    assert pair.original.facts["objects"] != pair.modified.facts["objects"]


def test_a_pair_depends_on_nothing_but_its_name() -> None:
    forwards, backwards = ClevrSource(NANO, 3, "train"), ClevrSource(NANO, 3, "train")
    a = [forwards[i] for i in range(9)]
    b = [backwards[i] for i in reversed(range(9))][::-1]
    longer = ClevrSource(NANO.model_copy(update={"count": 2000}), 3, "train")
    assert [shas(p) for p in a] == [shas(p) for p in b]
    assert shas(longer[5]) == shas(a[5])
    assert len({sha for p in a for sha in shas(p)}) == 18


def test_seeds_and_splits_share_nothing() -> None:
    sets = [open_pairs(NANO, seed, split) for seed, split in ((3, "train"), (3, "held_out"), (4, "train"))]
    pictures = [{sha for i in range(9) for sha in shas(s[i])} for s in sets]
    assert not pictures[0] & pictures[1]
    assert not pictures[0] & pictures[2]
    assert len({s.fingerprint for s in sets}) == 3
    assert open_pairs(NANO, 3, "train").fingerprint == sets[0].fingerprint
    assert open_pairs(NANO.model_copy(update={"changes": 1}), 3, "train").fingerprint != sets[0].fingerprint


def test_other_processes_make_the_same_pairs() -> None:
    source = ClevrSource(NANO, 3, "train")
    script = (
        "from vision_zero.config import ClevrPairs; from vision_zero.pairs import open_pairs;"
        f"p = open_pairs(ClevrPairs.model_validate_json({NANO.model_dump_json()!r}), 3, 'train')[7];"
        "print(p.original.sha, p.modified.sha)"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert tuple(told) == shas(source[7])


def test_pixels_are_those_of_this_version() -> None:
    """If this fails on purpose, raise VERSION: the same seed now gives other pictures."""
    assert VERSION == 1
    digest = hashlib.sha256()
    for config in (NANO, ClevrPairs(width=84, height=56)):
        for picture in (ClevrSource(config, 0, "train")[0].original, ClevrSource(config, 0, "train")[0].modified):
            assert picture is not None
            digest.update(np.asarray(Image.open(io.BytesIO(picture.data))).tobytes())
    assert digest.hexdigest()[:16] == "d10067eb10bb0bf1"


def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    source = ClevrSource(NANO, 3, "train")
    first = shas(source[0])
    monkeypatch.setattr(module, "CACHE_BYTES", 20_000)
    for i in range(9):
        source[i]
    kept = sum(len(p.original.data) + len(p.modified.data) for p in source._made.values() if p.modified)
    assert kept == source._bytes <= 20_000
    assert 8 in source._made
    assert 0 not in source._made
    assert shas(source[0]) == first


@pytest.mark.parametrize("index", [-1, 9])
def test_there_is_nothing_outside_of_the_set(index: int) -> None:
    with pytest.raises(IndexError, match="set of 9"):
        ClevrSource(NANO, 0, "train")[index]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"changes": 4}, "pairs.changes=4"),
        ({"objects": (6, 3)}, "fewest"),
        ({"attributes": ()}, "pairs.attributes is empty"),
    ],
)
def test_contradictions_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_pairs(NANO.model_copy(update=wrong), 0, "train")
