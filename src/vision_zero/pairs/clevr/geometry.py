"""Where rays meet things: the camera, and the three shapes as convex bodies.

Vectors are float32 arrays of shape (3, n): one row a coordinate, so that every operation runs over
contiguous memory. Only correctly rounded operations are used (no BLAS, no exp, no pow), so that a
picture does not depend on the vector units of the machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ids = NDArray[np.int8]

SENSOR = 32.0
_BOUND = {"sphere": 1.0, "cylinder": math.sqrt(2.0), "cube": math.sqrt(3.0)}


def dot(a: Floats, b: Floats) -> Floats:
    """Row of dot products: (3, n), (3, n) or (3, 1) -> (n,)."""
    product: Floats = a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
    return product


def column(v: Any) -> Floats:
    """A single vector as (3, 1)."""
    return np.array(v, np.float32).reshape(3, 1)


@dataclass(frozen=True)
class Camera:
    """A pinhole camera. Axes are unit vectors; `spread` is the width of the picture at distance 1."""

    position: tuple[float, ...]
    forward: tuple[float, ...]
    right: tuple[float, ...]
    up: tuple[float, ...]
    spread: float

    @classmethod
    def of(cls, scene: Mapping[str, Any]) -> Camera:
        """The camera of a scene: `{"position", "target", "lens"}`, upright."""
        spec = scene["camera"]
        position = tuple(spec["position"])
        forward = _unit(tuple(t - p for t, p in zip(spec["target"], position, strict=True)))
        right = _unit((forward[1], -forward[0], 0.0))
        return cls(position, forward, right, _cross(right, forward), SENSOR / spec["lens"])

    def project(self, point: tuple[float, ...], width: int, height: int) -> tuple[float, float, float]:
        """Column, row (in pixels, not rounded) and depth of a point in a picture of this size."""
        offset = [a - b for a, b in zip(point, self.position, strict=True)]
        x, y, depth = (
            sum(a * b for a, b in zip(offset, axis, strict=True)) for axis in (self.right, self.up, self.forward)
        )
        scale = width / (self.spread * depth)
        return width / 2 + x * scale, height / 2 - y * scale, depth

    def rays(self, columns: Floats, rows: Floats, width: int, height: int) -> Floats:
        """Unit directions (3, n) through points of the picture, given in pixels."""
        scale = np.float32(self.spread / width)
        x = (columns - np.float32(width / 2)) * scale
        y = (np.float32(height / 2) - rows) * scale
        d: Floats = column(self.forward) + x * column(self.right) + y * column(self.up)
        d /= np.sqrt(dot(d, d))
        return d


class Body:
    """A sphere, an upright cylinder or a cube turned about the vertical, standing on the ground.

    CLEVR's `rotation` is taken in degrees. The radius is the height of the centre.
    """

    def __init__(self, obj: Mapping[str, Any]) -> None:
        self.shape: str = obj["shape"]
        self.center = column(obj["3d_coords"])
        self.radius = np.float32(obj["3d_coords"][2])
        self._bound = np.float32((float(self.radius) * _BOUND[self.shape]) ** 2)
        angle = math.radians(obj.get("rotation", 0.0))
        self._cos, self._sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))

    def entry(self, origins: Floats, directions: Floats) -> tuple[NDArray[np.intp], Floats]:
        """Which rays enter the body and at what distance.

        `origins` are (3, 1) or (3, n), `directions` are unit vectors (3, n). A ray that leaves the body's own
        surface does not enter it again, for the body is convex: mirrored and shadow rays need no offset.
        """
        to = self.center - origins
        along = dot(to, directions)
        miss = dot(to, to) - along * along
        near = np.flatnonzero((miss < self._bound) & (along > 0))
        if not len(near):
            return near, np.empty(0, np.float32)
        to = to[:, near] if to.shape[1] > 1 else to
        enter, leave = self._interval(to, directions[:, near], along[near], miss[near])
        hit = (enter < leave) & (enter > 0)
        return near[hit], enter[hit]

    def _interval(self, to: Floats, d: Floats, along: Floats, miss: Floats) -> tuple[Floats, Floats]:
        """Distances at which rays, `to` away from the centre, enter and leave; enter >= leave for a miss."""
        r = self.radius
        if self.shape == "sphere":
            half = np.sqrt(np.maximum(r * r - miss, 0))
            return along - half, along + half
        low, high = _slab(to[2], d[2], r)
        if self.shape == "cylinder":
            a = np.maximum(d[0] * d[0] + d[1] * d[1], np.float32(1e-12))
            b = to[0] * d[0] + to[1] * d[1]
            cross = to[0] * d[1] - to[1] * d[0]
            inside = a * r * r - cross * cross
            half = np.sqrt(np.maximum(inside, 0))
            enter = np.where(inside > 0, np.maximum((b - half) / a, low), np.inf)
            return enter, np.minimum((b + half) / a, high)
        for slab in (
            _slab(self._cos * to[0] + self._sin * to[1], self._cos * d[0] + self._sin * d[1], r),
            _slab(self._cos * to[1] - self._sin * to[0], self._cos * d[1] - self._sin * d[0], r),
        ):
            low, high = np.maximum(low, slab[0]), np.minimum(high, slab[1])
        return low, high

    def normals(self, points: Floats) -> Floats:
        """Outward unit normals (3, n) at points of the surface."""
        p = (points - self.center) / self.radius
        if self.shape == "sphere":
            return p
        if self.shape == "cylinder":
            side = np.sqrt(p[0] * p[0] + p[1] * p[1])
            cap = np.abs(p[2]) > side
            side = np.where(cap, np.float32(1), side)
            return np.stack(
                [np.where(cap, 0, p[0] / side), np.where(cap, 0, p[1] / side), np.where(cap, np.sign(p[2]), 0)]
            )
        x, y = self._cos * p[0] + self._sin * p[1], self._cos * p[1] - self._sin * p[0]
        ax, ay, az = np.abs(x), np.abs(y), np.abs(p[2])
        on_z = (az >= ax) & (az >= ay)
        on_x = ~on_z & (ax >= ay)
        nx = np.where(on_x, np.sign(x), 0)
        ny = np.where(on_z | on_x, 0, np.sign(y))
        nz = np.where(on_z, np.sign(p[2]), 0)
        return np.stack([self._cos * nx - self._sin * ny, self._sin * nx + self._cos * ny, nz])


def _slab(to: Floats, d: Floats, half: np.float32) -> tuple[Floats, Floats]:
    """Where rays are between two parallel planes `half` to either side of the centre."""
    d = np.where(np.abs(d) < np.float32(1e-6), np.float32(1e-6), d)
    a, b = (to - half) / d, (to + half) / d
    return np.minimum(a, b), np.maximum(a, b)


def _unit(v: tuple[float, ...]) -> tuple[float, ...]:
    norm = math.sqrt(sum(x * x for x in v))
    return tuple(x / norm for x in v)


def _cross(a: tuple[float, ...], b: tuple[float, ...]) -> tuple[float, ...]:
    return (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])
