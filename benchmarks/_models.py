"""Random Qwen2.5-VL models with the real processor and a tokenizer that reads the game's words at usual lengths."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from vision_zero.config import ModelConfig
from vision_zero.models.base import VLM, load

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden": 192, "layers": 4, "heads": 4, "inner": 384, "vision": (2, 96)},
    "100m": {"hidden": 768, "layers": 14, "heads": 12, "inner": 2304, "vision": (4, 256)},
}
"""4 and 100 million parameters. `vision`: layers and width of the tower."""

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
AREA = {"shortest_edge": 28 * 28, "longest_edge": 480 * 320}
_KEPT: list[TemporaryDirectory[str]] = []


@cache
def folder(size: str) -> Path:
    """The folder of a random model, written once a process and removed at its end."""
    _KEPT.append(TemporaryDirectory(prefix=f"bench-{size}-"))
    path = Path(_KEPT[-1].name)
    tokens = tokenizer()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = hf.Qwen2_5_VLForConditionalGeneration(_config(tokens, **SIZES[size]))
    end_with(model, tokens).save_pretrained(path)
    processor(tokens).save_pretrained(path)
    return path


def load_random(size: str, **settings: Any) -> VLM:
    """A fresh `VLM` of a random model; `settings` go to `ModelConfig`."""
    return load(ModelConfig(path=str(folder(size)), **settings))


def end_with(model: Any, tokens: Any) -> Any:
    """Let a model's turns end where the tokenizer says."""
    model.generation_config.update(eos_token_id=tokens.eos_token_id, pad_token_id=tokens.pad_token_id)
    return model


def ids_of(tokens: Any) -> dict[str, int]:
    """The ids of picture tokens, by the names that Qwen2.5-VL's configuration gives them."""
    names = {"image": "<|image_pad|>", "video": "<|video_pad|>"}
    names |= {"vision_start": "<|vision_start|>", "vision_end": "<|vision_end|>"}
    return {f"{name}_token_id": tokens.convert_tokens_to_ids(token) for name, token in names.items()}


def processor(tokens: Any, image_processor: Any = None) -> Any:
    """Qwen2.5-VL's own processor around a tokenizer."""
    return hf.Qwen2_5_VLProcessor(
        image_processor=image_processor or hf.Qwen2VLImageProcessor(size=AREA),
        tokenizer=tokens,
        video_processor=hf.Qwen2VLVideoProcessor(size=AREA),
        chat_template=CHAT,
    )


def tokenizer() -> Any:
    """Byte-level pairs learned from the prompts of the game: a token is about a word, as in the released models."""
    words = files("vision_zero.games").joinpath("templates", "spy.yaml").read_text(encoding="utf-8")
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(
        [words] * 4,
        trainers.BpeTrainer(
            vocab_size=4096, special_tokens=list(SPECIAL), show_progress=False, initial_alphabet=alphabet
        ),
    )
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=inner,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        padding_side="left",
        model_max_length=32768,
    )


def _config(tokens: Any, hidden: int, layers: int, heads: int, inner: int, vision: tuple[int, int]) -> Any:
    head = hidden // heads
    sections = [head // 8, head // 8 + head // 16, head // 8 + head // 16]
    depth, width = vision
    return hf.Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokens),
            "hidden_size": hidden,
            "intermediate_size": inner,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": max(1, heads // 4),
            "max_position_embeddings": 32768,
            "bos_token_id": None,
            "eos_token_id": tokens.eos_token_id,
            "pad_token_id": tokens.pad_token_id,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": sections},
        },
        vision_config={
            "depth": depth,
            "hidden_size": width,
            "intermediate_size": 2 * width,
            "num_heads": 4,
            "out_hidden_size": hidden,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 112,
            "fullatt_block_indexes": [depth - 1],
        },
        tie_word_embeddings=True,
        **ids_of(tokens),
    )
