"""Draws scenes with Blender's Cycles. Runs as a program in Blender's own environment; nothing imports it.

Its one argument is JSON: the files of CLEVR's generator by what they hold (see `assets`), or null for objects and
lights of our own. Reads a job a line from standard input, `{"scene", "width", "height", "samples", "seed", "ids"}`,
and answers each on standard output with a line `{"size": n}` and n bytes of a PNG file. Ends when its input ends, or
with a traceback. Everything that Blender prints goes to standard error.

Like the rest of the package under Apache 2.0, which may be combined with Blender's own licence (GPL 3 or later).
"""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# whatever Blender prints, from C too, must not get between the answers
answers = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)

# like Cycles below, the denoiser takes one core: whoever wants more starts more of these
os.environ["OIDN_NUM_THREADS"] = "1"

import bpy  # noqa: E402
from mathutils import Vector  # noqa: E402

SENSOR = 32.0
GROUND = 0.8
WORLD = 0.12
SUN_TOWARD, SUN_POWER = (0.385, -0.25, 0.888), 0.45
LIGHT_SIZE = {"back": 1.0}
"""Edge of an area light, by its name; others have half of that."""
BEVEL = {"cube": 0.06, "cylinder": 0.06}
"""Radius of rounded edges, as a share of the object's: as much as leaves silhouettes alone."""


class OwnStudio:
    """Objects, lights and ground made here, which need no files."""

    def __init__(self) -> None:
        bpy.ops.wm.read_factory_settings(use_empty=True)
        scene = bpy.context.scene
        scene.world = bpy.data.worlds.new("world")
        scene.world.use_nodes = True
        scene.cycles.caustics_reflective = scene.cycles.caustics_refractive = False
        scene.camera = place("camera", bpy.data.cameras.new("camera"))

    def mesh(self, shape: str) -> bpy.types.Object:
        """An object of radius 1 at the origin, without a material."""
        if shape == "cube":
            bpy.ops.mesh.primitive_cube_add(size=2.0)
        elif shape == "cylinder":
            bpy.ops.mesh.primitive_cylinder_add(vertices=96, radius=1.0, depth=2.0)
        else:
            bpy.ops.mesh.primitive_uv_sphere_add(segments=96, ring_count=48, radius=1.0)
        thing = bpy.context.object
        thing.data.shade_smooth()
        if shape in BEVEL:
            bevel = thing.modifiers.new("bevel", "BEVEL")
            bevel.width, bevel.segments, bevel.limit_method = BEVEL[shape], 6, "ANGLE"
            # flat faces stay flat to the light
            bevel.harden_normals = True
        return thing

    def surface(self, color: list[float], kind: str) -> bpy.types.Material:
        """Rubber, dull with a faint sheen, or metal, which mirrors; both of a linear colour."""
        material = bpy.data.materials.new(kind)
        material.use_nodes = True
        shader = material.node_tree.nodes["Principled BSDF"].inputs
        shader["Base Color"].default_value = (*color, 1.0)
        shader["Metallic"].default_value = float(kind == "metal")
        shader["Roughness"].default_value = {"metal": 0.2, "rubber": 0.6}.get(kind, 1.0)
        shader["Specular IOR Level"].default_value = 0.0 if kind == "ground" else 0.5
        return material

    def furnish(self, lights: dict[str, Any], ids: bool) -> None:
        """Ground and lights; for `ids` neither, since nothing may be seen but the objects."""
        level = 0.0 if ids else WORLD
        world = bpy.context.scene.world.node_tree.nodes["Background"].inputs
        world["Color"].default_value = (level, level, level, 1.0)
        if ids:
            return
        bpy.ops.mesh.primitive_plane_add(size=200.0)
        bpy.context.object.data.materials.append(self.surface([GROUND] * 3, "ground"))
        for name, spec in lights.items():
            light = bpy.data.lights.new(name, "AREA")
            light.energy, light.color, light.use_shadow = spec["watts"], spec["color"], spec["shadow"]
            light.size = LIGHT_SIZE.get(name, 0.5)
            aim(place(name, light), spec["position"], [0.0, 0.0, 0.0])
        sun = bpy.data.lights.new("sun", "SUN")
        sun.energy = SUN_POWER
        aim(place("sun", sun), SUN_TOWARD, [0.0, 0.0, 0.0])


class ClevrStudio:
    """The base scene, shapes and materials of CLEVR's generator, from the user's copy of it."""

    def __init__(self, files: dict[str, str]) -> None:
        bpy.ops.wm.open_mainfile(filepath=files["base_scene"], load_ui=False, use_scripts=False)
        # camera and lamps turn to the origin by themselves, which `aim` does too
        for thing in bpy.data.objects:
            thing.constraints.clear()
        self._shapes = {shape: _take(files[shape], "objects") for shape in ("cube", "sphere", "cylinder")}
        self._surfaces = {kind: _take(files[kind], "node_groups") for kind in ("rubber", "metal")}

    def mesh(self, shape: str) -> bpy.types.Object:
        return place(shape, self._shapes[shape].data.copy())

    def surface(self, color: list[float], kind: str) -> bpy.types.Material:
        material = bpy.data.materials.new(kind)
        material.use_nodes = True
        nodes = material.node_tree.nodes
        group = nodes.new("ShaderNodeGroup")
        group.node_tree = self._surfaces[kind]
        group.inputs["Color"].default_value = (*color, 1.0)
        material.node_tree.links.new(group.outputs["Shader"], nodes["Material Output"].inputs["Surface"])
        return material

    def furnish(self, lights: dict[str, Any], ids: bool) -> None:
        """Lamps keep their own power and colour; where they stand is what differs from scene to scene."""
        bpy.data.objects["Ground"].hide_render = ids
        for name, spec in lights.items():
            aim(bpy.data.objects[f"Lamp_{name.capitalize()}"], spec["position"], [0.0, 0.0, 0.0])


