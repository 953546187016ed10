"""The real VLMEvalKit and the real lmms-eval, each in its environment, on the tiny model behind the real server.

`make test-harness` installs both and runs this; it takes minutes and is no part of `make test`.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from vision_zero.cli import app
from vision_zero.config import load_config
from vision_zero.errors import UserError
from vision_zero.evaluate.exam import make_probes, sit
from vision_zero.evaluate.harness import environment, suite, vlmevalkit
from vision_zero.evaluate.harness.benchmarks import PUBLISHED, resolve
from vision_zero.evaluate.harness.job import Job
from vision_zero.evaluate.harness.probe_file import ProbeFile, probe_file
from vision_zero.evaluate.probes import YES_NO, is_right
from vision_zero.evaluate.weights import find_weights
from vision_zero.models.nano.architecture import build_model, build_processor

RECIPE = Path(__file__).parents[2] / "recipes" / "nano.yaml"
CONFIG = load_config(RECIPE)
PAIRS = 16


@pytest.fixture(scope="module")
def untaught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("untaught")
    build_model(3).save_pretrained(folder)
    build_processor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where both tools write, so that they share a table."""
    return tmp_path_factory.mktemp("evaluation")


@pytest.fixture(autouse=True, scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LMUData", str(tmp_path_factory.mktemp("data")))
        yield


@pytest.mark.parametrize("name", environment.REQUIREMENTS)
def test_the_tool_knows_every_published_benchmark_by_the_name_that_we_give_it(name: str) -> None:
    tool = environment.find(name)
    assert [b.name for b in PUBLISHED if not set(b.names(name)) <= tool.benchmarks.keys()] == []


REACH = """
import json, runpy, sys
start = runpy.run_path(sys.argv[1])
start["let_torchvision_load"]()
from vlmeval.dataset.image_base import ImageBaseDataset
from vlmeval.run import build_dataset_from_config
class Reached(Exception): pass
def reach(self, *rest): raise Reached(self.dataset_name)
ImageBaseDataset.prepare_tsv = reach
config, reached = json.load(open(sys.argv[2]))["data"], []
for name in config:
    try:
        build_dataset_from_config(config, name)
    except Reached as e:
        reached.append(str(e))
print("reached", json.dumps(reached))
"""


def test_vlmevalkit_builds_every_published_benchmark_from_our_configuration_up_to_its_data(tmp_path: Path) -> None:
    tool = environment.find("vlmevalkit")
    names = resolve("all", tool, "judge")
    vlmevalkit.prepare(Job(tool, "base", "http://127.0.0.1:9/v1", names, None, tmp_path, "judge", None, 1))
    python = environment.interpreter(tool.name, tool.folder)
    command = [python, "-I", "-c", REACH, environment.START, tmp_path / "config.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.rpartition("reached ")[2]) == list(names)


def test_the_metrics_that_we_read_are_those_that_lmms_eval_lists() -> None:
    [tasks] = environment.folder("lmms-eval").glob("lib/python*/site-packages/lmms_eval/tasks")
    unlisted = []
    for benchmark in PUBLISHED:
        name = re.compile(rf"^(task|group): *['\"]?{benchmark.lmms_eval}['\"]?\s*$", re.MULTILINE)
        home = next(p.parent for p in sorted(tasks.rglob("*.yaml")) if name.search(p.read_text(encoding="utf-8")))
        texts = [p.read_text(encoding="utf-8") for p in home.iterdir() if p.name.endswith("yaml")]
        if not any(re.search(rf"metric: ['\"]?{benchmark.metric}\b", text) for text in texts):
            unlisted.append(f"{benchmark.name}: {benchmark.metric}")
    assert unlisted == []


@pytest.mark.parametrize("name", environment.REQUIREMENTS)
def test_a_tool_asks_base_and_checkpoint_our_questions(name: str, untaught: Path, out: Path) -> None:
    """An untaught model as the base: the tool must see the difference, and mark the tiny model as we do."""
    arguments = ["eval", "nano", "--base", str(untaught), "--recipe", str(RECIPE), "--pairs", str(PAIRS)]
    arguments += ["--suite", name, "--benchmarks", "probes", "--max-tokens", "12", "--server", "transformers"]
    done = CliRunner().invoke(app, [*arguments, "--out", str(out)], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    print(done.stdout)
    sheet = json.loads((out / f"{name}.json").read_text())
    [row] = sheet["rows"]
    probes = [p for p in make_probes(CONFIG, PAIRS).probes if p.choices == YES_NO]
    assert row["verdict"] == "improved"
    assert (row["after"]["trials"], row["after"]["games"]) == (len(probes), PAIRS)
    headline = row["own"]["checkpoint"] / (100 if name == "vlmevalkit" else 1)
    assert headline == pytest.approx(row["after"]["point"], abs=1e-6), "the tool's mean is that of its questions"
    replies = sit(CONFIG, find_weights("nano", CONFIG.model), probes)
    ours = sum(is_right(p, r.text) is True for p, r in zip(probes, replies, strict=True)) / len(probes)
    # VLMEvalKit sends them as JPEG, and enlarged; lmms-eval as they are, and only near ties may go either way
    assert headline == pytest.approx(ours, abs=0.07 if name == "vlmevalkit" else 0.03)
    told = sheet["runs"]["run-1"]["tool"]
    assert told["version"] in environment.REQUIREMENTS[name]
    assert any(p.lower().startswith("torch==") for p in told["packages"])


@pytest.mark.parametrize("name", environment.REQUIREMENTS)
def test_a_server_that_is_gone_is_no_wrong_answer(name: str, tmp_path: Path) -> None:
    probes: ProbeFile = probe_file(make_probes(CONFIG, 2).probes[:1], "compact")
    tool = environment.find(name)
    job = Job(tool, "base", "http://127.0.0.1:9/v1", (probes.name,), probes, tmp_path / "run", None, 12, 1)
    job.folder.mkdir()
    with pytest.raises(UserError, match=r"1 (of 1 )?requests"):
        suite._run(job)
