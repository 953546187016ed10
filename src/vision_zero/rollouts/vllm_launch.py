"""Starts a vLLM server that plays for a recipe: vLLM's own, with the model and the settings that the trainer needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from vision_zero.config import RunConfig
from vision_zero.lifeline import end
from vision_zero.models.base import load
from vision_zero.rollouts import vllm_common as common
from vision_zero.rollouts.vllm_server import BASE

STOPPING = 20.0
"""Seconds in which a server may end by itself."""


def serve(config: RunConfig, host: str, port: int, more: Sequence[str] = ()) -> int:
    """Run a server until it ends; returns its exit code. `more`: further arguments for vLLM.

    Raises `UserError` if vLLM is not installed or the model cannot be loaded.
    """
    common.require_vllm()
    with TemporaryDirectory(prefix="vision-zero-rollouts-") as temporary:
        vlm = load(config.model, "cpu")
        common.write_model(vlm, Path(temporary), untied=True)
        command = [
            *(sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", temporary),
            *("--served-model-name", BASE, "--host", host, "--port", str(port)),
            *("--enable-scale-out", "--enable-prompt-tokens-details", "--disable-access-log-for-endpoints", "/health"),
            *arguments(common.engine_settings(vlm, config)),
            *more,
        ]
        del vlm
        process = subprocess.Popen(command, env=os.environ | environment(config))
        try:
            return process.wait()
        finally:
            end(process, STOPPING)


def arguments(settings: Mapping[str, Any]) -> list[str]:
    """`EngineArgs` as the command line takes them. Example: `{"seed": 0, "eager": True}` -> `--seed 0 --eager`"""
    out: list[str] = []
    for name, value in settings.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            out.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            out += [f"--{flag}", json.dumps(value) if isinstance(value, dict) else str(value)]
    return out


def environment(config: RunConfig) -> dict[str, str]:
    """What vLLM reads from its environment: endpoints for weights are there in its development mode alone."""
    lora = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"} if config.model.lora else {}
    return {"VLLM_SERVER_DEV_MODE": "1"} | lora
