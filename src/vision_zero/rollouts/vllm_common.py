"""What both vLLM engines share: prompts and settings as vLLM takes them, and everything that is checked of its answers.

vLLM puts a picture's placeholders into a prompt itself. It therefore gets prompts with one placeholder a picture,
and what it makes of them has to be our prompt again, id by id.
"""

from __future__ import annotations

import copy
import importlib.util
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from PIL import Image

from vision_zero.config import LoraConfig, RunConfig
from vision_zero.errors import UserError
from vision_zero.models.base import VLM
from vision_zero.rollouts.engine import Completion, Request, check
from vision_zero.types import Message, Picture, PicturePart, StopReason, TextPart

NEVER = -1e9
"""Added to the logits of forbidden ids: their probability is then exactly 0 in float32."""
BOUNDS = {"float32": 1e-3, "bfloat16": 0.05}
"""Mean difference of log-probs on the fixed prompt that rounding explains, by dtype."""


def require_vllm() -> None:
    """Raise `UserError` if vLLM is not installed."""
    if importlib.util.find_spec("vllm") is None:
        raise UserError("rollouts.engine=vllm needs vLLM: pip install 'vision-zero[vllm]', or set rollouts.engine=hf")


# Requests


def check_all(vlm: VLM, requests: Sequence[Request], config: RunConfig) -> None:
    """Refuse what does not fit the model, or not what vLLM was started for. Raises as `check` does."""
    room = config.rollouts.vllm.context
    for request in requests:
        check(request, vlm.context)
        if (needed := len(request.prompt.ids) + request.max_new_tokens) > room:
            raise UserError(
                f"a prompt and its answer may take {needed} tokens: raise rollouts.vllm.context from {room}"
            )


def collapsed(vlm: VLM, request: Request) -> list[int]:
    """The prompt's ids with a single placeholder in place of each picture. Raises `ValueError` if it does not show
    the pictures that it names."""
    ids, out, at = request.prompt.ids, [], 0
    for picture in request.pictures:
        expansion = vlm.expansion(picture)
        found = next((i for i in range(at, len(ids)) if ids[i : i + len(expansion)] == expansion), None)
        if found is None:
            raise ValueError(f"picture {picture.sha[:12]} is not where the prompt says it is")
        out += [*ids[at:found], vlm.image_token_id]
        at = found + len(expansion)
    return [*out, *ids[at:]]


def sampling(vlm: VLM, request: Request) -> dict[str, Any]:
    """Fields of vLLM's `SamplingParams`: the request's own, and nothing that would distort.

    Everything that a model's generation_config.json could change is said outright.
    """
    return {
        "temperature": request.temperature,
        "seed": request.seed,
        "max_tokens": request.max_new_tokens,
        "logprobs": 0,  # of the sampled id alone
        "logit_bias": dict.fromkeys(sorted(vlm.forbidden_ids), NEVER),
        "stop_token_ids": sorted(vlm.end_ids),
        "ignore_eos": True,  # those above are all that end a turn
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "detokenize": False,
    }


def rgb(picture: Picture) -> Image.Image:
    """The picture as our own image reader sees it."""
    return Image.open(io.BytesIO(picture.data)).convert("RGB")


# Answers


