"""An editor that runs on this machine: a pipeline of the diffusers library, an extra."""

from __future__ import annotations

from typing import Any

from PIL import Image

from vision_zero.config import DiffusersEditor
from vision_zero.errors import UserError


class DiffusersPipeline:
    """A diffusers pipeline that takes a picture and an instruction; deterministic for a seed on one device."""

    def __init__(self, config: DiffusersEditor) -> None:
        try:
            import diffusers
            import torch
        except ImportError as e:
            raise UserError(
                "pairs.editor.kind=diffusers needs the diffusers library: pip install 'vision-zero[photos]'"
            ) from e
        self._config = config
        try:
            # mypy sees diffusers only where it is installed
            load: Any = diffusers.DiffusionPipeline.from_pretrained
            pipeline = load(config.model, torch_dtype=getattr(torch, config.dtype), use_safetensors=True)
            self._pipeline = pipeline.to(config.device)
        except (OSError, ValueError, RuntimeError) as e:
            raise UserError(f"cannot load {config.model!r} as a diffusers pipeline on {config.device}: {e}") from e
        self._generator = torch.Generator
        self._pipeline.set_progress_bar_config(disable=True)

    def edit(self, image: Image.Image, instruction: str, seed: int, name: str) -> Image.Image:
        generator = self._generator("cpu").manual_seed(seed)
        # latents are an eighth of the picture and are halved a few times: other sizes are refused by many pipelines
        width, height = (max(64, round(side / 32) * 32) for side in image.size)
        try:
            out = self._pipeline(
                prompt=instruction,
                image=image.resize((width, height), Image.Resampling.LANCZOS),
                num_inference_steps=self._config.steps,
                generator=generator,
            )
        except TypeError as e:
            raise UserError(f"{self._config.model!r} is no pipeline that edits by an instruction: {e}") from e
        # undoes the stretching
        edited: Image.Image = out.images[0].convert("RGB").resize(image.size, Image.Resampling.LANCZOS)
        return edited
