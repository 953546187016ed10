"""Which model is meant: a run, one of its checkpoints, a model's folder, a Hub id, or the tiny one."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vision_zero.config import LoraConfig, ModelConfig
from vision_zero.errors import UserError
from vision_zero.models import files
from vision_zero.runs import checkpoint
from vision_zero.runs.store import RunStore

_WEIGHTS = ("*.safetensors", "config.json", "adapter_config.json")


@dataclass(frozen=True)
class Weights:
    """A model that can be loaded. `version` changes with its bytes; `run` is where it was trained, if that is known.

    Example: `Weights(ModelConfig(path=".../step-000020/model"), "step-000020:3f9a0c1d2b4e", run, 20)`
    """

    model: ModelConfig
    version: str
    run: RunStore | None = field(default=None, compare=False)
    step: int | None = None

    @property
    def folder(self) -> Path | None:
        """Where its files are; None for a Hub id."""
        path = Path(files.resolve(self.model.path))
        return path if path.is_dir() else None


def find_weights(text: str, like: ModelConfig | None = None) -> Weights:
    """The model that `text` names: RUN (its newest checkpoint), RUN@STEP, a checkpoint's folder, a model's
    folder, a Hub id, or "nano". Checkpoints are loaded as their run did, others like `like`;
    adapters as they tell themselves.

    Raises `UserError` for a run without such a checkpoint, and for a damaged one.
    """
    name, _, number = text.rpartition("@")
    if name and number.isdecimal() and (Path(name) / "run.json").is_file():
        store = RunStore.open(Path(name))
        path = store.checkpoints / f"step-{int(number):06d}"
        if not path.is_dir():
            steps = ", ".join(str(int(p.name[5:])) for p in sorted(store.checkpoints.glob("step-*"))) or "none"
            raise UserError(f"{name} has no checkpoint of step {number}: there are {steps}")
        return _of_checkpoint(checkpoint.open_checkpoint(path), store)
    path = Path(text)
    if (path / "run.json").is_file():
        store = RunStore.open(path)
        found = checkpoint.latest(store.checkpoints)
        if found is None:
            raise UserError(f"{path} has no checkpoint yet: wait for its first one, or name a model's folder")
        return _of_checkpoint(found, store)
    folder = path.parent if path.name == "model" else path
    if (folder / checkpoint.MANIFEST).is_file():
        home = folder.resolve().parent.parent
        if (home / "run.json").is_file():
            return _of_checkpoint(checkpoint.open_checkpoint(folder), RunStore.open(home))
        text = str(folder / "model")
    model = (like or ModelConfig()).model_copy(update={"path": text})
    where = Path(files.resolve(text))
    if not where.is_dir():
        return Weights(model, text)
    if model.lora is None and files.adapter_folder(text) is not None:
        model = model.model_copy(update={"lora": _lora_of(where)})
    return Weights(model, f"{path.name}:{fingerprint(where)}")


def fingerprint(folder: Path) -> str:
    """12 hex digits that change with the weights or the configuration of a model's folder.

    An adapter's base is not hashed: its name is in the adapter's configuration. Raises `UserError` without weights.
    """
    digest = hashlib.sha256()
    found = sorted({file for pattern in _WEIGHTS for file in folder.glob(pattern)})
    if not any(file.suffix != ".json" for file in found):
        raise UserError(f"{folder} holds no weights: give a run, a checkpoint, or a whole Hugging Face model folder")
    for file in found:
        with file.open("rb") as data:
            digest.update(f"{file.name}:{hashlib.file_digest(data, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()[:12]


def _lora_of(adapter: Path) -> LoraConfig:
    """What an adapter of no run tells of itself. The vision tower has none if training left it out."""
    told = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    where: Any = "language" if told.get("exclude_modules") else "language+vision"
    return LoraConfig(rank=told["r"], alpha=told["lora_alpha"], dropout=told["lora_dropout"], where=where)


def _of_checkpoint(found: checkpoint.Checkpoint, store: RunStore) -> Weights:
    model = store.config.model.model_copy(update={"path": str(found.path / "model")})
    manifest = json.loads((found.path / checkpoint.MANIFEST).read_text(encoding="utf-8"))
    hashes = {name: sha for name, sha in manifest["files"].items() if name.startswith("model/")}
    digest = hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()[:12]
    return Weights(model, f"{found.path.name}:{digest}", store, found.step)
