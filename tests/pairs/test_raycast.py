from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_erosion, median_filter
from scipy.spatial import ConvexHull

from tests.pairs.conftest import RULES, MadePair
from vision_zero.pairs.clevr.geometry import Camera
from vision_zero.pairs.clevr.raycast import object_ids, render
from vision_zero.pairs.clevr.styles import STYLES
from vision_zero.types import JSON

Made = dict[str, list[MadePair]]


def scene_with(style: str, *objects: JSON) -> JSON:
    look = STYLES[style]
    lights = {
        name: {"position": list(v.position), "color": list(v.color), "power": v.power, "shadow": v.shadow}
        for name, v in look.lights.items()
    }
    camera = {"position": list(look.camera), "target": list(look.target), "lens": look.lens}
    return {"style": style, "camera": camera, "lights": lights, "objects": list(objects)}


def thing(shape: str, **other: Any) -> JSON:
    base = {"shape": shape, "color": "red", "size": "large", "material": "rubber", "rotation": 25.0}
    return {**base, "3d_coords": [0.4, -0.3, 0.7], **other}


def surface(obj: JSON) -> list[tuple[float, float, float]]:
    """Points all over an object, made without the code that is tested."""
    x, y, r = obj["3d_coords"]
    turn = math.radians(obj["rotation"])
    if obj["shape"] == "cube":
        corners = [(a, b, c) for a in (-r, r) for b in (-r, r) for c in (-r, r)]
        return [
            (x + a * math.cos(turn) - b * math.sin(turn), y + a * math.sin(turn) + b * math.cos(turn), r + c)
            for a, b, c in corners
        ]
    angles = [2 * math.pi * k / 180 for k in range(180)]
    if obj["shape"] == "cylinder":
        return [(x + r * math.cos(a), y + r * math.sin(a), z) for a in angles for z in (0.0, 2 * r)]
    slopes = [math.pi * k / 90 for k in range(91)]
    return [
        (x + r * math.cos(a) * math.sin(s), y + r * math.sin(a) * math.sin(s), r + r * math.cos(s))
        for a in angles
        for s in slopes
    ]


@pytest.mark.parametrize("rotation", [0.0, 25.0, 300.0])
@pytest.mark.parametrize("shape", ["cube", "sphere", "cylinder"])
def test_a_silhouette_covers_what_the_shape_projects_to(shape: str, rotation: float) -> None:
    obj = thing(shape, rotation=rotation)
    scene = scene_with("clevr", obj)
    outline = ConvexHull([Camera.of(scene).project(p, 320, 240)[:2] for p in surface(obj)])
    rows, columns = np.nonzero(object_ids(scene, 320, 240) == 0)
    assert len(rows) == pytest.approx(outline.volume, rel=0.015)
    centres = np.stack([columns + 0.5, rows + 0.5], 1)
    outside = (centres @ outline.equations[:, :2].T + outline.equations[:, 2]).max(1)
    assert outside.max() < 0.05


def test_the_nearer_object_hides_the_farther() -> None:
    behind, front = thing("cube", **{"3d_coords": [-1.0, 1.0, 0.7]}), thing("sphere", **{"3d_coords": [0.5, -0.6, 0.7]})
    ids = object_ids(scene_with("clevr", behind, front), 168, 112)
    swapped = object_ids(scene_with("clevr", front, behind), 168, 112)
    assert (ids == 0).any()
    assert (ids == 1).sum() == (object_ids(scene_with("clevr", front), 168, 112) == 0).sum()
    assert ((ids == 1) == (swapped == 0)).all()
    assert ids.dtype == np.int8


@pytest.mark.parametrize("style", RULES)
def test_an_object_darkens_the_ground_away_from_the_light(style: str) -> None:
    scene = scene_with(style, thing("sphere"))
    with_it, without = (render(s, 168, 112).astype(int).sum(2) for s in (scene, scene_with(style)))
    ground = object_ids(scene, 168, 112) == -1
    darker = (without - with_it > 40) & ground
    assert darker.sum() > 60
    assert (with_it[ground] - without[ground]).max() <= 40
    key = scene["lights"]["key"]["position"]
    camera = Camera.of(scene)
    away = camera.project((0.4 - key[0] * 0.12, -0.3 - key[1] * 0.12, 0.0), 168, 112)
    towards = camera.project((0.4 + key[0] * 0.12, -0.3 + key[1] * 0.12, 0.0), 168, 112)
    rows, columns = np.nonzero(darker)
    distance = [float(np.hypot(columns - p[0], rows - p[1]).mean()) for p in (away, towards)]
    assert distance[0] < distance[1]


