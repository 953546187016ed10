"""Is this machine ready to train? Versions, devices, and a small model through play and update, end to end.

Everything heavy runs in a process of its own, so that an installation that breaks on import is a finding too.
"""

from __future__ import annotations

import importlib.metadata as metadata
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from rich.console import Console
from rich.table import Table

PACKAGE = "vision-zero"
TOGETHER = ("torch", "torchvision", "transformers", "accelerate", "peft", "tokenizers", "huggingface_hub", "numpy")
"""Packages whose demands on each other are checked."""
EXTRAS = {
    "flash_attn": ("flash-attn", "model.attention=flash_attention_2"),
    "num2words": ("num2words", "SmolVLM"),
    "diffusers": ("diffusers", "pairs edited by a model on this machine"),
    "vllm": ("'vision-zero[vllm]'", "rollouts.engine=vllm"),
    "wandb": ("wandb", "save.trackers=[wandb]"),
    "trackio": ("trackio", "save.trackers=[trackio]"),
}
"""Module -> what to install, and what needs it."""
TRIAL_SECONDS = 300
ROOM = 20 * 2**30
"""Free bytes on the disk below which a word is due: enough for adapters, not for a whole 7B (100 GB a checkpoint)."""


@dataclass(frozen=True)
class Finding:
    """One line of the report. `mend`: the command or setting that helps; "" if all is well.

    Example: `Finding("torch 2.15.0", False, "torchvision 0.20 wants torch==2.5", "pip install -U torchvision")`
    """

    what: str
    well: bool
    found: str
    mend: str = ""


def examine(console: Console) -> bool:
    """Print all findings; whether nothing is wrong that training needs."""
    table = Table(title="doctor", title_justify="left")
    for name in ("", "what", "found", "what to do"):
        table.add_column(name, overflow="fold")
    well = True
    with console.status("a small model plays and learns"):
        findings = [*versions(), *devices(), disk(), trial()]
    for finding in findings:
        well = well and finding.well
        sign = "[green]ok[/green]" if finding.well else "[red]bad[/red]"
        table.add_row(sign, finding.what, finding.found, finding.mend)
    for module, (package, needed_for) in EXTRAS.items():
        if importlib.util.find_spec(module) is None:
            table.add_row("", package, f"not installed; needed for {needed_for}", f"pip install {package}")
    console.print(table)
    return well


def versions() -> Iterator[Finding]:
    """Whether what is installed is what we, and the packages themselves, ask of each other."""
    python = ".".join(map(str, sys.version_info[:3]))
    yield Finding(
        "python", sys.version_info >= (3, 11), python, "" if sys.version_info >= (3, 11) else "use 3.11 or newer"
    )
    for requirement in _requirements(PACKAGE):
        yield _met(requirement, PACKAGE)
    for package in TOGETHER:
        for requirement in _requirements(package):
            if requirement.name.replace("-", "_").lower() in TOGETHER:
                finding = _met(requirement, package)
                if not finding.well:
                    yield finding


def _requirements(package: str) -> list[Requirement]:
    """What a package needs here, without its extras. Empty if it is not installed, which its user is told."""
    try:
        texts = metadata.requires(package) or []
    except metadata.PackageNotFoundError:
        return []
    wanted = [Requirement(text) for text in texts]
    return [r for r in wanted if r.marker is None or r.marker.evaluate({"extra": ""})]


def _met(requirement: Requirement, by: str) -> Finding:
    command = f"pip install -U '{requirement.name}{requirement.specifier}'"
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return Finding(requirement.name, False, f"not installed, {by} needs it", command)
    if not requirement.specifier.contains(version, prereleases=True):
        return Finding(requirement.name, False, f"{version}, {by} wants {requirement.specifier}", command)
    return Finding(requirement.name, True, version)


LOOK = """
import json, torch, torchvision
from torchvision.ops import nms
out = {"cuda": torch.version.cuda, "there": torch.cuda.is_available(), "devices": []}
for i in range(torch.cuda.device_count()):
    p = torch.cuda.get_device_properties(i)
    with torch.cuda.device(i):
        free = torch.cuda.mem_get_info()[0]
    out["devices"].append([p.name, p.total_memory, free, torch.cuda.is_bf16_supported()])
print(json.dumps(out))
"""


def devices() -> Iterator[Finding]:
    """GPUs with their memory, or why there are none."""
    done = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=False)
    if done.returncode:
        wrong = _last_line(done.stderr)
        yield Finding("torch", False, f"does not start: {wrong}", "pip install -U --force-reinstall torch torchvision")
        return
    seen: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    if not seen["there"]:
        driver = shutil.which("nvidia-smi")
        if driver and seen["cuda"]:
            yield Finding(
                "GPU", False, f"nvidia-smi is there, torch (CUDA {seen['cuda']}) sees none", "update the driver"
            )
        else:
            yield Finding("GPU", True, "none: training runs on the CPU, which is for tiny models")
    for name, total, free, bf16 in seen["devices"]:
        found = f"{total / 2**30:.0f} GiB, {free / 2**30:.0f} free" + ("" if bf16 else ", no bfloat16")
        yield Finding(name, bool(bf16), found, "" if bf16 else "set model.dtype=float32")


def disk() -> Finding:
    """Room for checkpoints where runs go by default."""
    free = shutil.disk_usage(Path.cwd()).free
    mend = "" if free >= ROOM else "free some, or train with --out on another disk; `vision-zero plan` says how much"
    return Finding("disk", free >= ROOM, f"{free / 2**30:.0f} GiB free here", mend)


def trial() -> Finding:
    """A model of two layers through one step: games, credit, update, checkpoint."""
    with tempfile.TemporaryDirectory(prefix="vision-zero-doctor-") as folder:
        command = [sys.executable, "-m", "vision_zero.doctor", folder]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TRIAL_SECONDS)
        except subprocess.TimeoutExpired:
            return Finding("play and update", False, f"not done in {TRIAL_SECONDS} s", "end other work on this machine")
    if done.returncode:
        return Finding("play and update", False, _last_line(done.stderr), "mend what is bad above, else report this")
    return Finding("play and update", True, _last_line(done.stdout))


def run_trial(folder: Path) -> str:
    """What `trial` runs, in its own process; returns a line about it."""
    from vision_zero.config import RunConfig
    from vision_zero.models.nano.architecture import build_model, build_processor
    from vision_zero.runs.store import RunStore
    from vision_zero.train import train

    model = build_model(0)
    model.model.language_model.layers = model.model.language_model.layers[:2]
    text: Any = model.config.text_config
    text.num_hidden_layers, text.layer_types = 2, text.layer_types[:2]
    model.save_pretrained(folder / "model")
    build_processor().save_pretrained(folder / "model")
    config = RunConfig.model_validate(
        {
            "name": "doctor",
            "steps": 1,
            "games_per_step": 2,
            "pairs": {"kind": "clevr", "count": 4, "width": 96, "height": 64, "style": "nano"},
            "game": {"wording": "compact", "rounds": 1, "max_clue_tokens": 6, "max_vote_tokens": 2},
            "model": {"path": str(folder / "model")},
            "save": {"trackers": []},
        }
    )
    store = RunStore.create(folder / "runs", config, folder / "run")
    train(config, store.path, Console(quiet=True))
    (line,) = (store.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    seconds = json.loads(line)["seconds/step"]
    return f"2 games of a 2-layer model played and learnt from in {seconds:.1f} s, checkpoint written"


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no word"


if __name__ == "__main__":
    print(run_trial(Path(sys.argv[1])))
