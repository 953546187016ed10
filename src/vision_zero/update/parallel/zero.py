"""Gradients and moments in pieces over all processes, and weights too in stage 3, by DeepSpeed's ZeRO.

Called directly and not through accelerate's plugin, whose backward takes the step as well: between the two stands
the check that gradients are finite.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, gather_object

from vision_zero.config import RunConfig, UpdateConfig
from vision_zero.errors import UserError
from vision_zero.models.base import VLM
from vision_zero.update.parallel.twin import Whole, twin
from vision_zero.update.scorer import Scorer


class Zero:
    """The layouts `zero2` and `zero3`. In stage 2 the model that plays is the one that trains: its weights stay whole.

    The optimizer's state is saved in the pieces in which DeepSpeed holds it, so that it goes on with the same stage
    and number of processes only. Raises `UserError` if DeepSpeed is not installed.
    """

    even = True

    def __init__(
        self, vlm: VLM, scorer: Scorer, config: RunConfig, accelerator: Accelerator, stage: Literal[2, 3]
    ) -> None:
        self._stage, self._device, self._processes = stage, accelerator.device, accelerator.num_processes
        self._rank, self._main = accelerator.process_index, accelerator.is_main_process
        for parameter in vlm.model.parameters():
            parameter.data.copy_(broadcast(parameter.data))  # every process trains what the first one has
        self._whole: Whole | None = None
        trained = vlm
        if stage == 3:
            trained = twin(vlm)
            self._whole = Whole(vlm, [name for name, _ in trained.model.named_parameters()])
            scorer = Scorer(trained, config.rollouts.temperature)
        self._parameters = dict(trained.model.named_parameters())
        self._names = [name for name, _ in trained.trainable()]
        self._deepspeed = _deepspeed()
        trainable = [parameter for _, parameter in trained.trainable()]
        self._engine, self._optimizer, _, _ = self._deepspeed.initialize(
            model=scorer,
            optimizer=torch.optim.AdamW(
                trainable,
                lr=config.update.learning_rate,
                betas=config.update.betas,
                weight_decay=config.update.weight_decay,
                fused=True,
            ),
            config=_settings(stage, config.update, config.model.dtype),
            dist_init_required=False,
        )
        self.scorer: torch.nn.Module = self._engine

    @contextmanager
    def training(self) -> Iterator[None]:
        """In stage 3 the whole model gives its memory to training, and comes back with the new weights."""
        if self._whole is not None:
            self._whole.free()
        yield
        if self._whole is not None:
            for name, parameter in self._parameters.items():
                with self._deepspeed.zero.GatheredParameters([parameter]):
                    self._whole.take(name, parameter.detach().clone())

    def clear(self) -> None:
        """Forget all gradients, also those that DeepSpeed has put away in pieces."""
        self._optimizer.zero_grad(set_to_none=True)
        self._optimizer.averaged_gradients = {}
        if self._stage == 2:
            self._optimizer.all_grad_tensors = {}
            self._optimizer.micro_step_id = -1

    def backward(self, loss: torch.Tensor, last: bool) -> None:
        """Gradients are summed over processes and cut into pieces in passing."""
        self._engine.set_gradient_accumulation_boundary(last)
        self._engine.backward(loss * self._processes, scale_wrt_gas=False)  # it takes the mean over processes

    def synchronise(self) -> None:
        """Every backward has."""

    def finite(self) -> bool:
        """Of all pieces on all processes."""
        return not self._optimizer.has_overflow()

    def step(self, rate: float) -> torch.Tensor:
        """Every process steps its pieces."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._engine.step()
        return torch.as_tensor(float(self._engine.get_global_grad_norm()), device=self._device)

    def state_dict(self) -> dict[str, Any]:
        """Masters and moments of all processes, in the order of their ranks, kept by the first process."""
        adam = self._optimizer.optimizer.state
        mine = [
            {"master": piece.detach().cpu(), **{key: value.cpu() for key, value in adam.get(piece, {}).items()}}
            for piece in self._pieces()
        ]
        pieces = gather_object([mine])
        return {"layout": self._layout, "names": self._names, "pieces": pieces if self._main else []}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Every process takes its pieces. Raises `UserError` if another layout has saved them."""
        if state.get("layout") != self._layout or list(state["names"]) != self._names:
            raise UserError(
                f"the optimizer was saved for other trainable weights or another layout than {self._layout}: resume "
                "with the same model.train, model.lora, devices.shard and number of processes"
            )
        adam = self._optimizer.optimizer.state
        for piece, saved in zip(self._pieces(), state["pieces"][self._rank], strict=True):
            piece.data.copy_(saved["master"])
            adam[piece] = {k: v.to(self._device) if v.dim() else v.clone() for k, v in saved.items() if k != "master"}
        if self._whole is not None:
            for name, weight in self._whole:
                with self._deepspeed.zero.GatheredParameters([self._parameters[name]], modifier_rank=0):
                    self._parameters[name].data.copy_(weight)

    @property
    def _layout(self) -> str:
        return f"zero{self._stage} over {self._processes} processes"

    def _pieces(self) -> Sequence[torch.Tensor]:
        """This process's float32 masters, flat, as the inner optimizer knows them."""
        inner = self._optimizer
        pieces: Sequence[torch.Tensor] = (
            inner.single_partition_of_fp32_groups if self._stage == 2 else inner.fp32_partitioned_groups_flat
        )
        return pieces


def _settings(stage: int, update: UpdateConfig, dtype: str) -> dict[str, Any]:
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": update.max_gradient_norm,
        "zero_optimization": {"stage": stage, "overlap_comm": torch.cuda.is_available()},
        "bf16": {"enabled": dtype == "bfloat16", "check_grad_overflow": True},
        "communication_data_type": "fp32",
        "data_types": {"grad_accum_dtype": "fp32"},
        "steps_per_print": 2**62,
    }


def _deepspeed() -> Any:
    on_cpu = not torch.cuda.is_available()
    if on_cpu:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    try:
        import deepspeed
    except ImportError as e:
        raise UserError(
            f"devices.shard=zero2 and zero3 need DeepSpeed ({e}): pip install 'vision-zero[deepspeed]'"
        ) from e
    if on_cpu:  # a kernel that only inference uses: it would be compiled now, if there is a compiler
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.utils.logger.setLevel("WARNING")
    return deepspeed
