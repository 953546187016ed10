"""The files of CLEVR's own generator (clevr-dataset-gen), which Blender can draw with: from the user's copy of it."""

from __future__ import annotations

from pathlib import Path

from vision_zero.errors import UserError

FILES = {
    "base_scene": "base_scene.blend",
    "cube": "shapes/SmoothCube_v2.blend",
    "sphere": "shapes/Sphere.blend",
    "cylinder": "shapes/SmoothCylinder.blend",
    "rubber": "materials/Rubber.blend",
    "metal": "materials/MyMetal.blend",
}
"""What a file holds -> its place in the generator's folder of data."""
SOURCE, LICENCE = "clevr, objects of clevr-dataset-gen", "BSD-3-Clause"
"""What pictures that show them say of themselves."""


def find_assets(folder: Path) -> dict[str, str]:
    """The files in a clone of the generator, or in its folder `image_generation/data`, by what they hold.

    Raises `UserError` naming a file that is not there.
    """
    for data in (folder / "image_generation" / "data", folder / "data", folder):
        missing = [name for name in FILES.values() if not (data / name).is_file()]
        if len(missing) == len(FILES):
            continue
        if missing:
            raise UserError(f"{data} lacks {', '.join(missing)} of CLEVR's generator: fetch it whole")
        return {what: str((data / name).resolve()) for what, name in FILES.items()}
    raise UserError(
        f"{folder} holds no {FILES['base_scene']}: pairs.assets must be a clone of facebookresearch/clevr-dataset-gen"
    )
