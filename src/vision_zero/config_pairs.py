"""Settings of where pictures come from: the branch `pairs` of the tree in `config`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[int, Field(gt=0)]
Probability = Annotated[float, Field(ge=0, le=1)]


class Node(BaseModel):
    """A branch of the tree: unknown keys and endless numbers are refused, values never change after construction."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ClevrPairs(Node):
    """CLEVR-like scenes made on the spot."""

    kind: Literal["clevr"] = "clevr"
    count: Positive = 2000
    width: Positive = 320
    height: Positive = 240
    objects: tuple[Positive, Positive] = (4, 6)
    """Fewest and most objects in a scene."""
    changes: Positive = 2
    """How many objects of the twin differ."""
    attributes: tuple[Literal["shape", "color", "size", "material"], ...] = ("shape", "color")
    """What differs about a changed object."""
    style: Literal["clevr", "nano"] = "clevr"
    """`clevr`: the scale and camera of CLEVR. `nano`: nearer camera and larger objects, legible at 96x64."""
    renderer: Literal["numpy", "blender"] = "numpy"
    """`blender`: Cycles, in an environment of its own that `vision-zero pairs blender install` makes."""
    assets: Path | None = None
    """A clone of CLEVR's generator (clevr-dataset-gen), whose objects, materials and lamps Blender then draws."""

    @model_validator(mode="after")
    def _check(self) -> ClevrPairs:
        if self.assets is not None and self.renderer != "blender":
            raise ValueError("only Blender draws with assets: set renderer=blender or leave assets out")
        if self.renderer == "blender" and self.style != "clevr":
            raise ValueError(f"renderer=blender has no style {self.style!r}: choose style=clevr or renderer=numpy")
        return self


ChartKind = Literal[
    "bar",
    "horizontal_bar",
    "grouped_bar",
    "stacked_bar",
    "line",
    "area",
    "scatter",
    "pie",
    "donut",
    "table",
]


class ChartPairs(Node):
    """Charts made on the spot; in the twin some numbers differ."""

    kind: Literal["charts"]
    count: Positive = 2000
    width: Positive = 480
    height: Positive = 320
    charts: tuple[ChartKind, ...] = get_args(ChartKind)
    """Kinds of charts to draw from; each is drawn only for tables that it suits."""
    tables: Path | None = None
    """A folder of CSV files to draw, such as ChartQA's `tables`; None: tables are made up."""
    changes: Annotated[int, Field(ge=1, le=3)] = 2
    """How many numbers of the twin differ."""
    least_change: Annotated[float, Field(gt=0, le=0.3)] = 0.08
    """Least change of a number, as a share of its axis (of the circle, for pies): smaller is harder."""
    printed: Probability = 0.35
    """Share of charts with their numbers written in: those are easy."""
    fonts: tuple[str, ...] = ("DejaVu Sans", "DejaVu Serif", "DejaVu Sans Mono", "STIX")
    """Fonts that matplotlib ships, or of installed packages such as font-roboto, font-lato."""


class FolderPairs(Node):
    """A folder with `NAME_original.png` and `NAME_modified.png`; names without a twin are single pictures."""

    kind: Literal["folder"]
    path: Path
    skip_bad: bool = False
    """Read everything at the start and leave out, by name, what cannot be used; False: a bad pair ends the run."""


class EndpointEditor(Node):
    """A model that edits pictures, behind an OpenAI-compatible `/v1/images/edits`."""

    kind: Literal["endpoint"] = "endpoint"
    model: str
    base_url: str | None = None
    """None: as the environment variable OPENAI_BASE_URL says. The key is read from OPENAI_API_KEY."""
    response_format: Literal["b64_json"] | None = "b64_json"
    """None for models that refuse the field."""
    timeout: Annotated[float, Field(gt=0)] = 300.0
    """Seconds an attempt."""
    retries: Annotated[int, Field(ge=0)] = 4


class DiffusersEditor(Node):
    """A pipeline of the diffusers library that edits a picture by an instruction."""

    kind: Literal["diffusers"]
    model: str
    """A folder or a Hub id, e.g. that of an InstructPix2Pix or a FLUX Kontext model."""
    device: str = "cuda"
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    steps: Positive = 20


class PhotoPairs(Node):
    """Pairs made from a folder of any pictures: the twin is a photo with one natural, local edit."""

    kind: Literal["photos"]
    path: Path
    edits: tuple[Literal["recolour", "remove", "paste"], ...] = ("recolour", "remove", "paste")
    """Edits that need no model. Empty, without an `editor`: single pictures, for games with a blank spy."""
    editor: Annotated[EndpointEditor | DiffusersEditor, Field(discriminator="kind")] | None = None
    """A model that edits instead."""
    instructions: tuple[str, ...] = (
        "Change the colour of one clearly visible object to a very different colour. Keep everything else exactly.",
        "Remove one clearly visible object and fill its place with the background. Keep everything else exactly.",
        "Replace one clearly visible object by a different object of the same size. Keep everything else exactly.",
    )
    """One is drawn for each edit by the model."""
    per_photo: Positive = 1
    """Most pairs made from one photo, each with another edit."""
    side: Annotated[int, Field(ge=32, le=2048)] = 480
    """Photos are scaled down so that their longer side is at most this many pixels."""
    area: tuple[Probability, Probability] = (0.008, 0.15)
    """Least and most share of the pixels that an edit may change."""
    licence: str = ""
    """That of the photos; kept with every pair."""
    cache: Path | None = None
    """A folder that keeps what was made, so that it is made once. An `editor` needs it: models are slow, and
    do not give the same picture twice."""

    @model_validator(mode="after")
    def _check(self) -> PhotoPairs:
        if self.area[0] >= self.area[1]:
            raise ValueError(f"area={self.area}: the least must be below the most")
        if self.editor is not None and self.cache is None:
            raise ValueError("an editor needs pairs.cache: name a folder to keep its pictures in")
        if self.editor is not None and not self.instructions:
            raise ValueError("an editor needs at least one of pairs.instructions")
        return self


PairsConfig = Annotated[ClevrPairs | ChartPairs | FolderPairs | PhotoPairs, Field(discriminator="kind")]
