"""Base and checkpoint answer the same probes under the same settings, which are written next to the score."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from random import Random
from typing import Any

from vision_zero.config import RunConfig
from vision_zero.errors import UserError
from vision_zero.evaluate import chart_probes, clevr_probes
from vision_zero.evaluate.held_out import Row
from vision_zero.evaluate.probes import Probe, ProbeSet, is_right, messages_of
from vision_zero.evaluate.scoreboard import row_to_json, write_sheet
from vision_zero.evaluate.statistics import Counts, difference, rate
from vision_zero.evaluate.weights import Weights
from vision_zero.models.base import load
from vision_zero.pairs import open_pairs
from vision_zero.rollouts.engine import Request
from vision_zero.rollouts.hf import HfEngine
from vision_zero.runs import provenance
from vision_zero.runs.files import write_atomic
from vision_zero.seeds import derive_seed
from vision_zero.types import JSON, PicturePart, StopReason

MAX_NEW_TOKENS = {"full": 512, "compact": 12}


@dataclass(frozen=True)
class Reply:
    """What a model said to a probe, greedily; `cut` if the token limit ended it."""

    text: str
    cut: bool


@dataclass(frozen=True)
class Exam:
    """Rows compare base and checkpoint on each family, on all probes, and by how many replies cannot be read."""

    base: str
    checkpoint: str
    rows: tuple[Row, ...]
    settings: JSON
    left_out: dict[str, str]

    def to_json(self) -> JSON:
        """Plain data for `json.dumps`, verdicts included."""
        return asdict(self) | {"rows": [row_to_json(row) for row in self.rows]}


def make_probes(config: RunConfig, pairs: int) -> ProbeSet:
    """Probes on the first `pairs` held-out pairs, by kind of picture and by wording.

    Raises `UserError` if pictures come without facts, or if no question can be worded.
    """
    source = open_pairs(config.pairs, config.seed, "held_out")
    wording, probes, kind = config.game.wording, [], ""
    for index in range(min(pairs, len(source))):
        pair = source[index]
        rng = Random(derive_seed(config.seed, "probes", index))
        facts = pair.original.facts or {}
        if "objects" in facts:
            kind, made = "scenes", list(clevr_probes.clevr_probes(pair, rng, wording))
        elif "chart" in facts and wording == "full":
            kind, made = "charts", list(chart_probes.chart_probes(pair, rng))
        elif "chart" in facts:
            raise UserError("the tiny model has no words to ask about charts: set game.wording=full")
        else:
            raise UserError(
                f"pair {pair.id} does not tell what is in its pictures, so that no question has a known answer: "
                "use pairs.kind=clevr or charts, or a folder made by `vision-zero pairs make`"
            )
        probes += made
    left_out = _left_out(kind, wording, probes)
    for family in {p.family: None for p in probes}:
        if len({p.pair for p in probes if p.family == family}) < 2:
            # no difference has an interval then
            probes = [p for p in probes if p.family != family]
            left_out[family] = "one pair alone allows such a question: raise --pairs"
    if not probes:
        raise UserError(f"{pairs} pairs gave too few probes to compare anything: raise --pairs")
    return ProbeSet(tuple(probes), left_out)


def sit(config: RunConfig, weights: Weights, probes: Sequence[Probe]) -> list[Reply]:
    """Greedy answers of a model. The model is gone afterwards."""
    vlm = load(weights.model)
    engine = HfEngine.of(vlm, config.rollouts)
    limit = MAX_NEW_TOKENS[config.game.wording]
    requests = []
    for probe in probes:
        messages = messages_of(probe, config.game.wording)
        shown = tuple(p.picture for m in messages for p in m.parts if isinstance(p, PicturePart))
        requests.append(Request(vlm.encode(messages), shown, 0, limit, 0.0))
    return [Reply(vlm.decode(c.ids), c.stop is StopReason.LENGTH) for c in engine.generate(requests)]


def mark(probes: Sequence[Probe], base: Sequence[Reply], checkpoint: Sequence[Reply]) -> tuple[Row, ...]:
    """Compare replies to the same probes. Pairs are the units of the intervals: their probes share pictures."""
    sides = (base, checkpoint)
    families = list(dict.fromkeys(p.family for p in probes))
    rows = []
    for name in (*families, "all"):
        mine = [k for k, p in enumerate(probes) if name in (p.family, "all")]
        old, new = (_right([probes[k] for k in mine], [side[k] for k in mine]) for side in sides)
        rows.append(_row(name, "questions answered rightly" if name == "all" else name.replace("_", " "), old, new))
    old, new = (_unreadable(probes, side) for side in sides)
    rows.append(_row("unreadable", "replies without a readable answer", old, new, better="lower"))
    return tuple(rows)


def check_fair(base: Weights, checkpoint: Weights) -> None:
    """Raises `UserError` if the two would be loaded in different ways."""
    for name in ("dtype", "attention", "max_pixels"):
        ours, theirs = getattr(base.model, name), getattr(checkpoint.model, name)
        if ours != theirs:
            raise UserError(f"model.{name} is {ours} for the base and {theirs} for the checkpoint: no fair comparison")


def hold_exam(config: RunConfig, base: Weights, checkpoint: Weights, pairs: int, out: Path) -> Exam:
    """Ask both, compare, and write `exam.json`, `table.md` and `replies.jsonl` into `out`.

    Raises `UserError` as `make_probes` and `check_fair` do.
    """
    asked = make_probes(config, pairs)
    check_fair(base, checkpoint)
    replies = [sit(config, weights, asked.probes) for weights in (base, checkpoint)]
    exam = Exam(
        base.version,
        checkpoint.version,
        mark(asked.probes, *replies),
        _settings(config, base, asked.probes, pairs),
        dict(asked.left_out),
    )
    out.mkdir(parents=True, exist_ok=True)
    lines = (_told(probe, *both) for probe, *both in zip(asked.probes, *replies, strict=True))
    write_atomic(out / "replies.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())
    write_sheet(out, "probes", exam.to_json())
    return exam


def _left_out(kind: str, wording: str, probes: Sequence[Probe]) -> dict[str, str]:
    asked = {p.family for p in probes}
    families = clevr_probes.FAMILIES if kind == "scenes" else chart_probes.FAMILIES
    unsaid = wording == "compact"
    reason = "the tiny model was taught no words for it" if unsaid else "no picture allows such a question"
    return {name: reason for name in families if name not in asked}


def _right(probes: Sequence[Probe], replies: Sequence[Reply]) -> Counts:
    """One trial a family and pair, right if all its probes are."""
    flags = []
    for _, of_pair in groupby(zip(probes, replies, strict=True), key=lambda both: both[0].pair):
        right: dict[str, bool] = {}
        for probe, reply in of_pair:
            right[probe.family] = right.get(probe.family, True) and is_right(probe, reply.text) is True
        flags.append(right.values())
    return Counts.of(flags)


def _unreadable(probes: Sequence[Probe], replies: Sequence[Reply]) -> Counts:
    both = zip(probes, replies, strict=True)
    return Counts.of([is_right(p, r.text) is None for p, r in group] for _, group in groupby(both, lambda b: b[0].pair))


def _row(name: str, label: str, old: Counts, new: Counts, better: Any = "higher") -> Row:
    return Row(name, label, better, rate(old), rate(new), difference(old, new))


def _settings(config: RunConfig, base: Weights, probes: Sequence[Probe], pairs: int) -> JSON:
    """Everything that is needed to repeat the score. Base and checkpoint share all of it."""
    wording = config.game.wording
    examples = {p.family: messages_of(p, wording)[0].parts[-1] for p in reversed(probes)}
    return {
        "pictures": {
            "pairs": config.pairs.model_dump(mode="json"),
            "seed": config.seed,
            "split": "held_out",
            "first": pairs,
            "fingerprint": open_pairs(config.pairs, config.seed, "held_out").fingerprint,
        },
        "pixels": {"max_pixels": base.model.max_pixels},
        "prompts": {"wording": wording, "system": None, "examples": {k: v.text for k, v in examples.items()}},  # type: ignore[union-attr]
        "decoding": {"temperature": 0, "max_new_tokens": MAX_NEW_TOKENS[wording], "batch": config.rollouts.batch_size},
        "model": {"dtype": base.model.dtype, "attention": base.model.attention},
        "versions": provenance.versions(),
        "commit": provenance.commit(),
    }


def _told(probe: Probe, base: Reply, checkpoint: Reply) -> JSON:
    return {
        "family": probe.family,
        "pair": probe.pair,
        "pictures": [p.sha for p in probe.pictures],
        "question": probe.question,
        "answer": probe.answer,
        "base": asdict(base) | {"right": is_right(probe, base.text)},
        "checkpoint": asdict(checkpoint) | {"right": is_right(probe, checkpoint.text)},
    }
