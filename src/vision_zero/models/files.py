"""Models on disk and on the Hub: finding, reading, putting back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import peft
import torch
from safetensors import SafetensorError
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedConfig
from transformers.utils import logging

from vision_zero.config import ModelConfig
from vision_zero.errors import UserError

NANO = "nano"
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
CONVERT = "python src/transformers/models/internvl/convert_internvl_weights_to_hf.py"
ORIGINAL_INTERNVL = ("internvl_chat", "internvl_chat_v1_5")
ALIGNMENT = 64
"""Bytes; what torch gives to tensors of its own on a CPU."""


def resolve(path: str) -> str:
    """A folder or Hub id that Transformers can load; "nano" is the checkpoint inside this package."""
    if path != NANO:
        return path
    folder = Path(str(resources.files("vision_zero"))) / "models" / "nano" / "checkpoint"
    if not (folder / "config.json").is_file():
        raise UserError(f"the nano checkpoint is missing from the package ({folder}): run `vision-zero nano make`")
    return str(folder)


def adapter_folder(path: str) -> Path | None:
    """The folder as a path if it holds a LoRA adapter, else None."""
    folder = Path(path)
    return folder if (folder / "adapter_config.json").is_file() else None


def base_of(adapter: Path) -> str:
    """The model that an adapter was trained on."""
    file = adapter / "adapter_config.json"
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["base_model_name_or_path"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as e:
        raise UserError(f"{file} names no base model ({type(e).__name__}: {e}): restore the file") from e


def model_type(path: str) -> str:
    """`model_type` of a model's configuration, also of types that Transformers does not know."""
    try:
        config, _ = PreTrainedConfig.get_config_dict(path)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as e:
        raise UserError(_cannot_load(path, e)) from e
    if "model_type" not in config:
        raise UserError(f"{path}: config.json is missing or names no model_type; give the folder of a whole model")
    found = str(config["model_type"])
    if found in ORIGINAL_INTERNVL:
        raise UserError(
            f"{path} is InternVL in its original layout ({found}), which runs code from the checkpoint: give the model "
            "in Transformers' own layout, whose name on the Hub ends in -hf (such as OpenGVLab/InternVL3-8B-hf), or "
            f"convert yours in a checkout of the transformers repository: {CONVERT} --input_dir {path} "
            f"--output_dir {path}-hf"
        )
    return found


def read(path: str, config: ModelConfig) -> tuple[Any, Any]:
    """The model on the CPU and its processor. Raises `UserError`, also if weights are missing from the files.

    Nothing that could run code is read: weights from safetensors alone, no code from the folder.
    """
    refuse_pickles(Path(path))
    reader_of_processor: Any = AutoProcessor
    reader_of_model: Any = AutoModelForImageTextToText
    try:
        processor = reader_of_processor.from_pretrained(path, trust_remote_code=False)
        with quiet():
            model, report = reader_of_model.from_pretrained(
                path,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=getattr(torch, config.dtype),
                attn_implementation=config.attention,
                output_loading_info=True,
            )
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as e:  # what a foreign folder makes of the libraries that read it is anybody's guess
        raise UserError(_cannot_load(path, e)) from e
    if report["missing_keys"] or report["mismatched_keys"]:
        raise UserError(
            f"{path}: the files lack {len(report['missing_keys'])} weights and {len(report['mismatched_keys'])} have "
            f"another shape (such as {sorted(report['missing_keys'])[:2]}); download the model again"
        )
    return model, processor


def align(model: torch.nn.Module) -> None:
    """Let weights on the CPU begin where its vector units like it.

    Weights read from a file begin anywhere, and differently with several processes; some products of matrices round
    otherwise then. Equal runs would have unequal bits.
    """
    for weight in model.parameters():
        if weight.device.type == "cpu" and weight.data_ptr() % ALIGNMENT:
            weight.data = weight.data.clone()


def refuse_pickles(folder: Path) -> None:
    """Raise `UserError` if a folder has weights as pickles and none as safetensors: reading them can run any code."""
    pickles = sorted(p.name for p in folder.glob("*") if p.suffix in PICKLES) if folder.is_dir() else []
    if pickles and not any(folder.glob("*.safetensors")):
        raise UserError(
            f"{folder} has its weights as {pickles[0]}, a pickle, which can run any code when it is read: give them as "
            "safetensors (load them where you trust them, then save_pretrained)"
        )


def restore_weights(model: Any, folder: Path, config: ModelConfig) -> None:
    """Load a saved model into an existing one of the same kind.

    Through `from_pretrained`: key names on disk differ from those of the module for some families, and a
    plain non-strict `load_state_dict` would silently load nothing.
    """
    saved, _ = read(str(folder), config)
    try:
        model.load_state_dict(saved.state_dict(), strict=True)
    except RuntimeError as e:
        raise UserError(f"{folder} holds another model than the one being restored ({_first_line(e)})") from e


def restore_adapter(model: Any, folder: Path) -> None:
    """Load a saved LoRA adapter into an existing one of the same shape."""
    refuse_pickles(folder)
    if not (folder / peft.utils.SAFETENSORS_WEIGHTS_NAME).is_file():
        raise UserError(f"{folder} has no {peft.utils.SAFETENSORS_WEIGHTS_NAME}: restore the file")
    try:
        weights = peft.load_peft_weights(str(folder), device="cpu")
        report: Any = peft.set_peft_model_state_dict(model, weights)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as e:
        raise UserError(f"{folder} holds no adapter that fits this model ({_first_line(e)}); check model.lora") from e
    missing = [k for k in report.missing_keys if "lora_" in k]
    if missing or report.unexpected_keys:
        raise UserError(
            f"{folder} holds another adapter than the one being restored: {len(missing)} weights are missing, "
            f"{len(report.unexpected_keys)} unknown; check model.lora"
        )


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars of Transformers inside: they would tear our own live display."""
    bars: Any = logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()


def _cannot_load(path: str, error: Exception) -> str:
    return (
        f"cannot load model {path!r}: {_first_line(error)} (give `nano`, a folder with a whole Hugging Face model, "
        "or a Hub id; without a network download the model first and give its folder)"
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
