"""Requests, and what the trainer thinks of answers to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from tests.tiny_models import folder, picture
from vision_zero.config import RunConfig
from vision_zero.models.base import VLM
from vision_zero.rollouts.engine import Completion, Request
from vision_zero.types import Message, Picture, PicturePart, TextPart

PICTURES = [picture(i, *size) for i, size in enumerate([(168, 112), (100, 200), (56, 56)])]
RULES = "4 player s , 1 spy , vote red green blue small large cube sphere cylinder\n" * 8
"""Longer than a block of vLLM's prefix cache, which is 128 tokens on the CPU."""
EXACT = 2e-5
"""Most |log-prob of vLLM minus trainer| that float32 explains; measured: below 1e-5."""


def config(family: str, temperature: float = 1.0, **sections: dict[str, Any]) -> RunConfig:
    rollouts = {"engine": "vllm", "batch_size": 64, "temperature": temperature} | sections.pop("rollouts", {})
    rollouts["vllm"] = {"context": 2048, "eager": True, "retries": 1} | rollouts.get("vllm", {})
    model = {"path": str(folder(family))} | sections.pop("model", {})
    return RunConfig.model_validate({"model": model, "rollouts": rollouts, **sections})


def request_of(
    vlm: VLM, parts: Sequence[str | Picture], seed: int, tokens: int = 12, temperature: float = 1.0
) -> Request:
    message = Message("user", tuple(TextPart(p) if isinstance(p, str) else PicturePart(p) for p in parts))
    pictures = tuple(p for p in parts if isinstance(p, Picture))
    return Request(vlm.encode((message,)), pictures, seed, tokens, temperature)


def mixed(vlm: VLM, count: int, temperature: float) -> list[Request]:
    """Prompts of many lengths with a picture or none, some asked several times, all budgets."""
    out = []
    for i in range(count):
        about = i // 3
        parts: list[str | Picture] = [PICTURES[about % 3]] if about % 4 else []
        parts += [RULES, *(f"{k} : a red cube\n" for k in range(about % 7)), f"player {about}\n"]
        out.append(request_of(vlm, parts, i, tokens=1 + (5 * i) % 13, temperature=temperature))
    return out


def worst_difference(vlm: VLM, requests: Sequence[Request], done: Sequence[Completion]) -> float:
    """Largest |log-prob of the engine minus trainer| over all sampled ids."""
    worst = 0.0
    for request, answer in zip(requests, done, strict=True):
        start = len(request.prompt.ids)
        ids = torch.tensor([request.prompt.ids + answer.ids])
        positions = vlm.positions(request.prompt, len(answer.ids))[:, None]
        with vlm.evaluating():
            hidden = vlm.forward_hidden(ids, None, positions, request.pictures)[0, start - 1 : -1]
            scores = vlm.mask_forbidden(vlm.logits(hidden) / request.temperature).log_softmax(-1)
        ours = scores.gather(1, ids[0, start:, None])[:, 0]
        worst = max(worst, float((ours - torch.tensor(answer.logprobs)).abs().max()))
    return worst


def nudge(vlm: VLM, size: float = 0.05, seed: int = 0) -> None:
    """Move every trainable weight a little, as training would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, p in vlm.trainable():
            p.add_(size * torch.randn(p.shape, generator=generator))
