"""An editing pipeline of the diffusers library: a real one, tiny and untrained, saved and loaded as any other."""

from __future__ import annotations

import json
from pathlib import Path
from string import ascii_lowercase

import numpy as np
import pytest
import torch
from PIL import Image

from vision_zero.config import DiffusersEditor
from vision_zero.errors import UserError
from vision_zero.pairs.photos.editors import open_editor

diffusers = pytest.importorskip("diffusers", reason="an extra: pip install 'vision-zero[photos]'")


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    folder = tmp_path_factory.mktemp("pipeline")
    words = ["<|startoftext|>", "<|endoftext|>", *ascii_lowercase, *(f"{c}</w>" for c in ascii_lowercase)]
    (folder / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(words),
                hidden_size=32,
                intermediate_size=37,
                num_attention_heads=4,
                num_hidden_layers=2,
                bos_token_id=0,
                eos_token_id=1,
                pad_token_id=1,
            )
        )
        unet = diffusers.UNet2DConditionModel(
            block_out_channels=(32, 64),
            layers_per_block=1,
            sample_size=8,
            in_channels=8,
            out_channels=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=32,
        )
        vae = diffusers.AutoencoderKL(
            block_out_channels=[32, 64],
            in_channels=3,
            out_channels=3,
            latent_channels=4,
            down_block_types=["DownEncoderBlock2D"] * 2,
            up_block_types=["UpDecoderBlock2D"] * 2,
        )
    diffusers.StableDiffusionInstructPix2PixPipeline(
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        vae=vae,
        scheduler=diffusers.PNDMScheduler(skip_prk_steps=True),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder / "model")
    return folder / "model"


def test_a_pipeline_edits_by_instruction_and_seed(pipeline: Path) -> None:
    editor = open_editor(DiffusersEditor(kind="diffusers", model=str(pipeline), device="cpu", dtype="float32", steps=2))
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 100, 3), dtype=np.uint8))
    first, again, other = (editor.edit(photo, "make it red", seed, "a.png") for seed in (1, 1, 2))
    assert first.mode == "RGB"
    assert first.size == photo.size
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_what_is_no_pipeline_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot load"):
        open_editor(DiffusersEditor(kind="diffusers", model=str(tmp_path), device="cpu"))
