"""Asks Blender, which runs as a program in an environment of its own, for pictures of scenes."""

from __future__ import annotations

import io
import json
import subprocess
import tempfile
import weakref
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vision_zero.errors import UserError
from vision_zero.pairs.clevr.blender import environment
from vision_zero.pairs.clevr.blender.assets import find_assets
from vision_zero.pairs.clevr.geometry import Ids
from vision_zero.pairs.clevr.styles import STYLES

SAMPLES = 16
"""Rays a pixel. With the denoiser, more are hardly seen: 0.7 of 255 from a picture of 512."""
WATTS = {"key": 78.54, "fill": 23.56, "back": 39.27}
"""What CLEVR's lamps give (base_scene.blend of clevr-dataset-gen)."""
_PROGRAM = Path(__file__).with_name("render.py")


@cache
def blender(assets: Path | None) -> Blender:
    """This process's Blender, started at the first call, with objects of our own or a clone of CLEVR's generator.

    Raises `UserError` if it is not installed, or the clone is not whole.
    """
    return Blender(environment.folder(), assets)


class Blender:
    """A running Blender.

    For the same scene and seed pictures are the same but for the last bit of a few pixels, which its denoiser gives
    this way or that. It uses one core: several processes have one each. It ends when this object is let go, or its
    process dies.
    """

    def __init__(self, folder: Path, assets: Path | None = None) -> None:
        files = assets and find_assets(assets)
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the program runs
        self._process = subprocess.Popen(
            # neither the environment's variables nor the user's packages are to reach another numpy
            [environment.interpreter(folder), "-I", _PROGRAM, json.dumps(files)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        self._end = weakref.finalize(self, _end, self._process, self._log)

    def render(self, scene: Mapping[str, Any], width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
        """The picture of a scene of the style `clevr`: uint8 (height, width, 3). `seed` is that of the noise.

        Raises `UserError`, with Blender's own last words, if it fails.
        """
        return self._ask(scene, width, height, seed, ids=False)

    def object_ids(self, scene: Mapping[str, Any], width: int, height: int) -> Ids:
        """Which object is seen at the centre of each pixel: int8 (height, width), -1 for none."""
        levels = self._ask(scene, width, height, 0, ids=True)[:, :, 0]
        return (levels.astype(np.int16) - 1).astype(np.int8)

    def close(self) -> None:
        """End the program."""
        self._end()

    def _ask(self, scene: Mapping[str, Any], width: int, height: int, seed: int, ids: bool) -> NDArray[np.uint8]:
        job = {"scene": _lit(scene), "width": width, "height": height, "samples": SAMPLES, "seed": seed, "ids": ids}
        to, back = self._process.stdin, self._process.stdout
        assert to is not None
        assert back is not None
        try:
            to.write(json.dumps(job).encode() + b"\n")
            to.flush()
        except BrokenPipeError as e:
            raise self._ended() from e
        head = back.readline()
        if not head.endswith(b"\n"):
            raise self._ended()
        answer = json.loads(head)
        data = back.read(answer["size"])
        if len(data) < answer["size"]:
            raise self._ended()
        return np.array(Image.open(io.BytesIO(data)).convert("RGB"))

    def _ended(self) -> UserError:
        status = self._process.wait()
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        said = " / ".join(lines[-3:]) or "it said nothing"
        return UserError(f"Blender ended with exit status {status}: {said} (see vision-zero pairs blender check)")


def _lit(scene: Mapping[str, Any]) -> dict[str, Any]:
    """A scene with all that the program must know of it: colours and lights in Blender's units."""
    palette = STYLES[scene["style"]].palette
    lights = {name: {**light, "watts": WATTS[name]} for name, light in scene["lights"].items()}
    objects = [{**obj, "rgb": palette[obj["color"]]} for obj in scene["objects"]]
    return {"camera": scene["camera"], "lights": lights, "objects": objects}


def _end(process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
    # the end of its input ends it; it may also be dead already, or busy with a picture that nobody wants
    try:
        process.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
    log.close()