Studio = OwnStudio | ClevrStudio


def _take(file: str, table: str) -> Any:
    """The one thing of that kind that a file of CLEVR's generator has to offer: it is called as the file is."""
    with bpy.data.libraries.load(file) as (_, into):
        setattr(into, table, [Path(file).stem])
    return getattr(into, table)[0]


def place(name: str, data: object) -> bpy.types.Object:
    thing = bpy.data.objects.new(name, data)
    bpy.context.scene.collection.objects.link(thing)
    return thing


def aim(thing: bpy.types.Object, position: Sequence[float], target: Sequence[float]) -> None:
    """Stand at a position and look at a target, upright."""
    thing.location = position
    thing.rotation_euler = (Vector(target) - Vector(position)).to_track_quat("-Z", "Y").to_euler()


def flat(level: float) -> bpy.types.Material:
    """A surface that looks equally bright from everywhere."""
    material = bpy.data.materials.new("flat")
    material.use_nodes = True
    nodes = material.node_tree.nodes
    emission = nodes.new("ShaderNodeEmission")
    emission.inputs["Color"].default_value = (level, level, level, 1.0)
    material.node_tree.links.new(emission.outputs[0], nodes["Material Output"].inputs["Surface"])
    return material


def prepare() -> None:
    """The settings that all pictures share."""
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.render.threads_mode = "FIXED"
    scene.render.threads = 1
    scene.render.resolution_percentage = 100
    scene.render.image_settings.file_format = "PNG"
    scene.render.image_settings.color_mode = "RGB"
    scene.render.dither_intensity = 0.0
    scene.cycles.device = "CPU"
    scene.cycles.use_adaptive_sampling = False
    scene.cycles.blur_glossy = 2.0
    scene.camera.data.sensor_fit = "HORIZONTAL"
    scene.camera.data.sensor_width = SENSOR


def look(job: dict[str, Any]) -> None:
    """Full light, or, for `ids`, a picture in which object i has level i + 1 and all else 0."""
    scene, ids = bpy.context.scene, job["ids"]
    scene.render.resolution_x, scene.render.resolution_y = job["width"], job["height"]
    scene.view_settings.view_transform = "Raw" if ids else "Standard"
    scene.cycles.samples = 1 if ids else job["samples"]
    scene.cycles.seed = job["seed"]
    scene.cycles.max_bounces = 0 if ids else 8
    # a ray through the very centre of a pixel, or the usual blur over 1.5 pixels
    scene.cycles.pixel_filter_type = "BOX" if ids else "BLACKMAN_HARRIS"
    scene.cycles.filter_width = 0.01 if ids else 1.5
    scene.cycles.use_denoising = not ids
    scene.cycles.denoiser = "OPENIMAGEDENOISE"
    # its guides, colour and normals without blur, are clean already: half the time
    scene.cycles.denoising_prefilter = "FAST"


def draw(studio: Studio, job: dict[str, Any], file: Path) -> None:
    scene, camera = job["scene"], bpy.context.scene.camera
    look(job)
    camera.data.lens = scene["camera"]["lens"]
    aim(camera, scene["camera"]["position"], scene["camera"]["target"])
    for i, spec in enumerate(scene["objects"]):
        thing = studio.mesh(spec["shape"])
        thing.scale = (spec["3d_coords"][2],) * 3
        thing.location = spec["3d_coords"]
        thing.rotation_euler = (0.0, 0.0, math.radians(spec.get("rotation", 0.0)))
        of = flat((i + 1) / 255) if job["ids"] else studio.surface(spec["rgb"], spec["material"])
        thing.data.materials.append(of)
    studio.furnish(scene["lights"], job["ids"])
    bpy.context.scene.render.filepath = str(file)
    bpy.ops.render.render(write_still=True)


def tables() -> tuple[Any, ...]:
    return bpy.data.objects, bpy.data.meshes, bpy.data.materials, bpy.data.lights


def clear(kept: set[Any]) -> None:
    """Remove all that the last picture left; what stays in Blender's tables is never given back."""
    for table in tables():
        for item in [i for i in table if i not in kept]:
            table.remove(item)


def main() -> None:
    files = json.loads(sys.argv[1])
    studio = OwnStudio() if files is None else ClevrStudio(files)
    prepare()
    kept = {item for table in tables() for item in table}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "picture.png"
        for line in sys.stdin:
            draw(studio, json.loads(line), file)
            clear(kept)
            data = file.read_bytes()
            file.unlink()
            answers.write(json.dumps({"size": len(data)}).encode() + b"\n" + data)
            answers.flush()


if __name__ == "__main__":
    main()
