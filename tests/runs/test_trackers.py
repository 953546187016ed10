"""Trackers get what the run's metrics say, and nothing is loaded or sent that was not asked for."""

from __future__ import annotations

import math
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from vision_zero.config import RunConfig
from vision_zero.errors import UserError
from vision_zero.runs.store import RunStore
from vision_zero.runs.trackers import open_trackers


def run_with(tmp_path: Path, *trackers: str) -> RunStore:
    config = RunConfig.model_validate({"save": {"trackers": list(trackers)}})
    return RunStore.create(tmp_path, config)


def scalars(store: RunStore, name: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(store.events)).Reload()
    return [(e.step, e.value) for e in events.Scalars(name)]


def test_tensorboard_holds_the_curves(tmp_path: Path) -> None:
    store = run_with(tmp_path, "tensorboard")
    trackers = open_trackers(store)
    for step in range(3):
        trackers.log(step, {"win/spy": step / 2, "stage": "clue", "count": step})
    trackers.close()
    assert scalars(store, "win/spy") == [(0, 0.0), (1, 0.5), (2, 1.0)]
    assert scalars(store, "count") == [(0, 0.0), (1, 1.0), (2, 2.0)]
    events = EventAccumulator(str(store.events)).Reload()
    assert "stage/text_summary" in events.Tags()["tensors"]


def test_tensorboard_of_a_resumed_run_forgets_what_is_played_again(tmp_path: Path) -> None:
    store = run_with(tmp_path, "tensorboard")
    for first, last, value in ((0, 4, 1.0), (2, 5, 2.0)):
        trackers = open_trackers(store, first_step=first)
        for step in range(first, last):
            trackers.log(step, {"x": value})
        trackers.close()
        # files are read in the order of their names: by second, then by a number in which 10 comes before 9
        time.sleep(1.1)
    assert scalars(store, "x") == [(0, 1.0), (1, 1.0), (2, 2.0), (3, 2.0), (4, 2.0)]


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_missing_package_is_named_with_the_command(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)  # makes the import fail as if it were not installed
    with pytest.raises(UserError, match=rf"pip install 'vision-zero\[{name}\]'"):
        open_trackers(run_with(tmp_path, name))


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_what_the_services_are_told(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real packages are optional; a recorder of the same four calls stands in for them."""
    calls: list[tuple[str, dict[str, Any]]] = []

    def record(call: str) -> Any:
        def take(*values: Any, **named: Any) -> Any:
            calls.append((call, {**named, **({"metrics": values[0]} if values else {})}))
            return module

        return take

    module = types.ModuleType(name)
    for call in ("init", "log", "finish"):
        setattr(module, call, record(call))
    monkeypatch.setitem(sys.modules, name, module)
    store = run_with(tmp_path, name)
    trackers = open_trackers(store, first_step=3)
    trackers.log(3, {"x": 1.0, "stage": "clue", "lost": math.inf})
    trackers.close()
    assert [call for call, _ in calls] == ["init", "log", "finish"]
    started = calls[0][1]
    assert (started["project"], started["name"], started["resume"]) == ("vision-zero", store.path.name, "allow")
    assert started["config"] == store.config.model_dump(mode="json")
    assert calls[1][1] == {"metrics": {"x": 1.0, "stage": "clue", "lost": math.inf}, "step": 3}


def test_nothing_is_imported_that_was_not_asked_for() -> None:
    code = "import sys, vision_zero.runs.trackers; print({'wandb', 'trackio', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
