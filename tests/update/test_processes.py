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
from tests.update.worker import KINDS, UPDATE

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
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    return out


def weights(trained: Path, layout: str, name: str, rank: int = 0) -> dict[str, torch.Tensor]:
    return load_file(trained / layout / f"{name}-{rank}.safetensors")


def figures(trained: Path, layout: str, name: str, rank: int = 0) -> dict[str, float]:
    read: dict[str, float] = ast.literal_eval((trained / layout / f"{name}-{rank}.txt").read_text())
    return read


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

    both = [weights(trained, layout, "first", rank) for rank in (0, 1)]
    certain = 0
    for (name, weight), gradient in zip(vlm.trainable(), gradients, strict=True):
        assert torch.equal(both[0][name], both[1][name])
        # Adam's first step is the sign of the gradient: where that is rounding noise, so is the step.
        clear = gradient.abs() > noise
        certain += int(clear.sum())
        torch.testing.assert_close(both[0][name][clear], weight.detach()[clear], rtol=0, atol=1e-6)
    assert certain > 0.5 * sum(g.numel() for g in gradients)
    assert figures(trained, layout, "first")["loss"] == pytest.approx(metrics["loss"], abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_idle_processes_keep_step_and_neither_resuming_nor_a_skipped_step_changes_anything(
    layout: str, trained: Path
) -> None:
    names = ("first", "second", "resumed", "skipped")
    first, second, resumed, skipped = (weights(trained, layout, name) for name in names)
    assert any(not torch.equal(first[n], second[n]) for n in first)
    assert all(torch.equal(second[n], resumed[n]) for n in first)
    assert figures(trained, layout, "second") == figures(trained, layout, "resumed")
    # In between one process had a loss that is not a number: nobody took that step, and nothing of it is left.
    assert figures(trained, layout, "skipped")["skipped"] == 1
    assert all(torch.equal(first[n], skipped[n]) for n in first)
    for name in ("second", "resumed"):
        assert all(
            torch.equal(w, weights(trained, layout, name, 1)[n]) for n, w in weights(trained, layout, name).items()
        )
        assert figures(trained, layout, name) == figures(trained, layout, name, 1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", LAYOUTS[1:])
def test_every_layout_learns_the_same(layout: str, kind: str, trained: Path) -> None:
    mine, theirs = weights(trained, layout, kind), weights(trained, "none", kind)
    assert all(torch.equal(w, weights(trained, layout, kind, 1)[n]) for n, w in mine.items())
    assert any(w.any() for n, w in mine.items() if "lora_B" in n) or kind != "lora"
    learned, expected = (torch.cat([w[n].flatten().float() for n in sorted(w)]) for w in (mine, theirs))
    # A weight of bfloat16 lands on the next one where rounding decides.
    assert (learned - expected).abs().gt(1e-5).float().mean() < 1e-3
    for name in ("loss", "gradient_norm", "kl", "entropy"):
        figure, other = figures(trained, layout, kind)[name], figures(trained, "none", kind)[name]
        assert figure == pytest.approx(other, rel=1e-3, abs=1e-6), name
