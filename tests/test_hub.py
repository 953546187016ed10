"""The paper's checkpoints are ordinary Hub ids: start, frozen opponent, and what is evaluated.

The Hub itself cannot be reached here. What stands for it is its cache on disk, which `transformers` reads by the id
when it is offline: a random model of the same class and configuration class.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_train import overrides, short
from tests.tiny_models import folder
from vision_zero.runs.store import RunStore

ROOT = Path(__file__).resolve().parent.parent
RECIPE = str(ROOT / "recipes" / "qwen2_5_vl_7b_clevr.yaml")
RELEASED, BASE = "Qinsi1/Vision-Zero-Qwen-7B-Clevr", "Qwen/Qwen2.5-VL-7B-Instruct"
COMMIT = "0" * 40


def cached(cache: Path, name: str) -> None:
    """Lay a model down as a download of `name` would."""
    home = cache / f"models--{name.replace('/', '--')}"
    shutil.copytree(folder("qwen2_5_vl"), home / "snapshots" / COMMIT)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(COMMIT)


@pytest.mark.slow
def test_a_released_checkpoint_starts_opposes_and_is_evaluated(tmp_path: Path) -> None:
    for name in (RELEASED, BASE):
        cached(tmp_path / "hub", name)
    settings = {**short(), "steps": 1, "model.path": RELEASED, "rollouts.opponents": {"spy": "frozen"}}
    sets = [word for item in overrides(settings) for word in ("--set", item)]
    run, arena = str(tmp_path / "run"), str(tmp_path / "arena")
    game = [*sets, "--set", f"model.path={BASE}", "--set", "rollouts.opponents={}"]
    commands = [
        ["train", RECIPE, "--out", run, *sets],
        ["arena", f"released={RELEASED}", "start", "--recipe", RECIPE, "--out", arena, "--games", "4", *game],
    ]
    code = "import json, sys\nfrom vision_zero.cli import app\n"
    code += "for words in json.loads(sys.argv[1]): app(words, standalone_mode=False)"
    environment = os.environ | {
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(commands)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    store = RunStore.open(Path(run))
    assert store.config.model.path == RELEASED
    players = {turn.player for episode in store.read_episodes(0) for turn in episode.turns}
    assert players == {"policy", "frozen"}
    result = json.loads((Path(arena) / "result.json").read_text())
    assert "released" in json.dumps(result)
