"""Blender as a renderer: what a user meets without it, and, where it is installed, a real pair."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from vision_zero.cli import app
from vision_zero.config import ClevrPairs, load_config
from vision_zero.errors import UserError
from vision_zero.pairs import open_pairs
from vision_zero.pairs.clevr.blender import environment
from vision_zero.pairs.clevr.blender.assets import FILES, find_assets
from vision_zero.pairs.clevr.blender.client import Blender, blender
from vision_zero.pairs.clevr.raycast import object_ids, render
from vision_zero.pairs.folder import read_folder
from vision_zero.types import ImagePair

RUN = CliRunner()
WIDTH, HEIGHT = 320, 240
CLONE = "VISION_ZERO_CLEVR_GENERATOR"
"""Environment variable that names a clone of CLEVR's generator, for the test with its objects."""


@pytest.fixture
def without_bpy(tmp_path: Path) -> Path:
    """An environment that is begun: a Python, but no Blender."""
    folder = tmp_path / "venv"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    return folder


def test_without_the_environment_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(environment.VARIABLE, str(tmp_path / "nowhere"))
    make = ["pairs", "make", "clevr", "--renderer", "blender", "--out", str(tmp_path / "out")]
    for command in (make, ["pairs", "blender", "check"]):
        done = RUN.invoke(app, command)
        assert done.exit_code == 2
        assert "vision-zero pairs blender install" in done.output
    assert not (tmp_path / "out").exists()


def test_its_pictures_are_made_as_files_only() -> None:
    with pytest.raises(UserError, match="pairs make clevr --renderer blender"):
        open_pairs(ClevrPairs(renderer="blender"), 0, "train")
    with pytest.raises(UserError, match="has no style 'nano'"):
        load_config(None, ["pairs.kind=clevr", "pairs.renderer=blender", "pairs.style=nano"])


def test_an_environment_that_does_not_work_says_why(without_bpy: Path) -> None:
    with pytest.raises(UserError, match=r"does not start .*No module named 'bpy'"):
        environment.check(without_bpy)
    program = Blender(without_bpy)
    scene = open_pairs(ClevrPairs(count=1), 0, "train")[0].original.facts
    assert scene is not None
    with pytest.raises(UserError, match=r"exit status 1: .*No module named 'bpy'"):
        program.render(scene, 32, 24)
    program.close()


def test_missing_libraries_are_named_with_their_packages(without_bpy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = without_bpy / "lib" / "python3.11" / "site-packages" / "bpy" / "__init__.so"
    module.parent.mkdir(parents=True)
    module.touch()
    loader = without_bpy / "bin" / "ldd"
    loader.write_text("#!/bin/sh\nprintf '\\tlibSM.so.6 => not found\\n\\tlibc.so.6 => /lib/libc.so.6 (0x1)\\n'")
    loader.chmod(0o755)
    monkeypatch.setenv("PATH", f"{loader.parent}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(UserError, match=r"lacks: libSM\.so\.6\. .*apt-get install libsm6$"):
        environment.check(without_bpy)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="choose another --venv"):
        environment.install(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["letter.txt"]


def test_a_clone_of_clevrs_generator_is_looked_through_before_anything_starts(tmp_path: Path) -> None:
    data = tmp_path / "clone" / "image_generation" / "data"
    with pytest.raises(UserError, match=r"holds no base_scene\.blend: .*clevr-dataset-gen"):
        find_assets(tmp_path / "clone")
    for name in FILES.values():
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).touch()
    assert find_assets(tmp_path / "clone") == find_assets(data) == {k: str(data / v) for k, v in FILES.items()}
    (data / FILES["metal"]).unlink()
    with pytest.raises(UserError, match=r"lacks materials/MyMetal\.blend"):
        find_assets(tmp_path / "clone")
    with pytest.raises(UserError, match="only Blender draws with assets"):
        load_config(None, ["pairs.kind=clevr", f"pairs.assets={data}"])


@pytest.mark.slow
@pytest.mark.skipif(
    not (environment.folder() / "bin" / "python").exists(),
    reason="Blender is not installed: vision-zero pairs blender install",
)
@pytest.mark.parametrize("assets", [False, True], ids=["own objects", "objects of CLEVR"])
def test_a_pair_by_blender_shows_what_the_ray_caster_shows(assets: bool, tmp_path: Path) -> None:
    clone = Path(os.environ[CLONE]) if CLONE in os.environ else None
    if assets and clone is None:
        pytest.skip(f"{CLONE} does not name a clone of facebookresearch/clevr-dataset-gen")
    command = ["pairs", "make", "clevr", "--renderer", "blender", "--count", "1", "--seed", "3", "--out", str(tmp_path)]
    done = RUN.invoke(app, [*command, *(["--assets", str(clone)] if assets else [])])
    assert done.exit_code == 0, done.output
    (pair,) = read_folder(tmp_path / "output" / "replacement_images")
    assert isinstance(pair, ImagePair)
    assert pair.licence == ("BSD-3-Clause" if assets else "CC0-1.0")
    same = open_pairs(ClevrPairs(count=1), 3, "train")[0]
    assert pair.changes == same.changes, "scenes do not depend on what draws them"
    assert pair.original.data != same.original.data
    for which, picture in (("original", pair.original), ("modified", pair.modified)):
        assert picture is not None
        assert picture.facts is not None
        ids = object_ids(picture.facts, WIDTH, HEIGHT)
        theirs = blender(clone if assets else None).object_ids(picture.facts, WIDTH, HEIGHT)
        for i, obj in enumerate(picture.facts["objects"]):
            overlap = ((ids == i) & (theirs == i)).sum() / ((ids == i) | (theirs == i)).sum()
            # CLEVR's own cubes are much rounder than those of the ray caster
            assert overlap >= (0.88 if assets and obj["shape"] == "cube" else 0.95), obj
        file = tmp_path / "output" / "replacement_images" / f"CLEVR_REPLACEMENT_replacement_000000_{which}.png"
        drawn = np.asarray(Image.open(file).convert("RGB")).astype(float)
        cast = render(picture.facts, WIDTH, HEIGHT).astype(float)
        assert np.corrcoef(drawn.ravel(), cast.ravel())[0, 1] > 0.5
    if not assets:
        # a second run has nothing left to do
        assert RUN.invoke(app, command).exit_code == 0
