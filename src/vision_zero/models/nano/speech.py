"""Second stage: the language model learns to speak of what the frozen vision tower sees."""

from __future__ import annotations

from random import Random

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Qwen2_5_VLForConditionalGeneration

from vision_zero.models.nano.architecture import CELLS
from vision_zero.models.nano.curriculum import NO, YES, Batch, MakeRow, collate, question_row, table_row
from vision_zero.models.nano.scenes import Scenes
from vision_zero.models.nano.training import half_precision
from vision_zero.seeds import derive_seed

_TABLES = 0.6
"""Share of rows that are games; the others are questions."""
_TRUTH = 1.0
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
        tables = [n for n in numbers if n < _TABLES * self.batch]
        questions = [n for n in numbers if n >= _TABLES * self.batch]
        total = torch.zeros(())
        figures: dict[str, float] = {}
        # apart, because rows of one kind are of about one length
        for kind, make, group in (("tables", table_row, tables), ("questions", question_row, questions)):
            if group:
                loss, more = self._loss(*self._batch(step, group, make))
                total = total + loss
                figures |= {f"{kind}/{name}": value for name, value in more.items()}
        return total, figures

    def _batch(self, step: int, numbers: list[int], make: MakeRow) -> tuple[Batch, Tensor]:
        """Rows of these numbers in the batch of a step, and their pictures' features."""
        rngs = [Random(derive_seed(self.seed, "speech", step, n)) for n in numbers]
        pictures = [rng.randrange(len(self.scenes)) for rng in rngs]
        described = self.scenes.described
        rows = [make(rng, described[p], described[p ^ 1]) for rng, p in zip(rngs, pictures, strict=True)]
        return collate(rows), self.features[pictures]

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