@pytest.mark.parametrize("style", RULES)
@pytest.mark.parametrize("shape", ["cube", "sphere", "cylinder"])
def test_metal_looks_different_from_rubber(style: str, shape: str) -> None:
    size = (RULES[style].width, RULES[style].height)
    rubber, metal = (scene_with(style, thing(shape, material=m)) for m in ("rubber", "metal"))
    a, b = (render(s, *size).astype(int) for s in (rubber, metal))
    inside = binary_dilation(object_ids(rubber, *size) == 0)
    difference = np.abs(a - b).max(2)
    assert difference[inside].mean() > 10
    assert difference[~inside].max() == 0


def chroma(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    return rgb / rgb.sum()


def test_every_nano_colour_can_be_told_from_the_pixels(made: Made) -> None:
    """Mean chroma and brightness of an object's pixels are nearest to those of its own colour."""
    palette = {c: np.array(v) for c, v in STYLES["nano"].palette.items()}
    right = total = 0
    for original, twin, _ in made["nano"]:
        for scene in (original, twin):
            picture = (render(scene, 96, 64) / 255.0) ** 2.2
            ids = object_ids(scene, 96, 64)
            for i, obj in enumerate(scene["objects"]):
                mean = picture[ids == i].mean(0)
                guess = min(palette, key=lambda c: float(np.abs(chroma(palette[c]) - chroma(mean)).sum()))
                right += guess == obj["color"]
                total += 1
    assert total > 80
    assert right / total > 0.95


@pytest.mark.parametrize("style", RULES)
def test_twins_differ_at_their_changed_objects_and_nowhere_else(made: Made, style: str) -> None:
    size = (RULES[style].width, RULES[style].height)
    for original, twin, changes in made[style]:
        changed = [int(c.what.removeprefix("object ")) for c in changes]
        a, b = render(original, *size).astype(int), render(twin, *size).astype(int)
        ids = [object_ids(s, *size) for s in (original, twin)]
        difference = np.abs(a - b).max(2)
        for i in changed:
            assert difference[(ids[0] == i) | (ids[1] == i)].mean() > 12
        for i in set(range(len(original["objects"]))) - set(changed):
            unhidden = (ids[0] == i) & (ids[1] == i)
            # shadows and mirror images of the changed objects may fall on others, but not all over
            assert np.median(difference[unhidden]) <= 12
        # changed objects and what they can shade or be mirrored in: all the rest is equal to the byte
        reach = np.isin(ids[0], changed) | np.isin(ids[1], changed)
        reach = binary_dilation(reach, iterations=size[0] // 3) | (ids[0] >= 0) | (ids[1] >= 0)
        assert difference[~binary_dilation(reach)].max(initial=0) <= 2
        assert (difference == 0).mean() > 0.4


def test_edges_are_what_four_times_as_fine_a_picture_averages_to() -> None:
    scene = scene_with("clevr", thing("cube", color="yellow"), thing("sphere", **{"3d_coords": [-1.5, -1.2, 0.7]}))
    fine = render(scene, 4 * 84, 4 * 56).reshape(56, 4, 84, 4, 3).astype(float).mean((1, 3))
    ids = object_ids(scene, 84, 56)
    rim = np.zeros(ids.shape, bool)
    rim[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    rim[1:] |= ids[1:] != ids[:-1]
    assert np.abs(render(scene, 84, 56) - fine)[rim].mean() < 5


@pytest.mark.parametrize("shape", ["cube", "sphere", "cylinder"])
def test_metal_does_not_mirror_itself(shape: str) -> None:
    """A lone red metal thing mirrors only grey ground and sky: its faces are even, without specks."""
    scene = scene_with("clevr", thing(shape, material="metal"))
    picture = render(scene, 168, 112).astype(int)
    inside = binary_erosion(object_ids(scene, 168, 112) == 0, iterations=3)
    specks = np.abs(picture - median_filter(picture, size=(3, 3, 1))).max(2)
    assert (specks[inside] > 25).mean() < 0.01


def test_pictures_of_any_shape_render() -> None:
    """A tall picture sees the sky; an empty scene sees the ground."""
    assert render(scene_with("clevr", thing("cube", material="metal")), 20, 90).shape == (90, 20, 3)
    assert (object_ids(scene_with("clevr"), 30, 20) == -1).all()
    assert render(scene_with("nano"), 30, 20).dtype == np.uint8
