"""Do log-probs depend on the pictures? A VLM pipeline that drops or misplaces features trains on, blind."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from PIL import Image, ImageStat

from vision_zero.errors import UserError
from vision_zero.types import Picture, Sample
from vision_zero.update.updater import Updater

SAMPLES = 16
"""Samples of each kind that are looked at."""
BLIND = 1e-6
"""Mean change of log-probs below which a model does not see its pictures."""


def require_sight(updater: Updater, samples: Sequence[Sample], pictures: Mapping[str, Picture]) -> dict[str, float]:
    """`sight_check` on a few samples of each kind. Raises `UserError` if the model is blind."""
    shown = [s for kind in dict.fromkeys(map(_kind, samples)) for s in islice(_of(samples, kind), SAMPLES)]
    found = sight_check(updater, shown, pictures)
    if found["sight"] < BLIND:
        raise UserError(
            f"log-probs do not depend on the pictures (mean change {found['sight']:.2e} over {len(shown)} samples): "
            "the model is blind, training would be meaningless. Check model.path and its processor"
        )
    return found


def sight_check(updater: Updater, samples: Sequence[Sample], pictures: Mapping[str, Picture]) -> dict[str, float]:
    """Mean |change| of the samples' token log-probs when each picture gives way to a uniform one of its mean
    colour and its size, which takes the same number of placeholders: `sight` over all tokens, and over those of each
    kind of sample, `sight/clue` and `sight/decision`.

    0 means blind. Samples that show only uniform pictures say nothing and are left out; raises `UserError`
    if there are no others.
    """
    blanks = {sha: _blank(pictures[sha]) for s in samples for sha in s.prompt.pictures}
    seeing = [s for s in samples if any(blanks[sha] is not None for sha in s.prompt.pictures)]
    if not seeing:
        raise UserError("no sample shows a picture that is not uniform: sight cannot be checked on these pairs")
    scored = updater.pack(seeing, pictures)
    without = {sha: blank or pictures[sha] for sha, blank in blanks.items()}
    change = (updater.score(scored, pictures) - updater.score(scored, without)).abs()
    kinds = [_kind(scored.samples[i]) for i in scored.owner.tolist()]
    found = {"sight": float(change.mean())}
    for kind in sorted(set(kinds)):
        found[f"sight/{kind}"] = float(change[[k == kind for k in kinds]].mean())
    return found


def _kind(sample: Sample) -> str:
    """Example: "clue" of a sample labelled "clue/spy"."""
    return sample.label.partition("/")[0]


def _of(samples: Sequence[Sample], kind: str) -> Iterator[Sample]:
    return (s for s in samples if _kind(s) == kind)


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
