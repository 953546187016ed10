"""A checkpoint as a folder for the Hub: the model as it is, and a card filled from its run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import yaml

from vision_zero.config import RunConfig
from vision_zero.errors import UserError
from vision_zero.evaluate.arena_report import markdown
from vision_zero.evaluate.curves import plot_curves
from vision_zero.evaluate.scoreboard import read_sheets, table
from vision_zero.evaluate.weights import Weights
from vision_zero.models import files
from vision_zero.runs.files import read_object, within
from vision_zero.runs.store import RunStore
from vision_zero.types import JSON

MEASURES = {
    "win/civilian": "games won by the civilians",
    "votes/accuracy": "votes that name the spy",
    "votes/na": "votes that abstain",
    "votes/invalid": "votes that cannot be read",
    "clues/malformed": "clues that cannot be read",
    "update/kl": "KL to the start",
    "update/entropy": "entropy (nats a token)",
}
"""Metrics of the run that the card tells, of its first and its last step before the checkpoint."""


def export_checkpoint(weights: Weights, out: Path, exam: Path | None = None) -> None:
    """Copy the model's files and write README.md, recipe.yaml and curves.png beside them.

    `exam` is a folder that `vision-zero eval` wrote for this very checkpoint. Raises `UserError` if the
    folder is not empty, if the model is not a checkpoint of a run, or if the exam is of other weights.
    """
    if weights.run is None or weights.step is None or weights.folder is None:
        raise UserError("only a checkpoint of a run can be told about: give RUN and a step")
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out} is not empty: choose another folder for the checkpoint")
    found = [] if exam is None else _exam(exam, weights)
    held_out = _held_out(weights.run, weights.step)
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(f".{out.name}.partial")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    shutil.copytree(weights.folder, unfinished)
    config = public(weights.run.config)
    metrics = [m for m in weights.run.read_metrics() if m["step"] < weights.step]
    (unfinished / "recipe.yaml").write_text(
        yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8"
    )
    plot_curves(metrics, unfinished / "curves.png")
    adapter = unfinished / "adapter_config.json"
    if adapter.exists():
        tree = json.loads(adapter.read_text(encoding="utf-8"))
        tree["base_model_name_or_path"] = config["model"]["path"]
        adapter.write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")
    card = _card(weights, config, metrics, held_out, found)
    (unfinished / "README.md").write_text("\n".join(card), encoding="utf-8")
    if out.exists():
        out.rmdir()
    unfinished.rename(out)


def public(config: RunConfig) -> JSON:
    """The settings without the places of one machine: of an absolute path only its last name is told."""

    def scrub(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: scrub(v) for k, v in value.items()}
        if isinstance(value, list):
            return [scrub(v) for v in value]
        return _last_name(value) if isinstance(value, str) else value

    tree: JSON = scrub(config.model_dump(mode="json"))
    return tree


def _last_name(text: str) -> str:
    path = PurePath(text)
    return path.name if path.is_absolute() else text


def _exam(folder: Path, weights: Weights) -> list[JSON]:
    sheets = read_sheets(folder)
    if not sheets:
        raise UserError(f"{folder} holds no evaluation: name a folder that `vision-zero eval` wrote")
    for tree in sheets:
        if tree["checkpoint"] != weights.version:
            raise UserError(f"{folder} is of {tree['checkpoint']}, not of {weights.version}: evaluate this checkpoint")
    return sheets


def _card(
    weights: Weights, config: JSON, metrics: Sequence[Mapping[str, Any]], held_out: Sequence[str], exam: list[JSON]
) -> Iterator[str]:
    run, model = weights.run, config["model"]
    assert run is not None
    assert weights.folder is not None
    base, adapter = model["path"], files.adapter_folder(str(weights.folder)) is not None
    head = {
        **({"base_model": base} if "/" in base else {}),
        "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": "image-text-to-text",
        "tags": ["vision-zero", "self-play", "reinforcement-learning"],
    }
    yield from ("---", yaml.safe_dump(head, sort_keys=False).rstrip(), "---", "")
    what = "A LoRA adapter for" if adapter else "A version of"
    yield f"# {config['name']}, step {weights.step}"
    yield ""
    yield f"{what} `{base}`, trained without labels by playing *who is the spy* against itself on pairs of pictures"
    yield "([Vision-Zero](https://arxiv.org/abs/2509.25541), an independent implementation)."
    yield from ("", "## Data", "")
    yield f"Pairs of pictures of kind `{config['pairs']['kind']}`; no question, answer or label. Settings:"
    yield from ("", "```yaml", yaml.safe_dump(config["pairs"], sort_keys=False, allow_unicode=True).rstrip(), "```")
    yield from ("", "## Recipe", "")
    yield f"{len(metrics)} steps of {config['games_per_step']} games, seed {config['seed']}. Every setting is in"
    yield "[recipe.yaml](recipe.yaml): `vision-zero train recipe.yaml` trains it again."
    yield ""
    yield f"Software: {', '.join(f'{k} {v}' for k, v in run.info['versions'].items())}; commit {run.info['commit']}."
    yield from ("", "## Curves", "", "![what happened in training](curves.png)", "")
    if metrics:
        rows = [[label, _number(metrics[0].get(k)), _number(metrics[-1].get(k))] for k, label in MEASURES.items()]
        yield markdown(["in self-play", f"step {metrics[0]['step'] + 1}", f"step {metrics[-1]['step'] + 1}"], rows)
        yield from ("", "Self-play figures move when either side moves: they do not tell how good the model is.")
    yield from ("", "## Evaluation", "")
    yield from _evaluation(weights.step, config["steps"], held_out, exam)
    yield from ("", "## Limits", "")
    yield f"- Trained on pictures of kind `{config['pairs']['kind']}` alone: nothing here tells of others."
    yield "- It was rewarded for hiding as a spy: what it says in that role is meant to mislead."
    if not exam:
        yield "- It was not compared with its base model outside of the game."
    yield "- One run with one seed: intervals are over games and questions, not over runs."
    yield "- Biases and errors of the base model were neither measured nor removed."
    yield ""


def _held_out(run: RunStore, step: int) -> tuple[str, ...]:
    """What is told of the run's held-out games; nothing if they were not of this step."""
    file = within(run.path, run.path / "held_out.json")
    result: JSON = read_object(file) if file.exists() else {"policy": None}
    try:
        if str(result["policy"]) != str(step):
            return ()
        games = f"{result['games']} held-out games, frozen start against this checkpoint, the same deals for both:"
        return games, "", _table(result["rows"])
    except (KeyError, TypeError, ValueError) as e:
        raise UserError(f"{file} is not what a run writes ({type(e).__name__}: {e}): restore or remove it") from e


def _evaluation(step: int | None, steps: int, held_out: Sequence[str], exam: list[JSON]) -> Iterator[str]:
    yield from held_out
    if exam:
        yield ""
        yield "Questions outside of the game, base model beside checkpoint, greedy:"
        yield from ("", table(exam))
    if not held_out and not exam:
        yield f"None was made of step {step} (the run has {steps})."


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    cells = [
        [row["label"], f"{row['before']['point']:.0%}", f"{row['after']['point']:.0%}", _points(row["difference"]),
         row["verdict"]] for row in rows
    ]  # fmt: skip
    return markdown(["", "start", "this checkpoint", "difference (95 %)", "verdict"], cells)


def _points(e: Mapping[str, float]) -> str:
    return f"{100 * e['point']:+.0f} ({100 * e['low']:+.0f} to {100 * e['high']:+.0f})"


def _number(value: Any) -> str:
    return "–" if value is None else f"{value:.3f}"
