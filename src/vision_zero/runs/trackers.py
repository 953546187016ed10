"""Metrics for the dashboards that people already use. Only those named in `save.trackers` are touched;
TensorBoard and trackio keep everything on this machine, W&B sends the metrics and the configuration to its service.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Protocol

from vision_zero.errors import UserError
from vision_zero.runs.store import Metrics, RunStore


class Tracker(Protocol):
    """Somewhere metrics go besides `metrics.jsonl`."""

    def log(self, step: int, metrics: Metrics) -> None:
        """Take the metrics of a step; steps rise."""
        ...

    def close(self) -> None:
        """Write out what is still held back."""
        ...


class Trackers:
    """All trackers of a run as one."""

    def __init__(self, trackers: list[Tracker]) -> None:
        self._trackers = trackers

    def log(self, step: int, metrics: Metrics) -> None:
        for tracker in self._trackers:
            tracker.log(step, metrics)

    def close(self) -> None:
        for tracker in self._trackers:
            tracker.close()


def open_trackers(store: RunStore, first_step: int = 0) -> Trackers:
    """The trackers that the run's configuration names. `first_step` is the step that will be logged first.

    On a resumed run TensorBoard hides what it had of `first_step` and later; W&B and trackio go on with
    the run of the same name and cannot take steps back. Raises UserError, with the command that
    installs it, if a tracker's package is missing.
    """
    return Trackers([_OPEN[kind](store, first_step) for kind in store.config.save.trackers])


class _TensorBoard:
    def __init__(self, store: RunStore, first_step: int) -> None:
        module = _import("torch.utils.tensorboard", "tensorboard", "tensorboard")
        self._writer = module.SummaryWriter(str(store.events), purge_step=first_step or None)

    def log(self, step: int, metrics: Metrics) -> None:
        for name, value in metrics.items():
            if isinstance(value, str):
                self._writer.add_text(name, value, step)
            else:
                self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _Trackio:
    def __init__(self, store: RunStore, first_step: int) -> None:
        self._module = _import("trackio", "trackio", "'vision-zero[trackio]'")
        self._module.init(
            project="vision-zero",
            name=store.path.resolve().name,
            config=store.config.model_dump(mode="json"),
            resume="allow" if first_step else "never",
        )

    def log(self, step: int, metrics: Metrics) -> None:
        self._module.log(dict(metrics), step=step)

    def close(self) -> None:
        self._module.finish()


class _WandB:
    def __init__(self, store: RunStore, first_step: int) -> None:
        name = store.path.resolve().name
        self._run = _import("wandb", "wandb", "'vision-zero[wandb]'").init(
            project="vision-zero",
            id=name,
            name=name,
            dir=str(store.path),
            config=store.config.model_dump(mode="json"),
            resume="allow" if first_step else "never",
        )

    def log(self, step: int, metrics: Metrics) -> None:
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        self._run.finish()


_OPEN: dict[str, Callable[[RunStore, int], Tracker]] = {
    "tensorboard": _TensorBoard,
    "trackio": _Trackio,
    "wandb": _WandB,
}


def _import(module: str, tracker: str, requirement: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as e:
        raise UserError(
            f"save.trackers names {tracker}, which is not installed ({e}): "
            f"run `pip install {requirement}` or take it out of save.trackers"
        ) from e
