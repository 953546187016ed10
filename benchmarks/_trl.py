"""The samples of a game through TRL's `GRPOTrainer`: its own log-probs and loss, in a pinned version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from tempfile import TemporaryDirectory
from typing import Any

import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from vision_zero.models.base import VLM
from vision_zero.types import Picture, Sample


class TrlUpdate:
    """TRL's log-prob and loss path on given samples, `rows` of them at a time.

    TRL itself loads the reference of the KL term, from the folder that the model came from.
    Loss "grpo": the mean over tokens of a sequence, then over sequences, as ours; likewise beta, epsilon, and a KL term
    that is not weighted by the ratio (TRL's default weights it, which adds a term to the gradient).
    """

    def __init__(self, vlm: VLM, rows: int, beta: float, epsilon: float, temperature: float) -> None:
        self._vlm, self._rows = vlm, rows
        self._folder = TemporaryDirectory(prefix="bench-trl-")
        settings = GRPOConfig(
            output_dir=self._folder.name,
            use_cpu=not torch.cuda.is_available(),
            bf16=False,
            activation_checkpointing=False,
            report_to="none",
            loss_type="grpo",
            beta=beta,
            use_bias_correction_kl=False,
            model_init_kwargs={"dtype": vlm.config.dtype},
            epsilon=epsilon,
            temperature=temperature,
            per_device_train_batch_size=rows,
            num_generations=rows if rows > 1 else 2,
            generation_batch_size=rows if rows > 1 else 2,
        )
        self.trainer: Any = GRPOTrainer(
            model=vlm.model,
            reward_funcs=lambda completions, **_: [0.0] * len(completions),
            args=settings,
            train_dataset=Dataset.from_dict({"prompt": ["-"]}),
            processing_class=vlm.processor,
        )

    def gradients(self, samples: Sequence[Sample], pictures: Mapping[str, Picture]) -> None:
        """Leave the gradient of the mean loss over `samples` in the parameters."""
        self._vlm.model.train()
        self.trainer.current_gradient_accumulation_steps = -(-len(samples) // self._rows)
        for start in range(0, len(samples), self._rows):
            batch = self.inputs(samples[start : start + self._rows], pictures)
            with torch.no_grad():
                # what GRPOTrainer does with beta > 0, before the loss
                batch["ref_per_token_logps"] = self._reference_logps(batch)
            self.trainer._compute_loss(self._vlm.model, batch).backward()
        self._vlm.model.eval()

    def inputs(self, samples: Sequence[Sample], pictures: Mapping[str, Picture]) -> dict[str, Any]:
        """A batch as `GRPOTrainer` pads it: prompts on the left, completions on the right, pixels sample by sample."""
        prompt_ids, prompt_mask = _pad([s.prompt.ids for s in samples], self._vlm.pad_id, left=True)
        ids, mask = _pad([s.ids for s in samples], self._vlm.pad_id, left=False)
        whole = torch.cat([prompt_ids, ids], dim=1)
        shown = [pictures[sha] for s in samples for sha in s.prompt.pictures]
        advantages = torch.tensor([s.advantage for s in samples])
        batch = {
            "prompt_ids": prompt_ids,
            "prompt_mask": prompt_mask,
            "completion_ids": ids,
            "completion_mask": mask,
            "advantages": advantages,
            "num_images": [len(s.prompt.pictures) for s in samples],
            "mm_token_type_ids": (whole == self._vlm.image_token_id).long(),
            **self._vlm.pixels(shown),
        }
        return {k: v.to(self._vlm.device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}

    def _reference_logps(self, batch: dict[str, Any]) -> torch.Tensor:
        names = ("pixel_values", "image_grid_thw", "num_images", "mm_token_type_ids")
        logps, _, _ = self.trainer._get_per_token_logps_and_entropies(
            self.trainer.ref_model,
            torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1),
            torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1),
            batch["completion_ids"].shape[1],
            **{name: batch[name] for name in names},
        )
        return logps


def _pad(rows: Sequence[Sequence[int]], pad: int, left: bool) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), pad)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for i, row in enumerate(rows):
        place = slice(width - len(row), None) if left else slice(len(row))
        ids[i, place], mask[i, place] = torch.tensor(row), 1
    return ids, mask
