"""vLLM in the training process, on the training device: its weights follow the trainer's without touching a disk.

vLLM and the trainer take turns on the device. While weights are updated vLLM sleeps (CUDA only): its cache is given
back, and its weights too, or, where they do not change (LoRA), moved to the host's memory.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch

from vision_zero.config import RunConfig
from vision_zero.errors import UserError
from vision_zero.models.base import VLM
from vision_zero.rollouts import vllm_common as common
from vision_zero.rollouts.bounded import BoundedThread
from vision_zero.rollouts.engine import Completion, Request

T = TypeVar("T")


class VllmEngine:
    """Samples with vLLM's `LLM`, with the weights of `vlm`.

    `folder`: an empty place for files, of this process alone. `processes`: how many train; each has an engine of its
    own for its own games. Raises `UserError` if vLLM is missing, does not start, or says that it cannot go on.
    """

    def __init__(self, vlm: VLM, config: RunConfig, folder: Path, processes: int = 1) -> None:
        common.require_vllm()
        # In this process, so that weights go from tensor to tensor. Read when vLLM is imported.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        self._vlm, self._config, self._folder = vlm, config, folder
        self._sleeps = config.rollouts.vllm.sleep and vlm.device.type == "cuda"
        self._thread = BoundedThread("vLLM", config.rollouts.vllm.timeout)
        self._tally = common.Tally()
        self._fixed = common.fixed_requests(vlm, config)
        self._changed, self._asleep, self._failed = True, False, False
        self._version = 0
        """How often weights were brought over."""
        self._adapter: Any = None
        """vLLM's `LoRARequest` for the newest adapter."""
        common.write_model(vlm, folder / "model", untied=vlm.device.type == "cpu")
        self._llm: Any = self._do("start", lambda: self._start(processes))
        shutil.rmtree(folder / "model")

    @contextmanager
    def fixed_weights(self) -> Iterator[None]:
        """Inside, vLLM is awake and has the newest weights: brought over and checked on entering, if they changed."""
        began = time.monotonic()
        if self._changed:
            self._do("take new weights", self._bring)
        elif self._asleep:
            self._do("wake up", self._llm.wake_up)
        self._asleep = False
        if self._changed:
            difference = common.require_equal_weights(self._vlm, self._fixed, self.generate(self._fixed), self._config)
            self._tally.add(weights_difference=difference)
            self._changed = False
        self._tally.add(seconds_weights=time.monotonic() - began)
        yield
        if self._sleeps and not self._failed:
            # Level 2 forgets the weights: they are brought over anyway. Base weights under an adapter are not.
            self._do("sleep", lambda: self._llm.sleep(level=1 if self._vlm.adapted else 2))
            self._asleep, self._changed = True, self._changed or not self._vlm.adapted

    def weights_changed(self) -> None:
        """Bring them over before the next play."""
        self._changed = True

    def figures(self) -> Mapping[str, float]:
        """Share of prompt tokens that were cached, seconds spent on weights, difference on the fixed prompt."""
        return self._tally.take()

    def close(self) -> None:
        """Free the device, if vLLM still listens."""
        if not self._failed:
            self._do("stop", self._llm.llm_engine.engine_core.shutdown)

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion per request, in order, by the newest weights that were brought over. Raises `UserError`."""
        return self._generate(requests, self._adapter)

    def base(self) -> common.WithoutAdapter:
        """The engine of the frozen start: the same one without its adapter. LoRA only."""
        return common.WithoutAdapter(self._vlm, lambda requests: self._generate(requests, None))

    def _generate(self, requests: Sequence[Request], adapter: Any) -> list[Completion]:
        common.check_all(self._vlm, requests, self._config)
        outputs = self._do("answer", lambda: self._answer(requests, adapter)) if requests else []
        done = []
        for request, output in zip(requests, outputs, strict=True):
            [drawn] = output.outputs
            logprobs = [at[token].logprob for at, token in zip(drawn.logprobs, drawn.token_ids, strict=True)]
            done.append(common.completion(self._vlm, request, output.prompt_token_ids, drawn.token_ids, logprobs))
            self._tally.add(prompt_tokens=len(output.prompt_token_ids), cached_tokens=output.num_cached_tokens or 0)
        return done

    # In vLLM's thread

    def _do(self, what: str, function: Callable[[], T]) -> T:
        try:
            return self._thread.call(function)
        except UserError:
            self._failed = True
            raise
        except Exception as e:
            self._failed = True
            first = str(e).strip().splitlines()[:1]
            raise UserError(
                f"vLLM failed to {what} ({type(e).__name__}: {''.join(first)}). If memory ended, lower "
                "rollouts.vllm.memory or rollouts.batch_size; then start the run again, it resumes from its last "
                "checkpoint. rollouts.engine=hf plays without vLLM"
            ) from e

    def _start(self, processes: int) -> Any:
        from vllm import LLM

        return LLM(
            model=str(self._folder / "model"),
            gpu_memory_utilization=self._config.rollouts.vllm.memory,
            enable_sleep_mode=self._sleeps,
            # several training processes, each an engine by itself
            distributed_executor_backend="external_launcher" if processes > 1 else None,
            disable_log_stats=True,
            **common.engine_settings(self._vlm, self._config),
        )

    def _bring(self) -> None:
        """Wake up as far as needed, take the weights, forget all that was computed with others."""
        self._version += 1
        if self._vlm.adapted:
            self._bring_adapter()
            return
        if self._asleep:
            self._llm.wake_up(tags=["weights"])
        weights = ((name, weight.detach()) for name, weight in self._vlm.plain_weights())
        self._settle()
        self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": weights})
        self._settle()
        if self._asleep:
            self._llm.wake_up(tags=["kv_cache"])
        # The engine's own books of what its worker has cached: without this it waits for features that are gone.
        self._llm.llm_engine.reset_mm_cache()
        self._llm.llm_engine.reset_encoder_cache()
        self._llm.reset_prefix_cache()

    def _settle(self) -> None:
        """The trainer and vLLM queue their work on the device apart: what one writes the other must not read early."""
        if self._vlm.device.type == "cuda":
            torch.cuda.synchronize(self._vlm.device)

    def _bring_adapter(self) -> None:
        """The adapter alone, under a new name: prompts cached under the old one are not found any more."""
        from vllm.lora.request import LoRARequest

        if self._asleep:
            self._llm.wake_up()
        place = self._folder / f"adapter-{self._version}"
        self._vlm.save(place)
        if self._adapter is not None:
            self._llm.llm_engine.remove_lora(self._adapter.lora_int_id)
        self._adapter = LoRARequest(place.name, self._version, str(place))
        self._llm.llm_engine.add_lora(self._adapter)
        shutil.rmtree(place)

    def _answer(self, requests: Sequence[Request], adapter: Any) -> list[Any]:
        from vllm import SamplingParams

        pictures = {p.sha: common.rgb(p) for r in requests for p in r.pictures}
        prompts: list[dict[str, Any]] = []
        for request in requests:
            prompt: dict[str, Any] = {"prompt_token_ids": common.collapsed(self._vlm, request)}
            if request.pictures:
                hashes = [p.sha for p in request.pictures]
                prompt |= {
                    "multi_modal_data": {"image": [pictures[sha] for sha in hashes]},
                    "multi_modal_uuids": {"image": hashes},
                }
            prompts.append(prompt)
        settings = [SamplingParams(**common.sampling(self._vlm, r)) for r in requests]
        # What `LLM.generate` does, with a sign of life after each step.
        self._llm.enqueue(prompts, settings, lora_request=adapter, use_tqdm=False)
        done: list[Any] = []
        engine = self._llm.llm_engine
        while engine.has_unfinished_requests():
            done += [output for output in engine.step() if output.finished]
            self._thread.beat()
        return sorted(done, key=lambda output: int(output.request_id))
