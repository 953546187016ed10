"""Second stage: the language model learns to speak of what the frozen vision tower sees."""

from __future__ import annotations

from random import Random

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Qwen2_5_VLForConditionalGeneration

from vision_zero.models.nano.architecture import CELLS
from vision_zero.models.nano.curriculum import NO, YES, Batch, collate, question_row, table_row
from vision_zero.models.nano.scenes import Scenes
from vision_zero.models.nano.training import half_precision
from vision_zero.seeds import derive_seed

_TABLES = 0.6
"""Share of rows that are games; the others are questions."""
_TRUTH = 0.5
"""Weight of the probability that goes to anything that the teacher would never say."""


class Speech:
    """The stage. `features` (2N, cells, hidden size) are what the vision tower makes of the scenes' pictures."""

    def __init__(
        self, model: Qwen2_5_VLForConditionalGeneration, scenes: Scenes, features: Tensor, batch: int, seed: int
    ) -> None:
        self.model, self.scenes, self.features, self.batch, self.seed = model, scenes, features, batch, seed
        self.modules: list[nn.Module] = [model.model.language_model]

    def loss(self, step: int, share: slice) -> tuple[Tensor, dict[str, float]]:
        """Cross-entropy with the teacher's distributions, and with the truth of every public clue."""
        numbers = range(self.batch)[share]
        kinds = {True: table_row, False: question_row}
        total = torch.zeros(())
        figures: dict[str, float] = {}
        tables = [n for n in numbers if n < _TABLES * self.batch]
        for kind, group in (("tables", tables), ("questions", [n for n in numbers if n not in tables])):
            if not group:
                continue
            rngs = [Random(derive_seed(self.seed, "speech", step, n)) for n in group]
            pictures = [rng.randrange(len(self.scenes)) for rng in rngs]
            described = self.scenes.described
            make = kinds[kind == "tables"]
            batch = collate([make(r, described[p], described[p ^ 1]) for r, p in zip(rngs, pictures, strict=True)])
            loss, more = self._loss(batch, self.features[pictures])
            total = total + loss
            figures |= {f"{kind}/{name}": value for name, value in more.items()}
        return total, figures

    def _loss(self, batch: Batch, features: Tensor) -> tuple[Tensor, dict[str, float]]:
        hidden = read(self.model, batch, features)
        scores = self.model.lm_head(hidden[batch.where[:, 0], batch.where[:, 1]]).log_softmax(-1)
        teach = -(batch.targets * scores).sum(-1)
        entropy = torch.special.entr(batch.targets).sum(-1)
        true = -scores.masked_fill(batch.targets == 0, -torch.inf).logsumexp(-1)
        weights = batch.weights / batch.weights.sum()
        yes_no = self.model.lm_head(hidden[batch.verdict_where[:, 0], batch.verdict_where[:, 1]])[:, [NO, YES]]
        verdict = F.cross_entropy(yes_no, batch.verdict_truth)
        loss = (weights * (teach + _TRUTH * true)).sum() + 0.5 * verdict
        figures = {
            "excess": (weights * (teach - entropy)).sum().item(),
            "false": (weights * (1 - (-true).exp())).sum().item(),
            "verdict": (yes_no.argmax(-1) == batch.verdict_truth).float().mean().item(),
        }
        return loss, figures


def read(model: Qwen2_5_VLForConditionalGeneration, batch: Batch, features: Tensor) -> Tensor:
    """Last hidden states (B, L, H) of the rows with their pictures' features (B, cells, H) in place."""
    words = model.get_input_embeddings()(batch.ids)
    embedded = torch.cat([words[:, :1], features.to(words.dtype), words[:, 1 + CELLS :]], dim=1)
    with half_precision():
        hidden: Tensor = model.model.language_model(
            inputs_embeds=embedded,
            attention_mask={"full_attention": batch.mask},
            position_ids=batch.positions,
            use_cache=False,
        ).last_hidden_state
    return hidden.float()
