"""A vision-language model as the rest of the package sees it: messages in, ids, features and log-probs out."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import Cache

from vision_zero.config import ModelConfig
from vision_zero.errors import UserError
from vision_zero.models import files
from vision_zero.models.family import Family, PictureFeatures
from vision_zero.models.internvl import InternVL
from vision_zero.models.lora import add_adapter
from vision_zero.models.lru import ByteLru
from vision_zero.models.offload import Offload
from vision_zero.models.pictures import PictureReader, concatenate
from vision_zero.models.prompts import PromptEncoder
from vision_zero.models.qwen_vl import QwenVL
from vision_zero.models.smolvlm import SmolVLM
from vision_zero.models.tree_attention import NAME, BranchMask, TreeMask, why_apart
from vision_zero.types import Message, Picture, Prompt

FAMILIES: dict[str, Family] = {t: family for family in (QwenVL(), InternVL(), SmolVLM()) for t in family.model_types}
FEATURE_CACHE_BYTES = 1 << 30


def load(config: ModelConfig, device: torch.device | str | None = None) -> VLM:
    """Load a model, its processor and what the configuration asks of it, ready to play (in eval mode).

    `config.path` is "nano" (ships with the package), a folder, or a Hub id; a folder with a LoRA adapter
    loads its base model too. `device` None: CUDA if there is one. Raises `UserError`.
    """
    adapter = files.adapter_folder(config.path)
    if adapter and config.lora is None:
        raise UserError(f"{config.path} holds a LoRA adapter: set model.lora to the rank and alpha it was trained with")
    path = files.resolve(files.base_of(adapter) if adapter else config.path)
    model_type = files.model_type(path)
    if model_type not in FAMILIES:
        raise UserError(
            f"{config.path}: unknown model type {model_type!r}; known are {', '.join(sorted(FAMILIES))}. "
            "To add a family write one small file like vision_zero/models/internvl.py and register it in FAMILIES"
        )
    model, processor = files.read(path, config)
    vlm = VLM(model, processor, config)
    if adapter:
        vlm.restore(adapter)
    vlm.model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    files.align(vlm.model)
    vlm.model.eval()
    return vlm


class VLM:
    """A loaded model, its processor and its family.

    Shapes: B rows, L tokens, H hidden size, V logits, A position axes (3 for M-RoPE, else 1).
    `model` is the Transformers (or PEFT) module that holds the parameters. What is frozen is decided when
    the VLM is made, not later.
    """

    def __init__(self, model: Any, processor: Any, config: ModelConfig) -> None:
        """Takes the model over: freezes what `config` freezes and adds the adapter that it asks for."""
        self.config, self.processor = config, processor
        self.family = FAMILIES[model.config.model_type]
        if config.attention == "sdpa":
            model.set_attn_implementation({"text_config": NAME})  # its own sdpa wherever there is no tree
        if config.max_pixels is not None:
            self.family.limit_pixels(processor, config.max_pixels)
        if config.train == "language":
            for name in self.family.vision_parts:
                getattr(model.model, name).requires_grad_(False)
        if config.gradient_checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        self.model: Any = add_adapter(model, config, self.family.vision_parts) if config.lora else model
        self.apart = why_apart(config.attention, model.config.get_text_config())
        """Why this model takes no trees, None if it does."""
        self.branches = config.attention == "sdpa"
        """Whether several branches can attend to one row of a cache."""
        self._adapter_off = False
        self._offload: Offload | None = None

        tokenizer = processor.tokenizer
        self.image_token_id: int = model.config.image_token_id
        vocabulary = tokenizer.get_vocab()
        size: int = model.get_output_embeddings().weight.shape[0]
        vision = {vocabulary[t] for t in self.family.vision_tokens if t in vocabulary} | {self.image_token_id}
        self.forbidden_ids = frozenset(vision | (set(range(size)) - set(vocabulary.values())))
        """Never sampled: placeholders of pictures and videos, and ids that no token of the tokenizer has."""
        self.end_ids = _end_ids(model, tokenizer) - self.forbidden_ids
        """Ids that end a turn."""
        if not self.end_ids:
            raise UserError(
                f"{config.path}: no end token in generation_config.json nor in the tokenizer; set eos_token_id"
            )
        self.pad_id: int = min(self.end_ids) if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        self._forbidden = torch.zeros(size, dtype=torch.bool)
        self._forbidden[list(self.forbidden_ids)] = True

        special = {i for i, t in tokenizer.added_tokens_decoder.items() if t.special} | set(tokenizer.all_special_ids)
        guarded = frozenset((special | vision | self.end_ids) - {tokenizer.unk_token_id})
        self.reader = PictureReader(processor, self.image_token_id, self.family.shape_names)
        """The image processor and what it made of pictures; one with that of the `reference`."""
        self._encoder = PromptEncoder(processor, self.image_token_id, guarded)
        self._features = _feature_cache() if self.vision_frozen else None

    # What the model is

    @property
    def network(self) -> Any:
        """The Transformers model, without the PEFT wrapper around it."""
        return self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model

    @property
    def backbone(self) -> Any:
        """The network without its language head."""
        return self.network.model

    @property
    def vision_parts(self) -> list[nn.Module]:
        """The vision tower and its projector."""
        return [getattr(self.backbone, name) for name in self.family.vision_parts]

    @property
    def vision_frozen(self) -> bool:
        """True if nothing between pixels and features is trained: features are then computed once a picture."""
        return not any(p.requires_grad for part in self.vision_parts for p in part.parameters())

    @property
    def context(self) -> int:
        """Most tokens, prompt and completion together, that the model was made for."""
        length: int = self.network.config.get_text_config().max_position_embeddings
        return length

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        device: torch.device = next(self.network.parameters()).device
        return device

    def trainable(self) -> list[tuple[str, nn.Parameter]]:
        """Names and parameters that training changes."""
        return [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Dropout off and no gradients inside; the training mode is put back afterwards."""
        was_training = self.model.training
        # Setting the mode walks every module, which costs a tiny model more than a forward.
        if was_training:
            self.model.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            if was_training:
                self.model.train()

    # Messages and pictures to ids and features

    def encode(self, messages: Sequence[Message]) -> Prompt:
        """The prompt that asks the model to speak next. Equal beginnings of messages give equal beginnings of ids."""
        return self._encoder.encode(messages, self.reader.expansion)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of sampled ids, special tokens dropped."""
        return self._encoder.decode(ids)

    def placeholders(self, picture: Picture) -> int:
        """How many placeholder tokens the picture takes in a prompt."""
        return self.reader.placeholders(picture)

    def expansion(self, picture: Picture) -> tuple[int, ...]:
        """The ids that the picture takes in a prompt: its placeholders and what encloses them."""
        return self.reader.expansion(picture)

    def pixels(self, pictures: Sequence[Picture]) -> dict[str, Tensor]:
        """What the model's own image processor makes of the pictures, joined in order, on the CPU."""
        return concatenate([self.reader.pixels(p) for p in pictures], self.family.picture_axis)

    def image_features(self, pictures: Sequence[Picture]) -> list[PictureFeatures]:
        """Each picture as the language model reads it, `tokens` of shape (placeholders, H).

        If the vision tower is frozen they come from a cache and carry no gradient; each was then computed
        alone, so that its bits do not depend on its neighbours. Otherwise one pass computes each distinct picture.
        """
        if self._features is not None:
            cache = self._features
            return [cache.get(p.sha, partial(self._frozen_features, p)) for p in pictures]
        distinct = list({p.sha: p for p in pictures}.values())
        if not distinct:
            return []
        with self._adapters():
            made = self.family.features(self.backbone, [self._on_device(p) for p in distinct])
        by_hash = {p.sha: f for p, f in zip(distinct, made, strict=True)}
        return [by_hash[p.sha] for p in pictures]

    def positions(self, prompt: Prompt, completion_length: int) -> Tensor:
        """Position ids (A, L) of a prompt and `completion_length` tokens after it, by the model's own rule (CPU).

        Raises `KeyError` for a picture that this model has never read.
        """
        ids = torch.tensor(prompt.ids + (0,) * completion_length)
        picture = (ids == self.image_token_id).long()
        picture[len(prompt.ids) :] = 0
        return self.family.positions(self.backbone, ids, picture, self.reader.shapes(prompt.pictures))

    # Ids and features to log-probs

    def forward_hidden(
        self,
        ids: Tensor,
        attention_mask: Tensor | TreeMask | BranchMask | None,
        position_ids: Tensor,
        pictures: Sequence[Picture],
        cache: Cache | None = None,
    ) -> Tensor:
        """Last hidden states (B, L, H), differentiable.

        `ids` (B, L); `attention_mask` None, (B, keys) nonzero at real tokens, who attends to whom in trees, or what
        branches attend to in a `cache`; `position_ids` (A, B, L); `pictures` in the order of their placeholders, row
        by row. A `cache` is read and extended, in eval mode only. Raises `ValueError` if placeholders and features
        differ in number, or for branches if the model takes none (`branches`), `UserError` for such trees (`apart`).
        """
        if cache is not None and self.model.training:
            raise ValueError("a cache needs eval mode (`evaluating`): gradient checkpointing would drop it in silence")
        features = self.image_features(pictures)
        expected, found = sum(len(f.tokens) for f in features), int((ids == self.image_token_id).sum())
        if expected != found:
            raise ValueError(
                f"{found} picture placeholders in the ids but {expected} picture features from {len(pictures)} pictures"
            )
        with self._adapters():
            hidden: Tensor = self.backbone(
                input_ids=ids,
                **self._mask(attention_mask, ids),
                position_ids=position_ids if self.family.position_axes > 1 else position_ids[0],
                mm_encoder_outputs={"image": self.family.encoder_output(features)} if features else None,
                past_key_values=cache,
                use_cache=cache is not None,
            ).last_hidden_state
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores (..., V) of hidden states (..., H), before temperature and `mask_forbidden`."""
        with self._adapters():
            logits: Tensor = self.network.get_output_embeddings()(hidden)
        return logits

    def mask_forbidden(self, logits: Tensor) -> Tensor:
        """Logits (..., V) with forbidden ids at the lowest finite number, so that softmax gives them exactly 0.

        Sampling and scoring both call this after the temperature and before the softmax: the distribution
        that is trained is the one that was sampled. (Finite, so that p log p is 0 and not NaN.)
        """
        if self._forbidden.device != logits.device:
            self._forbidden = self._forbidden.to(logits.device)
        return logits.masked_fill(self._forbidden, torch.finfo(logits.dtype).min)

    # The frozen start, and files

    def reference(self, offload: bool = False) -> VLM:
        """The model as it is now, frozen; for LoRA the base model (the adapter is off only inside its calls).

        LoRA costs no memory; otherwise it is a copy that shares the vision tower if that is frozen. `offload`: the
        copy rests in the computer's memory and can be called inside `present` only.
        """
        other = copy.copy(self)
        if self._features is None:
            other._features = _feature_cache()
        if isinstance(self.model, PeftModel):
            other._adapter_off = True
            return other
        shared = self.vision_parts if self.vision_frozen else []
        other.model = copy.deepcopy(self.model, {id(part): part for part in shared}).requires_grad_(False).eval()
        if offload:
            other._offload = Offload(other.model, shared)
        return other

    def present(self) -> AbstractContextManager[None]:
        """Inside, the weights are on the device, where they are anyway if the model is not off-loaded."""
        return self._offload.present() if self._offload else nullcontext()

    @property
    def nbytes(self) -> int:
        """About how many bytes `save` writes: those of the adapter, or of all weights."""
        parameters = [p for _, p in self.trainable()] if self.adapted else self.network.parameters()
        return sum(p.nbytes for p in parameters)

    def save(self, folder: Path, merged: bool = False) -> None:
        """Write an ordinary Hugging Face folder: weights, processor, generation settings.

        With LoRA only the adapter is written, unless `merged`: then base and adapter become one plain model.
        """
        if self._adapter_off:
            raise ValueError("this is a view of a model with its adapter off; save the model itself")
        model = copy.deepcopy(self.model).merge_and_unload() if merged and self.adapted else self.model
        with files.quiet():
            model.save_pretrained(folder)
        self.processor.save_pretrained(folder)

    def plain_weights(self) -> Iterator[tuple[str, Tensor]]:
        """Names and weights of the network as if there were no adapters (theirs are left out), where they are."""
        for name, weight in self.network.state_dict().items():
            if ".lora_" not in name:
                yield name.replace(".base_layer.", "."), weight

    def restore(self, folder: Path) -> None:
        """Put back, in place and exactly, the weights that `save` (not merged) wrote. Raises `UserError`."""
        if self.adapted:
            files.restore_adapter(self.model, folder)
        else:
            files.restore_weights(self.model, folder, self.config)
        if self._features is not None:
            self._features.clear()

    @property
    def adapted(self) -> bool:
        """True if LoRA adapters are trained instead of the weights."""
        return isinstance(self.model, PeftModel)

    # Inside

    def _adapters(self) -> AbstractContextManager[Any]:
        return self.model.disable_adapter() if self._adapter_off else nullcontext()

    def _on_device(self, picture: Picture) -> dict[str, Tensor]:
        return {k: v.to(self.device) for k, v in self.reader.pixels(picture).items()}

    def _frozen_features(self, picture: Picture) -> PictureFeatures:
        with self.evaluating(), self._adapters():
            [features] = self.family.features(self.backbone, [self._on_device(picture)])
        return features

    def _mask(self, mask: Tensor | TreeMask | BranchMask | None, ids: Tensor) -> dict[str, Any]:
        if mask is None:
            # Explicit: without a mask some models guess sequence borders from position ids.
            return {"attention_mask": torch.ones_like(ids)}
        if isinstance(mask, Tensor):
            return {"attention_mask": mask}
        text = self.network.config.get_text_config()
        groups = text.num_attention_heads // text.num_key_value_heads
        # Transformers makes no mask of its own if it is given one of four axes.
        if isinstance(mask, BranchMask):
            if not self.branches:
                raise ValueError(f"model.attention={self.config.attention} takes no branches")
            return {"attention_mask": mask.scores(groups, self.network.dtype), "branches": mask}
        if self.apart:
            raise UserError(f"{self.apart}: set update.pack=none")
        if self.config.attention == "sdpa":
            return {"attention_mask": mask.scores(groups, self.network.dtype), "tree": mask}
        # Eager attention adds its mask to the scores: a bool mask would be silently wrong.
        dtype, pairs = self.network.dtype, mask.dense(ids.numel())
        scores = torch.zeros(pairs.shape, dtype=dtype, device=pairs.device)
        return {"attention_mask": scores.masked_fill(~pairs, torch.finfo(dtype).min)[None, None]}


def _feature_cache() -> ByteLru[PictureFeatures]:
    return ByteLru(FEATURE_CACHE_BYTES, lambda f: f.nbytes)


def _end_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    listed = model.generation_config.eos_token_id
    ids = listed if isinstance(listed, list) else [listed]
    if any(i is not None and (type(i) is not int or i < 0) for i in ids):
        raise UserError(f"eos_token_id in generation_config.json is {listed!r}, not the ids of end tokens: restore it")
    return frozenset({*ids, tokenizer.eos_token_id} - {None})
