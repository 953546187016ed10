"""Scenes and their twins, by CLEVR's rules: what stands where, and what of it can be seen.

A scene is a mapping in CLEVR's schema (objects, directions, relationships) with its camera, lights and
style added, so that it says all that a renderer needs. Facts of the rules: arXiv 1612.06890, section 3.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np

from vision_zero.config import ClevrPairs
from vision_zero.errors import UserError
from vision_zero.pairs.clevr.geometry import Camera
from vision_zero.pairs.clevr.language import ATTRIBUTES, COLORS, MATERIALS, SHAPES
from vision_zero.pairs.clevr.raycast import silhouettes
from vision_zero.pairs.clevr.styles import STYLES, Style
from vision_zero.types import JSON, Change

LEAST_PIXELS = 60 / (168 * 112)
"""Least share of the picture that each object covers."""
LEAST_VISIBLE = 0.97
"""Least share of its silhouette that is not hidden by other objects."""
_PLACE_TRIES, _TWIN_TRIES, _SCENE_TRIES = 50, 8, 2000

Disc = tuple[float, float, float]
"""Column, row and radius, in pixels, of the sphere inscribed in an object."""


@dataclass(frozen=True)
class SceneRules:
    """What every scene of a set has in common. Visibility is judged in pictures of this size."""

    objects: tuple[int, int] = (4, 6)
    style: str = "clevr"
    width: int = 320
    height: int = 240

    @classmethod
    def of(cls, config: ClevrPairs) -> SceneRules:
        """The rules that a configuration asks for."""
        return cls(config.objects, config.style, config.width, config.height)

    @property
    def look(self) -> Style:
        return STYLES[self.style]


def make_pair(
    rng: Random, rules: SceneRules, changes: int, attributes: Collection[str]
) -> tuple[JSON, JSON, tuple[Change, ...]]:
    """A scene, its twin and what differs. Raises `UserError` if the rules leave no room."""
    count = rng.randint(*rules.objects)
    for _ in range(_SCENE_TRIES):
        scene = _try_scene(rng, rules, count)
        twin = scene and _try_twin(rng, scene, rules, changes, attributes)
        if scene and twin:
            return scene, *twin
    raise _no_room(rules, count)


def make_scene(rng: Random, rules: SceneRules) -> JSON:
    """A scene in which every object is well visible. Raises `UserError` if the rules leave no room."""
    count = rng.randint(*rules.objects)
    for _ in range(_SCENE_TRIES):
        scene = _try_scene(rng, rules, count)
        if scene:
            return scene
    raise _no_room(rules, count)


def make_twin(
    rng: Random, scene: JSON, rules: SceneRules, changes: int, attributes: Collection[str]
) -> tuple[JSON, tuple[Change, ...]]:
    """The same scene with every named attribute of `changes` objects changed, and all else kept.

    Raises `UserError` if in no twin that was tried all objects were visible: `make_pair` then takes another scene.
    """
    for _ in range(_SCENE_TRIES // _TWIN_TRIES):
        twin = _try_twin(rng, scene, rules, changes, attributes)
        if twin:
            return twin
    raise UserError(
        f"no twin of this scene with {changes} changes of {', '.join(attributes)} keeps all objects visible"
    )


def _no_room(rules: SceneRules, count: int) -> UserError:
    return UserError(
        f"found no scene of {count} objects in style {rules.style!r} at {rules.width}x{rules.height} in which all "
        f"are visible: lower pairs.objects or use a picture of about 3:2"
    )


def _try_scene(rng: Random, rules: SceneRules, count: int) -> JSON | None:
    style = rules.look
    scene: JSON = {
        "style": rules.style,
        "camera": {
            "position": _jitter(rng, style.camera, style.camera_jitter),
            "target": list(style.target),
            "lens": style.lens,
        },
        "lights": {
            name: {
                "position": _jitter(rng, light.position, style.light_jitter),
                "color": list(light.color),
                "power": light.power,
                "shadow": light.shadow,
            }
            for name, light in style.lights.items()
        },
        "objects": [],
    }
    camera = Camera.of(scene)
    scene["directions"] = _directions(camera)
    discs: list[Disc] = []
    for _ in range(count):
        obj = _place(rng, scene, rules, camera, discs)
        if obj is None:
            return None
        scene["objects"].append(obj)
    scene["relationships"] = _relationships(scene)
    return scene if _all_visible(scene, rules) else None


def _place(rng: Random, scene: JSON, rules: SceneRules, camera: Camera, discs: list[Disc]) -> JSON | None:
    """One more object and its disc, or None if no place was found."""
    style = rules.look
    size = rng.choice(list(style.sizes))
    obj: JSON = {
        "shape": rng.choice(SHAPES),
        "color": rng.choice(COLORS),
        "size": size,
        "material": rng.choice(MATERIALS),
        "rotation": rng.uniform(0, 360),
    }
    for _ in range(_PLACE_TRIES):
        x, y = (rng.uniform(-limit, limit) for limit in style.field)
        obj["3d_coords"] = [x, y, style.sizes[size]]
        if all(_well_apart(obj, other, style, scene["directions"]) for other in scene["objects"]):
            disc = _disc(obj, camera, rules)
            if _in_view(disc, discs, rules):
                obj["pixel_coords"] = _pixel_coords(obj, camera, rules)
                discs.append(disc)
                return obj
    return None


def _try_twin(
    rng: Random, scene: JSON, rules: SceneRules, changes: int, attributes: Collection[str]
) -> tuple[JSON, tuple[Change, ...]] | None:
    names = [name for name in ATTRIBUTES if name in attributes]
    camera = Camera.of(scene)
    for _ in range(_TWIN_TRIES):
        twin = {**scene, "objects": copy.deepcopy(scene["objects"])}
        log = []
        for i in sorted(rng.sample(range(len(scene["objects"])), changes)):
            obj = twin["objects"][i]
            before = {name: obj[name] for name in names}
            after = {name: rng.choice([v for v in ATTRIBUTES[name] if v != obj[name]]) for name in names}
            obj.update(after)
            obj["3d_coords"][2] = rules.look.sizes[obj["size"]]
            obj["pixel_coords"] = _pixel_coords(obj, camera, rules)
            log.append(Change(f"object {i}", before, after))
        if _spaced(twin, rules.look) and _all_visible(twin, rules):
            return twin, tuple(log)
    return None


def _jitter(rng: Random, base: Sequence[float], width: float) -> list[float]:
    return [v + rng.uniform(-width, width) for v in base]


def _directions(camera: Camera) -> dict[str, list[float]]:
    """CLEVR's words for places, as unit vectors on the ground seen from the camera."""
    behind = [v / math.hypot(*camera.forward[:2]) for v in (*camera.forward[:2], 0.0)]
    right = list(camera.right)
    return {
        "behind": behind,
        "front": [-v for v in behind],
        "right": right,
        "left": [-v for v in right],
        "above": [0.0, 0.0, 1.0],
        "below": [0.0, 0.0, -1.0],
    }


