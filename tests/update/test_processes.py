"""Two processes train like one that has the samples of both, however the weights lie."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.tiny_models import folder
from tests.update.made_samples import as_sampled, games
from tests.update.worker import UPDATE

ROOT = Path(__file__).parents[2]
LAYOUTS = ("none", "fsdp", "zero2", "zero3")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes wrote, a folder a layout."""
    out = tmp_path_factory.mktemp("processes")
    worker = Path(__file__).with_name("worker.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    environment |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*command, str(worker), str(folder("qwen2_5_vl")), str(out), *LAYOUTS],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_two_processes_equal_one(layout: str, trained: Path, make: Callable[..., Any]) -> None:
    vlm, updater = make(update=UPDATE)
    samples, pictures = games(vlm, 4)
    samples = as_sampled(updater, samples, pictures)
    metrics = updater.step(updater.prepare(samples, pictures), pictures)
    adam = updater.state_dict()["optimizer"]["adam"]["state"]
    gradients = [adam[i]["exp_avg"] for i in sorted(adam)]
    noise = 1e-4 * max(float(g.abs().max()) for g in gradients)

    both = [load_file(trained / layout / f"first-{rank}.safetensors") for rank in (0, 1)]
    certain = 0
    for (name, weight), gradient in zip(vlm.trainable(), gradients, strict=True):
        assert torch.equal(both[0][name], both[1][name])
        # Adam's first step is the sign of the gradient: where that is rounding noise, so is the step.
        clear = gradient.abs() > noise
        certain += int(clear.sum())
        torch.testing.assert_close(both[0][name][clear], weight.detach()[clear], rtol=0, atol=1e-6)
    assert certain > 0.5 * sum(g.numel() for g in gradients)

    figures = [ast.literal_eval((trained / layout / f"metrics-{rank}.txt").read_text()) for rank in (0, 1)]
    assert figures[0] == figures[1]
    assert figures[0]["first loss"] == pytest.approx(metrics["loss"], abs=1e-6)
    second = [load_file(trained / layout / f"second-{rank}.safetensors") for rank in (0, 1)]
    assert all(torch.equal(second[0][n], second[1][n]) for n in second[0])
    assert any(not torch.equal(both[0][n], second[0][n]) for n in both[0])
