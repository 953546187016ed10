"""What a model weighs, from its configuration alone: built on torch's meta device, which holds no data."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from vision_zero.config import ModelConfig
from vision_zero.errors import UserError
from vision_zero.models import files as on_disk
from vision_zero.models.base import FAMILIES
from vision_zero.models.family import Family
from vision_zero.models.lora import add_adapter

PROBE = 64
"""Tokens of the passes that count what the backward needs."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a model as a recipe would train it. Bytes unless said otherwise.

    `rounded` and `exact` count trained weights below float32 (they get a float32 master) and in float32.
    `saved`: what the backward keeps for one token over all decoder layers, without checkpointing and beside
    attention masks. Tokens of a picture include what encloses it in a prompt.
    """

    source: str
    family: Family
    config: Any
    processor: Any
    """The whole processor if it is at hand, else None."""
    image_processor: Any
    parameters: int
    vision_parameters: int
    weights: int
    vision_weights: int
    rounded: int
    exact: int
    adapter: bool
    vision_trained: bool
    saved: int
    itemsize: int

    @property
    def text(self) -> Any:
        """Configuration of the language model."""
        return self.config.get_text_config()

    @property
    def trained(self) -> int:
        """How many weights are trained."""
        return self.rounded + self.exact

    @property
    def kv(self) -> int:
        """Keys and values of one token."""
        text = self.text
        head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        return int(2 * text.num_hidden_layers * text.num_key_value_heads * head * self.itemsize)

    def picture_tokens(self, height: int, width: int) -> int:
        """Placeholders that a picture takes in a prompt, without reading it."""
        return self.family.picture_tokens(self.image_processor, self.config, height, width)


def shape_of(model: ModelConfig) -> Shape:
    """The shape of the model that a recipe names.

    Its configuration is read from its folder or the Hub; if the Hub cannot be reached, from the table of
    published shapes in this package. Raises `UserError` if neither knows it.
    """
    shape = _shape(model.model_dump_json(exclude={"gradient_checkpointing", "max_pixels"}))
    if model.max_pixels is None:
        return shape
    holder = copy.deepcopy(shape.processor or _Holder(shape.image_processor))
    shape.family.limit_pixels(holder, model.max_pixels)
    return replace(shape, processor=holder if shape.processor else None, image_processor=holder.image_processor)


@lru_cache(maxsize=16)
def _shape(settings: str) -> Shape:
    model = ModelConfig.model_validate_json(settings)
    adapter = on_disk.adapter_folder(model.path)
    path = on_disk.base_of(adapter) if adapter else on_disk.resolve(model.path)
    if Path(path).is_dir():
        on_disk.model_type(path)  # refuses, with the remedy, what would need code from the checkpoint
    source, config, processor, image_processor = _read(path)
    if config.model_type not in FAMILIES:
        raise UserError(f"{model.path}: unknown model type {config.model_type!r}; known: {', '.join(sorted(FAMILIES))}")
    family = FAMILIES[config.model_type]
    builder: Any = AutoModelForImageTextToText
    with torch.device("meta"):
        # sdpa: what a mask costs is added apart, and other kernels keep no more than it does.
        network = builder.from_config(config, dtype=getattr(torch, model.dtype), attn_implementation="sdpa")
    network.train()
    saved = _saved(network)
    if model.train == "language":
        for name in family.vision_parts:
            getattr(network.model, name).requires_grad_(False)
    vision = [p for name in family.vision_parts for p in getattr(network.model, name).parameters()]
    counted = list(network.parameters())
    whole = add_adapter(network, model, family.vision_parts) if model.lora else network
    everything = list(whole.parameters())
    trained = [p for p in everything if p.requires_grad]
    inside = {id(p) for p in vision} | {
        id(p) for n, p in whole.named_parameters() if any(f".{part}." in n for part in family.vision_parts)
    }
    return Shape(
        source=source,
        family=family,
        config=config,
        processor=processor,
        image_processor=image_processor,
        parameters=sum(p.numel() for p in counted),
        vision_parameters=sum(p.numel() for p in vision),
        weights=_bytes(everything),
        vision_weights=_bytes(vision),
        rounded=sum(p.numel() for p in trained if p.dtype != torch.float32),
        exact=sum(p.numel() for p in trained if p.dtype == torch.float32),
        adapter=model.lora is not None,
        vision_trained=any(id(p) in inside for p in trained),
        saved=saved,
        itemsize=counted[0].element_size(),
    )


@dataclass
class _Holder:
    """What `limit_pixels` expects of a processor."""

    image_processor: Any


def published() -> Mapping[str, Any]:
    """The table of published shapes: `source`, and `models` by Hub id."""
    table: Mapping[str, Any] = json.loads(files(__package__).joinpath("published.json").read_text(encoding="utf-8"))
    return table


def _read(path: str) -> tuple[str, Any, Any, Any]:
    """Where the configuration is from, the configuration, the processor or None, the image processor."""
    local, reason = _from_files(path, local=True)
    if local:
        return ("its folder" if Path(path).is_dir() else "the local cache"), *local
    table = published()
    if path in table["models"]:
        # before the Hub, whose retries take half a minute without a network
        entry = dict(table["models"][path])
        settings = dict(entry.pop("image_processor"))
        image_processor = getattr(transformers, settings.pop("image_processor_type"))(**settings)
        return f"built-in table ({table['source']})", AutoConfig.for_model(**entry), None, image_processor
    remote, reason = (None, reason) if Path(path).is_dir() else _from_files(path, local=False)
    if remote:
        return "the Hub", *remote
    raise UserError(
        f"cannot read the configuration of {path!r} ({reason}): give the folder of a model, download its config.json "
        f"and processor files, or plan with one of the built-in shapes: {', '.join(table['models'])}"
    )


def _from_files(path: str, local: bool) -> tuple[tuple[Any, Any, Any] | None, str]:
    """Configuration, processor and image processor, or None and why not."""
    reader: Any = AutoProcessor
    try:
        config = AutoConfig.from_pretrained(path, local_files_only=local, trust_remote_code=False)
        processor = reader.from_pretrained(path, local_files_only=local, trust_remote_code=False)
    except (OSError, ValueError, ImportError) as e:
        return None, (str(e).strip().splitlines() or [type(e).__name__])[0]
    return (config, processor, processor.image_processor), ""


def _saved(network: Any) -> int:
    """Bytes that the backward keeps for one token of the decoder. Two lengths tell the part that grows with the
    square of the length, which depends on the attention kernel, from the rest."""
    short, long = (_saved_at(network, length) / length for length in (PROBE, 2 * PROBE))
    return round(2 * short - long)


def _saved_at(network: Any, length: int) -> int:
    """All layers keep the same, so that two of them tell what the others do."""
    decoder = network.model.get_decoder()
    layers = decoder.layers
    try:
        decoder.layers = layers[:1]
        one = _kept(network, decoder, length)
        decoder.layers = layers[:2]
        two = _kept(network, decoder, length)
    finally:
        decoder.layers = layers
    return one + (len(layers) - 1) * (two - one)


def _kept(network: Any, decoder: Any, length: int) -> int:
    own = {p.untyped_storage()._cdata for p in network.parameters()}
    kept: dict[int, Any] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage  # held, so that no other storage gets its address
        return tensor

    hidden: int = decoder.config.hidden_size
    unpack: Callable[[Tensor], Tensor] = lambda t: t  # noqa: E731
    with torch.autograd.graph.saved_tensors_hooks(keep, unpack):
        decoder(
            inputs_embeds=torch.zeros(1, length, hidden, dtype=network.dtype, device="meta", requires_grad=True),
            attention_mask=torch.ones(1, 1, length, length, dtype=torch.bool, device="meta"),
            position_ids=torch.zeros(1, length, dtype=torch.long, device="meta"),
            use_cache=False,
        )
    return sum(s.nbytes() for address, s in kept.items() if address not in own)


def _bytes(parameters: list[Any]) -> int:
    return sum(p.numel() * p.element_size() for p in parameters)