def completion(
    vlm: VLM, request: Request, prompt_ids: Sequence[int], ids: Sequence[int], logprobs: Sequence[float]
) -> Completion:
    """What vLLM sampled, checked: `prompt_ids` are those that it says it answered.

    Raises `UserError` if vLLM read another prompt or picture size, or sampled what was forbidden.
    """
    if tuple(prompt_ids) != request.prompt.ids:
        ours, theirs = (i.count(vlm.image_token_id) for i in (request.prompt.ids, list(prompt_ids)))
        raise UserError(
            f"vLLM reads another prompt than the trainer: {len(prompt_ids)} ids with {theirs} picture placeholders, "
            f"the trainer has {len(request.prompt.ids)} with {ours}. Start the server with the model and the "
            "model.max_pixels of the recipe (`vision-zero rollout-server RECIPE`)"
        )
    if bad := vlm.forbidden_ids.intersection(ids):
        raise UserError(f"vLLM sampled ids that are forbidden ({sorted(bad)[:5]}): this version ignores logit_bias")
    if len(ids) != len(logprobs) or not 0 < len(ids) <= request.max_new_tokens:
        raise UserError(
            f"vLLM returned {len(ids)} ids and {len(logprobs)} log-probs for a budget of {request.max_new_tokens}"
        )
    ended = ids[-1] in vlm.end_ids
    if not ended and len(ids) < request.max_new_tokens:
        raise UserError(f"vLLM stopped after {len(ids)} of {request.max_new_tokens} tokens without an end token")
    # Greedy: the distribution has one id.
    exact = tuple(logprobs) if request.temperature > 0 else (0.0,) * len(ids)
    return Completion(tuple(ids), exact, StopReason.END_OF_TURN if ended else StopReason.LENGTH)


def fixed_requests(vlm: VLM, config: RunConfig) -> list[Request]:
    """One prompt with a picture, asked a few times: what weights are compared on."""
    ramp = Image.linear_gradient("L").resize((224, 168))
    image = Image.merge("RGB", (ramp, ramp.transpose(Image.Transpose.FLIP_LEFT_RIGHT).rotate(90), ramp.rotate(180)))
    data = io.BytesIO()
    image.resize((224, 168)).save(data, "PNG")
    picture = Picture(data.getvalue())
    asked = Message("user", (PicturePart(picture), TextPart("Describe this picture in one sentence.\n")))
    prompt = vlm.encode([asked])
    return [Request(prompt, (picture,), seed, 16, config.rollouts.temperature) for seed in range(4)]


def require_equal_weights(
    vlm: VLM, requests: Sequence[Request], done: Sequence[Completion], config: RunConfig
) -> float:
    """Mean |log-prob of vLLM minus trainer| over the sampled ids. Raises `UserError` if it is above the bound."""
    differences = []
    for request, answer in zip(requests, done, strict=True):
        start = len(request.prompt.ids)
        ids = torch.tensor([request.prompt.ids + answer.ids], device=vlm.device)
        positions = vlm.positions(request.prompt, len(answer.ids)).to(vlm.device)[:, None]
        with vlm.evaluating():
            hidden = vlm.forward_hidden(ids, None, positions, request.pictures)[0, start - 1 : -1]
            logits = vlm.mask_forbidden(vlm.logits(hidden).float() / request.temperature)
        ours = logits.log_softmax(-1).gather(1, ids[0, start:, None])[:, 0].cpu()
        differences.append((ours - torch.tensor(answer.logprobs)).abs())
    difference = float(torch.cat(differences).mean())
    bound = config.rollouts.vllm.max_difference or BOUNDS[config.model.dtype]
    if not difference <= bound:
        raise UserError(
            f"with the newest weights vLLM's log-probs on the fixed prompt differ from the trainer's by "
            f"{difference:.4g} on average, more than {bound}: its weights, dtype, temperature or picture processing "
            "are others. Start a server with `vision-zero rollout-server RECIPE`; otherwise set rollouts.engine=hf "
            "(or, if it is rounding, raise rollouts.vllm.max_difference)"
        )
    return difference


# Weights


def write_model(vlm: VLM, folder: Path, untied: bool) -> None:
    """Write what vLLM starts from: configuration, processor with its limits, and the weights as they are now (with
    LoRA the base model's).

    `untied`: with a language head of its own where the model shares it with its embeddings. On the CPU vLLM keeps a
    packed copy of the head, which new embeddings do not reach.
    """
    config = copy.deepcopy(vlm.network.config)
    if untied:
        config.tie_word_embeddings = config.get_text_config().tie_word_embeddings = False
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(folder)
    vlm.network.generation_config.save_pretrained(folder)
    vlm.processor.save_pretrained(folder)
    write_weights(vlm, folder)


