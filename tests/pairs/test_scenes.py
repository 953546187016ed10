from __future__ import annotations

import copy
import math
from random import Random

import numpy as np
import pytest

from tests.pairs.conftest import RULES, MadePair
from vision_zero.errors import UserError
from vision_zero.pairs.clevr.language import ATTRIBUTES
from vision_zero.pairs.clevr.raycast import object_ids
from vision_zero.pairs.clevr.scenes import SceneRules, make_pair, make_scene, make_twin
from vision_zero.pairs.clevr.styles import STYLES
from vision_zero.types import JSON

Made = dict[str, list[MadePair]]


def both(made: Made, style: str) -> list[JSON]:
    return [scene for original, twin, _ in made[style] for scene in (original, twin)]


@pytest.mark.parametrize("style", RULES)
def test_every_object_is_large_enough_unhidden_and_inside_the_frame(made: Made, style: str) -> None:
    rules = RULES[style]
    for scene in both(made, style):
        ids = object_ids(scene, rules.width, rules.height)
        border = np.concatenate([ids[0], ids[-1], ids[:, 0], ids[:, -1]])
        assert (border == -1).all()
        for i, obj in enumerate(scene["objects"]):
            seen = int((ids == i).sum())
            alone = int((object_ids({**scene, "objects": [obj]}, rules.width, rules.height) == 0).sum())
            assert seen >= 60 * rules.width * rules.height / (168 * 112)
            assert seen >= 0.97 * alone


@pytest.mark.parametrize("style", RULES)
def test_objects_keep_gap_and_margins_on_the_field(made: Made, style: str) -> None:
    look = STYLES[style]
    for scene in both(made, style):
        objects = scene["objects"]
        for i, a in enumerate(objects):
            x, y, z = a["3d_coords"]
            assert abs(x) <= look.field[0]
            assert abs(y) <= look.field[1]
            assert z == look.sizes[a["size"]]
            for b in objects[:i]:
                reach = sum(o["3d_coords"][2] * (math.sqrt(2) if o["shape"] == "cube" else 1) for o in (a, b))
                assert math.dist(a["3d_coords"][:2], b["3d_coords"][:2]) - reach >= look.gap
                for way in ("left", "right", "front", "behind"):
                    along = sum(
                        (p - q) * d
                        for p, q, d in zip(a["3d_coords"], b["3d_coords"], scene["directions"][way], strict=True)
                    )
                    assert abs(along) >= look.margin


def test_clevr_style_has_the_numbers_of_clevr() -> None:
    look = STYLES["clevr"]
    assert look.field == (3.0, 3.0)
    assert (look.gap, look.margin) == (0.25, 0.4)
    assert look.sizes == {"large": 0.7, "small": 0.35}
    assert (look.camera_jitter, look.light_jitter) == (0.5, 1.0)


@pytest.mark.parametrize("style", RULES)
def test_scene_follows_the_schema(made: Made, style: str) -> None:
    fewest, most = RULES[style].objects
    for scene in both(made, style):
        assert fewest <= len(scene["objects"]) <= most
        for obj in scene["objects"]:
            assert all(obj[name] in values for name, values in ATTRIBUTES.items())
            column, row, depth = obj["pixel_coords"]
            assert 0 <= column < RULES[style].width
            assert 0 <= row < RULES[style].height
            assert depth > 0
        behind, right = scene["directions"]["behind"], scene["directions"]["right"]
        assert math.isclose(math.hypot(*behind), 1)
        assert math.isclose(sum(a * b for a, b in zip(behind, right, strict=True)), 0, abs_tol=1e-9)


def test_pixel_coords_lie_on_the_object(made: Made) -> None:
    for scene in both(made, "clevr"):
        ids = object_ids(scene, 168, 112)
        for i, obj in enumerate(scene["objects"]):
            column, row, _ = obj["pixel_coords"]
            assert ids[row, column] == i


def test_relationships_say_what_is_seen(made: Made) -> None:
    for scene in both(made, "clevr"):
        for i, seen_left in enumerate(scene["relationships"]["left"]):
            for j in range(len(scene["objects"])):
                assert (j in seen_left) == (i in scene["relationships"]["right"][j])
    # what lies behind stands farther from the camera: the depth grows
    scene = made["clevr"][0][0]
    for i, further in enumerate(scene["relationships"]["behind"]):
        assert all(
            scene["objects"][j]["pixel_coords"][2] > scene["objects"][i]["pixel_coords"][2] - 0.5 for j in further
        )


@pytest.mark.parametrize("style", RULES)
def test_the_change_log_leads_from_the_scene_to_its_twin(made: Made, style: str) -> None:
    for original, twin, changes in made[style]:
        assert len(changes) == 2
        again = copy.deepcopy(original)
        for change in changes:
            obj = again["objects"][int(change.what.removeprefix("object "))]
            assert set(change.before) == set(change.after) == {"shape", "color"}
            assert all(obj[k] == v and change.after[k] != v for k, v in change.before.items())
            obj.update(change.after)
        assert again == twin


def test_number_of_changes_and_attributes_are_options() -> None:
    rules = RULES["clevr"]
    for changes in (1, 3):
        original, twin, log = make_pair(Random(5), rules, changes, ("size", "material"))
        different = [i for i, (a, b) in enumerate(zip(original["objects"], twin["objects"], strict=True)) if a != b]
        assert [f"object {i}" for i in different] == [c.what for c in log]
        assert len(different) == changes
        for i in different:
            a, b = original["objects"][i], twin["objects"][i]
            assert (a["shape"], a["color"], a["rotation"]) == (b["shape"], b["color"], b["rotation"])
            assert a["3d_coords"][:2] == b["3d_coords"][:2]
            assert b["3d_coords"][2] == STYLES["clevr"].sizes[b["size"]] != a["3d_coords"][2]
            assert a["material"] != b["material"]


def test_make_twin_leaves_the_scene_alone() -> None:
    scene = make_scene(Random(1), RULES["nano"])
    before = copy.deepcopy(scene)
    twin, log = make_twin(Random(2), scene, RULES["nano"], 1, ("color",))
    assert scene == before
    assert len(log) == 1
    assert twin != scene


def test_a_twin_is_not_given_a_shape_that_closes_the_gap() -> None:
    """Two small spheres stand so near to each other that a cube, with its corners, would not fit."""
    scene = make_scene(Random(1), RULES["clevr"])
    ways = scene["directions"]["right"], scene["directions"]["behind"]
    step = [0.86 * a + 0.45 * b for a, b in zip(*ways, strict=True)]
    sphere = {**scene["objects"][0], "shape": "sphere", "size": "small"}
    scene["objects"] = [{**sphere, "3d_coords": [k * step[0], k * step[1], 0.35]} for k in (0, 1)]
    assert math.dist(*(o["3d_coords"] for o in scene["objects"])) - 0.7 == pytest.approx(0.27, abs=0.01)
    shapes = [
        obj["shape"]
        for seed in range(20)
        for obj in make_twin(Random(seed), scene, RULES["clevr"], 1, ("shape",))[0]["objects"]
    ]
    assert sorted(set(shapes)) == ["cylinder", "sphere"]


def test_every_count_of_objects_occurs() -> None:
    counts = {len(make_scene(Random(seed), RULES["nano"])["objects"]) for seed in range(40)}
    assert counts == {3, 4, 5, 6}


def test_rules_that_leave_no_room_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vision_zero.pairs.clevr.scenes._SCENE_TRIES", 5)
    with pytest.raises(UserError, match=r"60 objects.*lower pairs\.objects"):
        make_scene(Random(0), SceneRules((60, 60), "nano", 96, 64))
