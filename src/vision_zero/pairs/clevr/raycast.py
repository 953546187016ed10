"""A ray caster in numpy: needs no system library and gives the same bytes every time.

One ray a pixel, then 3x3 more where neighbouring pixels differ. Light comes from all around
(brighter from above), from point lights with traced shadows, and from highlights; metal mirrors its
surroundings and shows little colour of its own in diffuse light.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision_zero.pairs.clevr.geometry import Body, Camera, Floats, Ids, column, dot
from vision_zero.pairs.clevr.styles import STYLES, Style

GROUND, SKY = -1, -2
_FAR = np.float32(200.0)
_GRID = 3
_CONTRAST = np.float32(0.07)
"""Difference of neighbouring pixels, on a scale that is roughly even to the eye, that calls for more rays."""


def _encoding() -> NDArray[np.uint8]:
    """sRGB bytes of linear light in 4096 steps of its square root (fine where the eye is)."""
    bytes_ = []
    for i in range(4096):
        linear = (i / 4095) ** 2
        s = 12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055
        bytes_.append(int(s * 255 + 0.5))
    return np.array(bytes_, np.uint8)


_ENCODING = _encoding()


def render(scene: Mapping[str, Any], width: int, height: int) -> NDArray[np.uint8]:
    """The picture of a scene: uint8 (height, width, 3)."""
    world = _World(scene)
    camera = Camera.of(scene)
    eye = column(camera.position)
    columns, rows = _centres(width, height)
    light, ids = world.radiance(eye, camera.rays(columns, rows, width, height), world.style.bounces)
    edges = np.flatnonzero(_edges(light.reshape(3, height, width), ids.reshape(height, width)))
    if len(edges):
        steps = (np.arange(_GRID, dtype=np.float32) - np.float32((_GRID - 1) / 2)) / np.float32(_GRID)
        dx, dy = (np.repeat(steps, _GRID), np.tile(steps, _GRID))
        many = (columns[edges] + dx[:, None]).ravel(), (rows[edges] + dy[:, None]).ravel()
        finer, _ = world.radiance(eye, camera.rays(*many, width, height), world.style.bounces)
        light[:, edges] = np.minimum(finer, 1).reshape(3, _GRID * _GRID, -1).sum(1) / np.float32(_GRID * _GRID)
    levels = np.sqrt(np.clip(light, 0, 1)) * np.float32(4095) + np.float32(0.5)
    return np.ascontiguousarray(_ENCODING[levels.astype(np.int16)].T.reshape(height, width, 3))


def object_ids(scene: Mapping[str, Any], width: int, height: int) -> Ids:
    """Which object is seen at the centre of each pixel: int8 (height, width), -1 for the ground."""
    return silhouettes(scene, width, height)[0]


def silhouettes(scene: Mapping[str, Any], width: int, height: int) -> tuple[Ids, list[int]]:
    """`object_ids`, and how many pixels each object would cover if nothing stood before it."""
    camera = Camera.of(scene)
    rays = camera.rays(*_centres(width, height), width, height)
    ids = np.full(width * height, GROUND, np.int8)
    depth = np.full(width * height, np.inf, np.float32)
    alone = []
    for i, obj in enumerate(scene["objects"]):
        hit, t = Body(obj).entry(column(camera.position), rays)
        alone.append(len(hit))
        nearer = t < depth[hit]
        ids[hit[nearer]], depth[hit[nearer]] = i, t[nearer]
    return ids.reshape(height, width), alone


def _centres(width: int, height: int) -> tuple[Floats, Floats]:
    columns, rows = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
    return np.tile(columns + np.float32(0.5), height), np.repeat(rows + np.float32(0.5), width)


def _edges(light: Floats, ids: Ids) -> NDArray[np.bool_]:
    seen = np.sqrt(np.clip(light, 0, 1))
    edges = np.zeros(ids.shape, bool)
    across = (np.abs(seen[:, :, 1:] - seen[:, :, :-1]) > _CONTRAST).any(0) | (ids[:, 1:] != ids[:, :-1])
    down = (np.abs(seen[:, 1:] - seen[:, :-1]) > _CONTRAST).any(0) | (ids[1:] != ids[:-1])
    edges[:, 1:] |= across
    edges[:, :-1] |= across
    edges[1:] |= down
    edges[:-1] |= down
    return edges


class _World:
    """A scene made ready for rays."""

    def __init__(self, scene: Mapping[str, Any]) -> None:
        self.style: Style = STYLES[scene["style"]]
        objects = scene["objects"]
        self.bodies = [Body(o) for o in objects]
        # the two last entries serve the ids SKY and GROUND, which count from the end
        self.albedo = np.array(
            [*(self.style.palette[o["color"]] for o in objects), (0, 0, 0), (self.style.ground,) * 3], np.float32
        ).T
        self.metal = np.array([*(o["material"] == "metal" for o in objects), False, False])
        self.lights = [
            (column(light["position"]), column(light["color"]), np.float32(light["power"]), bool(light["shadow"]))
            for light in scene["lights"].values()
        ]

    def radiance(self, origins: Floats, directions: Floats, bounces: int) -> tuple[Floats, Ids]:
        """Linear light (3, n) that comes back along rays, and what each ray met."""
        ids, points, normals = self._nearest(origins, directions)
        light = self._shade(ids, points, normals, directions)
        m = np.flatnonzero(self.metal[ids])
        if len(m):
            n, d = normals[:, m], directions[:, m]
            mirrored = d - 2 * dot(d, n) * n
            if bounces:
                seen, _ = self.radiance(points[:, m], mirrored, bounces - 1)
            else:
                seen = self._surroundings(mirrored)
            light[:, m] += (self.albedo[:, ids[m]] * np.float32(0.85) + np.float32(0.05)) * seen
        sky = np.flatnonzero(ids == SKY)
        if len(sky):
            light[:, sky] = self._surroundings(directions[:, sky])
        return light, ids

    def _nearest(self, origins: Floats, directions: Floats) -> tuple[Ids, Floats, Floats]:
        down = directions[2] < np.float32(-1e-3)
        t: Floats = np.where(down, -origins[2] / np.where(down, directions[2], np.float32(-1)), _FAR)
        ids = np.where(down, np.int8(GROUND), np.int8(SKY))
        for i, body in enumerate(self.bodies):
            hit, at = body.entry(origins, directions)
            closer = at < t[hit]
            ids[hit[closer]], t[hit[closer]] = i, at[closer]
        points: Floats = origins + t * directions
        normals = np.zeros((3, len(ids)), np.float32)
        normals[2] = 1
        for i, body in enumerate(self.bodies):
            mine = np.flatnonzero(ids == i)
            if len(mine):
                normals[:, mine] = body.normals(points[:, mine])
        return ids, points, normals

    def _shade(self, ids: Ids, points: Floats, normals: Floats, directions: Floats) -> Floats:
        low, high = (np.float32(v) for v in self.style.ambient)
        ambient = (low + high) / 2 + (high - low) / 2 * normals[2]
        self._darken_contacts(ambient, ids, points)
        diffuse = np.repeat(ambient[None], 3, 0)
        on = np.flatnonzero(ids >= 0)
        metal = self.metal[ids[on]]
        gloss = np.zeros((3, len(on)), np.float32)
        for position, color, power, shadow in self.lights:
            to = position - points
            square = dot(to, to)
            to /= np.sqrt(square)
            facing = dot(normals, to)
            far = dot(position, position)
            strength = np.maximum(facing, 0) * (2 * power * far) / (square + far)
            if shadow:
                lit = np.flatnonzero(facing > 0)
                strength[lit[self._blocked(points[:, lit], to[:, lit], square[lit])]] = 0
            diffuse += strength * color
            half = to[:, on] - directions[:, on]
            half /= np.sqrt(dot(half, half))
            shine = np.maximum(dot(normals[:, on], half), 0)
            s4 = shine * shine * shine * shine
            s16 = s4 * s4 * s4 * s4
            s64 = s16 * s16 * s16 * s16
            lobe = np.where(metal, np.float32(2.4) * s64 + np.float32(0.5) * s16, np.float32(0.07) * s16)
            gloss += lobe * (strength[on] > 0) * power * color
        diffuse *= self.albedo[:, ids]
        diffuse[:, on] *= np.where(metal, np.float32(0.35), np.float32(1))
        diffuse[:, on] += gloss
        return diffuse

    def _darken_contacts(self, ambient: Floats, ids: Ids, points: Floats) -> None:
        """Less of the sky is seen from the ground beside an object."""
        ground = np.flatnonzero(ids == GROUND)
        x, y = points[0, ground], points[1, ground]
        open_sky = np.ones(len(ground), np.float32)
        for body in self.bodies:
            dx, dy = x - body.center[0], y - body.center[1]
            near = 1 + (dx * dx + dy * dy) / (body.radius * body.radius)
            open_sky *= 1 - np.float32(1.6) / (near * near * near + np.float32(1.2))
        ambient[ground] *= open_sky

    def _blocked(self, points: Floats, to: Floats, square: Floats) -> NDArray[np.intp]:
        """Which points have a body between them and the light."""
        dark = np.zeros(len(square), bool)
        for body in self.bodies:
            hit, at = body.entry(points, to)
            dark[hit[at * at < square[hit]]] = True
        return np.flatnonzero(dark)

    def _surroundings(self, directions: Floats) -> Floats:
        """A bright sky over a darker ground, with a soft horizon."""
        below, above = (np.float32(v) for v in self.style.mirrored)
        x = 3 * directions[2]
        height = x / (1 + np.abs(x))
        return np.repeat(((above + below) / 2 + (above - below) / 2 * height)[None], 3, 0)