def write_weights(vlm: VLM, folder: Path) -> None:
    """Write the weights as ordinary safetensors files, under the names of Transformers' modules, a tied head too."""
    seen: set[int] = set()
    weights = {}
    for name, weight in vlm.plain_weights():
        # of tensors that share memory only one would be written
        weights[name] = weight.clone() if weight.data_ptr() in seen else weight
        seen.add(weight.data_ptr())
    save_torch_state_dict(weights, folder)


class WithoutAdapter:
    """The frozen start of LoRA training: what `generate` does with the base model, in an engine whose owner wakes
    it, measures it and closes it."""

    def __init__(self, vlm: VLM, generate: Callable[[Sequence[Request]], list[Completion]]) -> None:
        if not vlm.adapted:
            raise ValueError("without an adapter vLLM holds no weights but the trained ones")
        self._generate = generate

    @contextmanager
    def fixed_weights(self) -> Iterator[None]:
        """Its weights never change."""
        yield

    def weights_changed(self) -> None:
        """They never do."""

    def figures(self) -> Mapping[str, float]:
        """Counted with the policy's."""
        return {}

    def close(self) -> None:
        """Left to the policy's engine."""

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion per request, in order, by the base model."""
        return self._generate(requests)


class Tally:
    """What an engine measured since it was last asked."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}

    def add(self, **figures: float) -> None:
        """Add to the sums."""
        for name, value in figures.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def take(self) -> Mapping[str, float]:
        """`prefix_hit_rate`: prompt tokens that vLLM need not read again; and all other sums by their name."""
        sums, self._sums = self._sums, {}
        read, cached = sums.pop("prompt_tokens", 0.0), sums.pop("cached_tokens", 0.0)
        return sums | ({"prefix_hit_rate": cached / read} if read else {})


# Settings that both engines give vLLM alike


def engine_settings(vlm: VLM, config: RunConfig) -> dict[str, Any]:
    """Arguments of vLLM's `EngineArgs` that make it sample what the trainer scores."""
    settings = config.rollouts.vllm
    context = min(vlm.context, settings.context)
    out: dict[str, Any] = {
        "dtype": config.model.dtype,
        "max_model_len": context,
        "max_num_seqs": config.rollouts.batch_size,
        "enforce_eager": settings.eager,
        "enable_prefix_caching": True,
        "logprobs_mode": "processed_logprobs",  # temperature and forbidden ids applied
        "generation_config": "vllm",  # none of the checkpoint's sampling defaults
        "limit_mm_per_prompt": _limits(vlm),
        "seed": config.seed,
    }
    if not torch.cuda.is_available():
        # vLLM's CPU runner cannot rewind the seeds of prompts that it reads in pieces, and fails.
        out |= {"enable_chunked_prefill": False, "max_num_batched_tokens": max(context, 8192)}
    return out | (_lora_settings(config.model.lora) if config.model.lora else {})


def _limits(vlm: VLM) -> dict[str, int]:
    """What a prompt may hold: one picture, since each seat sees one; no video where the model could read one."""
    return {"image": 1} | ({"video": 0} if getattr(vlm.processor, "video_processor", None) is not None else {})


def _lora_settings(lora: LoraConfig) -> dict[str, Any]:
    """Room for one adapter at a time; with vLLM's switch for adapters on the vision tower if there are some."""
    ranks = (8, 16, 32, 64, 128, 256, 320, 512)
    room = next((r for r in ranks if r >= lora.rank), None)
    if room is None:
        raise UserError(f"vLLM holds adapters up to rank {ranks[-1]}: lower model.lora.rank or set rollouts.engine=hf")
    return {
        "enable_lora": True,
        "max_lora_rank": room,
        "max_loras": 1,
        "enable_tower_connector_lora": lora.where == "language+vision",
    }
