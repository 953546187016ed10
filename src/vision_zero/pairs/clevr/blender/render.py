"""Draws scenes with Blender's Cycles. Runs as a program in Blender's own environment; nothing imports it.

Reads a job a line from standard input, `{"scene", "width", "height", "samples", "seed", "ids"}`, and answers each on
standard output with a line `{"size": n}` and n bytes of a PNG file. Ends when its input ends, or with a traceback.
Everything that Blender prints goes to standard error.

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


def prepare() -> None:
    """An empty world and the settings that all pictures share."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.render.threads_mode = "FIXED"
    scene.render.threads = 1
    scene.render.image_settings.file_format = "PNG"
    scene.render.image_settings.color_mode = "RGB"
    scene.render.dither_intensity = 0.0
    scene.cycles.device = "CPU"
    scene.cycles.use_adaptive_sampling = False
    scene.cycles.blur_glossy = 2.0
    scene.cycles.caustics_reflective = scene.cycles.caustics_refractive = False
    scene.world = bpy.data.worlds.new("world")
    scene.world.use_nodes = True
    scene.camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    scene.camera.data.sensor_fit = "HORIZONTAL"
    scene.camera.data.sensor_width = SENSOR
    scene.collection.objects.link(scene.camera)


def clear() -> None:
    """Remove all that the last picture left; what stays in Blender's tables is never given back."""
    camera = bpy.context.scene.camera
    for thing in [o for o in bpy.data.objects if o != camera]:
        bpy.data.objects.remove(thing)
    for table in (bpy.data.meshes, bpy.data.materials, bpy.data.lights):
        for item in list(table):
            table.remove(item)


def place(name: str, data: object) -> bpy.types.Object:
    thing = bpy.data.objects.new(name, data)
    bpy.context.scene.collection.objects.link(thing)
    return thing


def aim(thing: bpy.types.Object, position: Sequence[float], target: Sequence[float]) -> None:
    """Stand at a position and look at a target, upright."""
    thing.location = position
    thing.rotation_euler = (Vector(target) - Vector(position)).to_track_quat("-Z", "Y").to_euler()


def add_object(spec: dict[str, Any], material: bpy.types.Material) -> None:
    radius = spec["3d_coords"][2]
    if spec["shape"] == "cube":
        bpy.ops.mesh.primitive_cube_add(size=2.0)
    elif spec["shape"] == "cylinder":
        bpy.ops.mesh.primitive_cylinder_add(vertices=96, radius=1.0, depth=2.0)
    else:
        bpy.ops.mesh.primitive_uv_sphere_add(segments=96, ring_count=48, radius=1.0)
    thing = bpy.context.object
    thing.data.shade_smooth()
    if spec["shape"] in BEVEL:
        bevel = thing.modifiers.new("bevel", "BEVEL")
        bevel.width, bevel.segments, bevel.limit_method = BEVEL[spec["shape"]], 6, "ANGLE"
        # flat faces stay flat to the light
        bevel.harden_normals = True
    thing.scale = (radius,) * 3
    thing.location = spec["3d_coords"]
    thing.rotation_euler = (0.0, 0.0, math.radians(spec.get("rotation", 0.0)))
    thing.data.materials.append(material)


def surface(color: list[float], kind: str) -> bpy.types.Material:
    """Rubber, dull with a faint sheen, or metal, which mirrors; both of a linear colour."""
    material = bpy.data.materials.new(kind)
    material.use_nodes = True
    shader = material.node_tree.nodes["Principled BSDF"].inputs
    shader["Base Color"].default_value = (*color, 1.0)
    shader["Metallic"].default_value = float(kind == "metal")
    shader["Roughness"].default_value = {"metal": 0.2, "rubber": 0.6}.get(kind, 1.0)
    shader["Specular IOR Level"].default_value = 0.0 if kind == "ground" else 0.5
    return material


def flat(level: float) -> bpy.types.Material:
    """A surface that looks equally bright from everywhere."""
    material = bpy.data.materials.new("flat")
    material.use_nodes = True
    nodes = material.node_tree.nodes
    emission = nodes.new("ShaderNodeEmission")
    emission.inputs["Color"].default_value = (level, level, level, 1.0)
    material.node_tree.links.new(emission.outputs[0], nodes["Material Output"].inputs["Surface"])
    return material


def add_lights(lights: dict[str, Any]) -> None:
    for name, spec in lights.items():
        light = bpy.data.lights.new(name, "AREA")
        light.energy, light.color, light.use_shadow = spec["watts"], spec["color"], spec["shadow"]
        light.size = LIGHT_SIZE.get(name, 0.5)
        aim(place(name, light), spec["position"], [0.0, 0.0, 0.0])
    sun = bpy.data.lights.new("sun", "SUN")
    sun.energy = SUN_POWER
    aim(place("sun", sun), SUN_TOWARD, [0.0, 0.0, 0.0])


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
    level = 0.0 if ids else WORLD
    scene.world.node_tree.nodes["Background"].inputs["Color"].default_value = (level, level, level, 1.0)


def draw(job: dict[str, Any], file: Path) -> None:
    scene = job["scene"]
    clear()
    look(job)
    camera = bpy.context.scene.camera
    camera.data.lens = scene["camera"]["lens"]
    aim(camera, scene["camera"]["position"], scene["camera"]["target"])
    for i, spec in enumerate(scene["objects"]):
        add_object(spec, flat((i + 1) / 255) if job["ids"] else surface(spec["rgb"], spec["material"]))
    if not job["ids"]:
        bpy.ops.mesh.primitive_plane_add(size=200.0)
        bpy.context.object.data.materials.append(surface([GROUND] * 3, "ground"))
        add_lights(scene["lights"])
    bpy.context.scene.render.filepath = str(file)
    bpy.ops.render.render(write_still=True)


def main() -> None:
    prepare()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "picture.png"
        for line in sys.stdin:
            draw(json.loads(line), file)
            data = file.read_bytes()
            file.unlink()
            answers.write(json.dumps({"size": len(data)}).encode() + b"\n" + data)
            answers.flush()


if __name__ == "__main__":
    main()
