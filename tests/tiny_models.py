"""Tiny random models of real families with their real processors, made on the spot: nothing is downloaded.

`build(family, folder)` writes an ordinary Hugging Face folder in about a second. Model vocabularies are a
little larger than the tokenizers', as in the released models.
"""

from __future__ import annotations

import io
import random
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from vision_zero.config import ModelConfig
from vision_zero.models.base import VLM, load
from vision_zero.types import Picture

FAMILIES = ("qwen2_5_vl", "qwen3_vl", "internvl", "smolvlm")
HOLES = 5
"""Rows of the embedding that no token uses."""

CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}PICTURE{% elif c['type'] == 'text' %}{{ c['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
SMOL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<fake_token_around_image>",
    "<global-img>",
    "<image>",
    "<end_of_utterance>",
    *(f"<row_{r}_col_{c}>" for r in range(1, 7) for c in range(1, 7)),
)
INTERN_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>", "<video>")


def build(family: str, folder: Path, seed: int = 0) -> Path:
    """Write a random model of the family (2-4M parameters) and its processor; returns the folder."""
    torch.manual_seed(seed)
    model, processor = {"qwen2_5_vl": _qwen2_5, "qwen3_vl": _qwen3, "internvl": _internvl, "smolvlm": _smolvlm}[
        family
    ]()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def picture(seed: int, width: int = 168, height: int = 112) -> Picture:
    """A PNG of coloured noise blocks: different seeds look different."""
    rng = random.Random(seed)
    image = Image.new("RGB", (width, height))
    for x in range(0, width, 14):
        for y in range(0, height, 14):
            image.paste((rng.randrange(256), rng.randrange(256), rng.randrange(256)), (x, y, x + 14, y + 14))
    data = io.BytesIO()
    image.save(data, "PNG")
    return Picture(data.getvalue())


def _tokenizer(special: Sequence[str], extra: dict[str, str] | None = None) -> Any:
    rng = random.Random(0)
    words = ["red", "green", "blue", "small", "large", "cube", "sphere", "cylinder", "spy", "player", "vote", "clue"]
    words += ["picture", "system", "user", "assistant"]
    lines = [" ".join(rng.choices(words, k=12)) + f" {rng.randrange(99)}.\n" for _ in range(800)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        lines,
        trainers.BpeTrainer(
            vocab_size=480,
            special_tokens=list(special),
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        padding_side="left",
        extra_special_tokens=extra or {},
        model_max_length=8192,
    )


def _text(tokenizer: Any, hidden: int, **more: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer) + HOLES,
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 8192,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        # A random model with the usual initial scale hardly looks at its input: make differences visible.
        "initializer_range": 0.08,
        **more,
    }


def _generation(model: Any, tokenizer: Any) -> Any:
    model.generation_config.update(
        eos_token_id=[tokenizer.eos_token_id, tokenizer.pad_token_id], pad_token_id=tokenizer.pad_token_id
    )
    return model


def _qwen_ids(tokenizer: Any) -> dict[str, int]:
    names = {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>"}
    names |= {"vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"}
    return {k: tokenizer.convert_tokens_to_ids(v) for k, v in names.items()}


def _qwen2_5() -> tuple[Any, Any]:
    tokenizer = _tokenizer(QWEN_TOKENS)
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [8, 8, 8]}
    config = hf.Qwen2_5_VLConfig(
        text_config=_text(tokenizer, 192, rope_parameters=rope),
        vision_config={
            "depth": 2,
            "hidden_size": 96,
            "intermediate_size": 192,
            "num_heads": 4,
            "out_hidden_size": 192,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 112,
            "fullatt_block_indexes": [1],
        },
        tie_word_embeddings=True,
        **_qwen_ids(tokenizer),
    )
    model = _generation(hf.Qwen2_5_VLForConditionalGeneration(config), tokenizer)
    size = {"shortest_edge": 28 * 28, "longest_edge": 320 * 240}
    processor = hf.Qwen2_5_VLProcessor(
        image_processor=hf.Qwen2VLImageProcessor(size=size),
        tokenizer=tokenizer,
        video_processor=hf.Qwen2VLVideoProcessor(size=size),
        chat_template=CHAT.replace("PICTURE", "<|vision_start|><|image_pad|><|vision_end|>"),
    )
    return model, processor


def _qwen3() -> tuple[Any, Any]:
    tokenizer = _tokenizer(QWEN_TOKENS)
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [8, 8, 8], "mrope_interleaved": True}
    config = hf.Qwen3VLConfig(
        text_config=_text(tokenizer, 192, head_dim=48, rope_parameters=rope),
        vision_config={
            "depth": 3,
            "hidden_size": 96,
            "intermediate_size": 192,
            "num_heads": 4,
            "out_hidden_size": 192,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "num_position_embeddings": 256,
            "deepstack_visual_indexes": [0, 1],
        },
        tie_word_embeddings=True,
        **_qwen_ids(tokenizer),
    )
    model = _generation(hf.Qwen3VLForConditionalGeneration(config), tokenizer)
    size = {"shortest_edge": 32 * 32, "longest_edge": 320 * 256}
    processor = hf.Qwen3VLProcessor(
        image_processor=hf.Qwen2VLImageProcessor(size=size, patch_size=16),
        tokenizer=tokenizer,
        video_processor=hf.Qwen3VLVideoProcessor(size=size),
        chat_template=CHAT.replace("PICTURE", "<|vision_start|><|image_pad|><|vision_end|>"),
    )
    return model, processor


def _internvl(image: int = 56) -> tuple[Any, Any]:
    tokenizer = _tokenizer(
        INTERN_TOKENS,
        {
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
    )
    tokens = (image // 14) ** 2 // 4
    config = hf.InternVLConfig(
        text_config=_text(tokenizer, 192, model_type="qwen2"),
        vision_config={
            "hidden_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 192,
            "image_size": [image, image],
            "patch_size": [14, 14],
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=tokens,
        tie_word_embeddings=True,
    )
    model = _generation(hf.InternVLForConditionalGeneration(config), tokenizer)
    processor = hf.InternVLProcessor(
        image_processor=hf.GotOcr2ImageProcessor(
            size={"height": image, "width": image}, crop_to_patches=True, min_patches=1, max_patches=6
        ),
        tokenizer=tokenizer,
        video_processor=hf.InternVLVideoProcessor(size={"height": image, "width": image}),
        image_seq_length=tokens,
        chat_template=CHAT.replace("PICTURE", "<IMG_CONTEXT>\n"),
    )
    return model, processor


def _smolvlm(side: int = 56) -> tuple[Any, Any]:
    """Idefics3's class and processor: those of SmolVLM but for its video prompts, which need one more package."""
    tokenizer = _tokenizer(SMOL_TOKENS)
    text = _text(tokenizer, 192, model_type="llama")
    config = hf.Idefics3Config(
        text_config=text,
        vision_config={
            "hidden_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 192,
            "image_size": side,
            "patch_size": 14,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = _generation(hf.Idefics3ForConditionalGeneration(config), tokenizer)
    processor = hf.Idefics3Processor(
        image_processor=hf.Idefics3ImageProcessor(
            size={"longest_edge": 4 * side}, max_image_size={"longest_edge": side}
        ),
        tokenizer=tokenizer,
        image_seq_len=(side // 14) ** 2 // 4,
        chat_template=CHAT.replace("PICTURE", "<image>"),
    )
    return model, processor


_KEPT: list[tempfile.TemporaryDirectory[str]] = []


@cache
def folder(family: str) -> Path:
    """The folder of a tiny model, built once a process and removed at its end."""
    _KEPT.append(tempfile.TemporaryDirectory(prefix=f"tiny-{family}-"))
    return build(family, Path(_KEPT[-1].name))


def load_tiny(family: str, **settings: Any) -> VLM:
    """A fresh `VLM` of a tiny model; `settings` go to `ModelConfig`."""
    return load(ModelConfig(path=str(folder(family)), **settings), device="cpu")
