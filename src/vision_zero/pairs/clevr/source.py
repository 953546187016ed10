"""CLEVR-like pairs, made when they are asked for."""

from __future__ import annotations

import hashlib
from random import Random

from vision_zero.config import ClevrPairs
from vision_zero.errors import UserError
from vision_zero.pairs.base import Split
from vision_zero.pairs.clevr.blender import assets, environment
from vision_zero.pairs.clevr.blender.client import blender
from vision_zero.pairs.clevr.raycast import render
from vision_zero.pairs.clevr.scenes import SceneRules, make_pair
from vision_zero.pairs.made import MadeSource, png_picture
from vision_zero.seeds import derive_seed
from vision_zero.types import JSON, ImagePair, Picture

VERSION = 1
"""Raised whenever the same seed would give other bytes."""


class ClevrSource(MadeSource):
    """A set of CLEVR-like pairs. `Picture.facts` is the scene.

    Scenes are the same for every renderer. Raises `UserError` for settings that contradict each other, and without
    the environment of the renderer that they ask for.
    """

    config: ClevrPairs

    def __init__(self, config: ClevrPairs, seed: int, split: Split) -> None:
        fewest, most = config.objects
        if fewest > most:
            raise UserError(f"pairs.objects={fewest},{most}: the fewest objects must not exceed the most")
        if config.changes > fewest:
            raise UserError(f"pairs.changes={config.changes} but a scene may have only {fewest} objects: lower it")
        if not config.attributes:
            raise UserError("pairs.attributes is empty: name at least one of shape, color, size, material")
        if config.renderer == "blender":
            environment.interpreter(environment.folder())
        if config.assets is not None:
            assets.find_assets(config.assets)
        super().__init__(config, seed, split)
        self._rules = SceneRules.of(config)

    @property
    def fingerprint(self) -> str:
        config = self.config
        drawn_by = f"/blender-{environment.VERSION}/{config.assets}" if config.renderer == "blender" else ""
        # what is drawn does not depend on there being a choice of who draws it
        settings = config.model_dump_json(exclude={"renderer", "assets"})
        text = f"clevr/{VERSION}{drawn_by}/{settings}/{self.seed}/{self.split}"
        return hashlib.sha256(text.encode()).hexdigest()

    def _make(self, index: int) -> ImagePair:
        rng = Random(derive_seed(self.seed, "clevr", self.split, index))
        scene, twin, changes = make_pair(rng, self._rules, self.config.changes, self.config.attributes)
        name = f"clevr-{self.split}-{self.seed}-{index:06d}"
        for facts, which in ((scene, "original"), (twin, "modified")):
            facts.update(split=self.split, image_index=index, image_filename=f"{name}_{which}.png")
        own = self.config.assets is None
        origin = ("clevr", "CC0-1.0") if own else (assets.SOURCE, assets.LICENCE)
        return ImagePair(name, self._picture(scene), self._picture(twin), changes, *origin)

    def _picture(self, scene: JSON) -> Picture:
        draw = blender(self.config.assets).render if self.config.renderer == "blender" else render
        return png_picture(draw(scene, self._rules.width, self._rules.height), scene)