def _relationships(scene: JSON) -> dict[str, list[list[int]]]:
    """For each word and object, the objects that lie that way of it, by CLEVR's threshold of 0.2."""
    places = [o["3d_coords"] for o in scene["objects"]]
    return {
        word: [[j for j, b in enumerate(places) if j != i and _along(a, b, way) > 0.2] for i, a in enumerate(places)]
        for word, way in scene["directions"].items()
        if word not in ("above", "below")
    }


def _along(a: Sequence[float], b: Sequence[float], way: Sequence[float]) -> float:
    return (b[0] - a[0]) * way[0] + (b[1] - a[1]) * way[1]


def _footprint(obj: Mapping[str, Any]) -> float:
    radius: float = obj["3d_coords"][2]
    return radius * math.sqrt(2) if obj["shape"] == "cube" else radius


def _well_apart(a: JSON, b: JSON, style: Style, directions: Mapping[str, Sequence[float]]) -> bool:
    """CLEVR's two rules for neighbours: a gap between their surfaces, and no doubt which is left or in front."""
    p, q = a["3d_coords"], b["3d_coords"]
    if math.dist(p[:2], q[:2]) - _footprint(a) - _footprint(b) < style.gap:
        return False
    return all(abs(_along(p, q, directions[word])) >= style.margin for word in ("right", "behind"))


def _spaced(scene: JSON, style: Style) -> bool:
    return all(_well_apart(a, b, style, scene["directions"]) for a, b in _couples(scene["objects"]))


def _couples(objects: Sequence[JSON]) -> Iterator[tuple[JSON, JSON]]:
    for i, a in enumerate(objects):
        for b in objects[:i]:
            yield a, b


def _pixel_coords(obj: JSON, camera: Camera, rules: SceneRules) -> list[float]:
    x, y, depth = camera.project(tuple(obj["3d_coords"]), rules.width, rules.height)
    return [round(x), round(y), depth]


def _disc(obj: JSON, camera: Camera, rules: SceneRules) -> Disc:
    x, y, depth = camera.project(tuple(obj["3d_coords"]), rules.width, rules.height)
    return x, y, obj["3d_coords"][2] * rules.width / (camera.spread * depth)


def _in_view(disc: Disc, others: Sequence[Disc], rules: SceneRules) -> bool:
    """Quick test that spares most of `_all_visible`: the inscribed spheres are in the frame and hardly overlap."""
    x, y, r = disc
    if not (r <= x <= rules.width - r and r <= y <= rules.height - r):
        return False
    return all(math.hypot(x - u, y - v) > 0.9 * (r + s) for u, v, s in others)


def _all_visible(scene: JSON, rules: SceneRules) -> bool:
    """Large enough, hardly hidden, and clear of the frame."""
    ids, alone = silhouettes(scene, rules.width, rules.height)
    if max(ids[0].max(), ids[-1].max(), ids[:, 0].max(), ids[:, -1].max()) >= 0:
        return False
    seen = np.bincount(ids[ids >= 0], minlength=len(alone))
    least = LEAST_PIXELS * rules.width * rules.height
    return all(n >= max(least, LEAST_VISIBLE * whole) for n, whole in zip(seen, alone, strict=True))
