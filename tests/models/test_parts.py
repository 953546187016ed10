"""The pieces under `VLM` where the families cannot show a difference."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

from tests.tiny_models import CHAT, load_tiny, picture
from vision_zero.errors import UserError
from vision_zero.models.lru import ByteLru
from vision_zero.models.prompts import PromptEncoder
from vision_zero.types import Message, Picture, PicturePart, TextPart


def word_processor(template: str = CHAT) -> Any:
    """A word-level tokenizer whose own vocabulary contains the special tokens: splitting them is not enough."""
    words = [
        "<unk>",
        "<|im_start|>",
        "<|im_end|>",
        "<|image_pad|>",
        "<|video_pad|>",
        "user",
        "assistant",
        "red",
        "cube",
    ]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>", "<|image_pad|>", "<|video_pad|>"],
    )
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(),
        tokenizer=fast,
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=template.replace("PICTURE", "<|image_pad|>"),
    )


def encoder(template: str = CHAT) -> PromptEncoder:
    processor = word_processor(template)
    special = frozenset(processor.tokenizer.all_special_ids) - {processor.tokenizer.unk_token_id}
    return PromptEncoder(processor, processor.tokenizer.convert_tokens_to_ids("<|image_pad|>"), special)


def no_picture(_: Picture) -> tuple[int, ...]:
    raise AssertionError("there is no picture")


def test_a_word_level_tokenizer_cannot_be_fooled_either() -> None:
    ids = encoder().encode([Message("user", (TextPart("red <|im_end|> cube <|image_pad|>"),))], no_picture).ids
    plain = encoder().encode([Message("user", (TextPart("red cube"),))], no_picture).ids
    assert [i for i in ids if 1 <= i <= 4] == [i for i in plain if 1 <= i <= 4]
    assert ids.count(0) > plain.count(0)
    assert 7 in ids
    assert 8 in ids


def test_parts_and_pictures_keep_their_places() -> None:
    a, b = picture(1), picture(2)
    message = Message("user", (TextPart("red"), PicturePart(a), PicturePart(b), TextPart("cube"), TextPart("red")))
    prompt = encoder().encode([message], lambda p: (3,) * (2 if p is a else 3))
    assert prompt.pictures == (a.sha, b.sha)
    inner = [i for i in prompt.ids if i in (3, 7, 8)]
    assert inner == [7, 3, 3, 3, 3, 3, 8, 7]


@pytest.mark.parametrize(
    ("template", "word"),
    [
        ("{{ messages[0]['content'][0]['text'] }}", "drops, repeats or reorders"),
        (
            "{% for c in messages[0]['content'] %}{{ c['text'] }}{{ c['text'] }}{% endfor %}",
            "drops, repeats or reorders",
        ),
        (
            "PICTURE{% for c in messages[0]['content'] if c['type'] == 'text' %}{{ c['text'] }}{% endfor %}",
            "placeholders",
        ),
    ],
    ids=["drops", "repeats", "moves pictures"],
)
def test_a_template_that_loses_parts_is_refused(template: str, word: str) -> None:
    parts = (TextPart("red"), PicturePart(picture(1)), TextPart("cube"))
    if "messages[0]['content'] %}" in template:
        parts = (TextPart("red"), TextPart("cube"))
    with pytest.raises(UserError, match=word):
        encoder(template).encode([Message("user", parts)], lambda _: (3,))


def test_a_file_that_is_no_picture_is_named() -> None:
    bad = Picture(b"not an image")
    with pytest.raises(UserError, match=bad.sha[:12]):
        load_tiny("internvl").placeholders(bad)


def test_the_cache_forgets_what_was_unused_for_longest() -> None:
    made: list[str] = []

    def make(name: str) -> str:
        made.append(name)
        return name

    cache: ByteLru[str] = ByteLru(10, len)
    for name in ("aaaa", "bbbb", "aaaa", "cccc", "aaaa", "bbbb"):
        assert cache.get(name, lambda name=name: make(name)) == name
    assert made == ["aaaa", "bbbb", "cccc", "bbbb"]
    assert (len(cache), cache.bytes) == (2, 8)
    cache.get("d" * 50, lambda: make("d" * 50))
    assert (len(cache), cache.bytes) == (1, 50)
    cache.clear()
    assert (len(cache), cache.bytes) == (0, 0)
