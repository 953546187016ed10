"""Do log-probs depend on the pictures? A VLM pipeline that drops or misplaces features trains on, blind."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

from PIL import Image, ImageStat

from vision_zero.errors import UserError
from vision_zero.types import Picture, Sample
from vision_zero.update.updater import Updater

SAMPLES = 16
BLIND = 1e-6
"""Mean change of log-probs below which a model does not see its pictures."""


def require_sight(updater: Updater, samples: Sequence[Sample], pictures: Mapping[str, Picture]) -> float:
    """`sight_check` on a few of the samples. Raises `UserError` if the model is blind."""
    shown = samples[:SAMPLES]
    change = sight_check(updater, shown, pictures)
    if change < BLIND:
        raise UserError(
            f"log-probs do not depend on the pictures (mean change {change:.2e} over {len(shown)} samples): "
            "the model is blind, training would be meaningless. Check model.path and its processor"
        )
    return change


def sight_check(updater: Updater, samples: Sequence[Sample], pictures: Mapping[str, Picture]) -> float:
    """Mean |change| of the samples' token log-probs when each picture gives way to a uniform one of its mean
    colour and its size, which takes the same number of placeholders.

    0 means blind. Samples that show only uniform pictures say nothing and are left out; raises `UserError`
    if there are no others.
    """
    blanks = {sha: _blank(pictures[sha]) for s in samples for sha in s.prompt.pictures}
    seeing = [s for s in samples if any(blanks[sha] is not None for sha in s.prompt.pictures)]
    if not seeing:
        raise UserError("no sample shows a picture that is not uniform: sight cannot be checked on these pairs")
    scored = updater.pack(seeing, pictures)
    without = {sha: blank or pictures[sha] for sha, blank in blanks.items()}
    change = updater.score(scored, pictures) - updater.score(scored, without)
    return float(change.abs().mean())


def _blank(picture: Picture) -> Picture | None:
    """A uniform picture of the same size and mean colour; None for a picture that is uniform itself."""
    image = Image.open(io.BytesIO(picture.data)).convert("RGB")
    statistics = ImageStat.Stat(image)
    if all(low == high for low, high in statistics.extrema):
        return None
    red, green, blue = (round(mean) for mean in statistics.mean)
    data = io.BytesIO()
    Image.new("RGB", image.size, (red, green, blue)).save(data, "PNG")
    return Picture(data.getvalue())
