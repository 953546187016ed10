"""The tiny model's shape: its words, its processor, its network. Nothing here is trained."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Sequence, Split
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from vision_zero.pairs.clevr.language import ANY_SHAPE, ATTRIBUTES

WIDTH, HEIGHT = 96, 64
"""Pixels of the pictures that the model is made for; larger ones are scaled down to this area."""
PATCH, MERGE = 8, 2
GRID = (HEIGHT // (PATCH * MERGE), WIDTH // (PATCH * MERGE))
"""Rows and columns of the image tokens of one picture."""
CELLS = GRID[0] * GRID[1]

PAD, END, ASSISTANT, UNKNOWN = "<|pad|>", "<|end|>", "<|assistant|>", "<unk>"
VISION_START, VISION_END, IMAGE, VIDEO = "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"
SPECIAL = (PAD, END, ASSISTANT, VISION_START, VISION_END, IMAGE, VIDEO)

_GAME_WORDS = "players you civilian spy judge clue vote n/a no yes . : ? ( ) , 0 1 2 3 4 5 6 7 8 9"
_PROBE_WORDS = "a an what which is are there here in the of and or not many how same different picture pictures objects"
VOCABULARY = (
    *SPECIAL,
    UNKNOWN,
    *_GAME_WORDS.split(),
    *_PROBE_WORDS.split(),
    ANY_SHAPE,
    *(word for words in ATTRIBUTES.values() for word in words),
)
"""Every token; its index is its id."""

_MEAN, _STD = (0.74, 0.74, 0.74), (0.17, 0.17, 0.17)
_CONTEXT = 1024

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    f"{{%- if message.role == 'assistant' -%}}{{{{- '{ASSISTANT}' -}}}}{{%- endif -%}}"
    "{%- if message.content is string -%}{{- message.content -}}{%- else -%}"
    "{%- for part in message.content -%}"
    f"{{%- if part.type == 'image' -%}}{{{{- '{VISION_START}{IMAGE}{VISION_END}' -}}}}"
    "{%- elif part.type == 'text' -%}{{- part.text -}}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}"
    f"{{%- if message.role == 'assistant' -%}}{{{{- '{END}' -}}}}{{%- endif -%}}"
    "{%- endfor -%}"
    f"{{%- if add_generation_prompt -%}}{{{{- '{ASSISTANT}' -}}}}{{%- endif -%}}"
)
"""What the user says, a token that hands over, the reply, an end token; no role names."""


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Whole words, single digits and single signs; lower case; white space means nothing."""
    model = Tokenizer(WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token=UNKNOWN))
    model.normalizer = Lowercase()
    words = Regex(r"n/a(?![a-z])|[a-z]+|[0-9]|[^\sa-z0-9]")
    model.pre_tokenizer = Sequence([Split(Regex(r"\s+"), "removed"), Split(words, "isolated")])
    tokenizer: Any = PreTrainedTokenizerFast
    built: PreTrainedTokenizerFast = tokenizer(
        tokenizer_object=model,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        additional_special_tokens=[t for t in SPECIAL if t not in (PAD, END)],
        padding_side="left",
        model_max_length=_CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    return built


def build_processor() -> Qwen2_5_VLProcessor:
    """Pictures of 96x64 become 24 image tokens."""
    shape: dict[str, Any] = {"patch_size": PATCH, "merge_size": MERGE, "image_mean": _MEAN, "image_std": _STD}
    area = {"shortest_edge": WIDTH * HEIGHT // 2, "longest_edge": WIDTH * HEIGHT}
    processor: Any = Qwen2_5_VLProcessor
    built: Qwen2_5_VLProcessor = processor(
        image_processor=Qwen2VLImageProcessor(size=area, **shape),
        tokenizer=build_tokenizer(),
        video_processor=Qwen2VLVideoProcessor(size=area, **shape),
        chat_template=CHAT_TEMPLATE,
    )
    return built


def build_model(seed: int) -> Qwen2_5_VLForConditionalGeneration:
    """An untrained network in float32, the same for equal seeds."""
    ids = {word: i for i, word in enumerate(VOCABULARY)}
    ends: dict[str, Any] = {"bos_token_id": None, "eos_token_id": ids[END], "pad_token_id": ids[PAD]}
    depth, width, heads = 3, 192, 4
    half = width // heads // 2
    config = Qwen2_5_VLConfig(
        vision_config={
            "depth": depth,
            "hidden_size": 128,
            "intermediate_size": 320,
            "num_heads": 4,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": 2,
            "window_size": 64 * PATCH,
            "fullatt_block_indexes": list(range(depth)),
            "out_hidden_size": width,
        },
        text_config={
            "vocab_size": len(VOCABULARY),
            "hidden_size": width,
            "intermediate_size": 512,
            "num_hidden_layers": 4,
            "num_attention_heads": heads,
            "num_key_value_heads": heads,
            "max_position_embeddings": _CONTEXT,
            # Some rotary pairs must hardly turn between a word and the picture, or content cannot be matched:
            # with a theta of 20 yes/no questions stayed at chance.
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e4,
                "mrope_section": [half - 2 * (half // 3), half // 3, half // 3],
            },
            "tie_word_embeddings": True,
            **ends,
        },
        image_token_id=ids[IMAGE],
        video_token_id=ids[VIDEO],
        vision_start_token_id=ids[VISION_START],
        vision_end_token_id=ids[VISION_END],
        tie_word_embeddings=True,
        **ends,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2_5_VLForConditionalGeneration(config)
    model.tie_weights()
    model.generation_config.eos_token_id = ids[END]
    model.generation_config.pad_token_id = ids[PAD]
    model.generation_config.bos_token_id = None
    return model
