"""The whole loop with vLLM: `vision-zero train` on a tiny random model, weights brought over after every update."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.test_train import command, short
from tests.vllm.made import EXACT
from vision_zero.runs.store import RunStore

ALL_WEIGHTS = {"game.wording": "full", "processes": 2}
"""Each process with an engine of its own. Long prompts: on the CPU they are cached in blocks of 128 tokens."""
LORA = {"model.train": "language", "model.lora": {"rank": 4, "alpha": 8}, "rollouts.opponents": {"spy": "frozen"}}
"""With the frozen start at the table: the same vLLM without the adapter."""


@pytest.mark.parametrize("special", [ALL_WEIGHTS, LORA], ids=["all-weights", "LoRA"])
def test_two_steps_through_the_command_line(tmp_path: Path, special: dict[str, Any]) -> None:
    vllm = {"rollouts.engine": "vllm", "rollouts.vllm": {"context": 4096, "eager": True}, "rollouts.batch_size": 64}
    path = tmp_path / "run"
    done = subprocess.run(
        command(path, {**short(), "steps": 2, **vllm, **special}), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    first, second = RunStore.open(path).read_metrics()
    for line in (first, second):
        assert line["engine/weights_difference"] < EXACT, "checked after every update"
        assert line["engine/prefix_hit_rate"] > 0 or special is LORA
        assert line["update/sampler_difference/max"] < 10 * EXACT
        assert line["update/importance"] == pytest.approx(1, abs=1e-4)
        assert line["update/importance_truncated"] == 0
    assert first["update/gradient_norm"] > 0
    assert not list((path / "engine").rglob("*.safetensors")), "weights on their way are not kept"
