"""Several processes and machines: what was asked for is what runs, and every game is dealt once."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from accelerate.commands.config import load_config_from_file

from tests.kills import differences
from tests.test_docs import parse
from tests.test_train import command, config, overrides, short
from vision_zero.config import ModelConfig, load_config
from vision_zero.errors import UserError
from vision_zero.machines import Place, check_world
from vision_zero.models.base import load
from vision_zero.preemption import EXIT_CODE
from vision_zero.runs.store import RunStore

ROOT = Path(__file__).resolve().parent.parent
LAUNCH = ROOT / "launch"
SHARDED = {
    "devices.shard": "fsdp",
    "steps": 2,
    "save.every": 1,
    "games_per_step": 5,
    "pairs.count": 10,
    "evaluation.games": 0,
    "credit.stages.start": "clue",  # whose steps move the baselines
}
"""The tiny model, because it votes: a random one moves no baseline."""


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes with weights in pieces, what each of them knows at its end, and the run resumed."""
    out = tmp_path_factory.mktemp("devices")
    worker = ROOT / "tests" / "devices_worker.py"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launcher, str(worker), str(out), *overrides(SHARDED)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out


def knows(sharded: Path, rank: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((sharded / f"knows-{rank}.json").read_text())
    return found


@pytest.mark.slow
def test_every_game_is_dealt_to_one_process(sharded: Path) -> None:
    store = RunStore.open(sharded / "run")
    for step in range(2):
        by_rank = [knows(sharded, rank)["dealt"][step] for rank in (0, 1)]
        assert all(by_rank)
        assert sorted(by_rank[0] + by_rank[1]) == [e.id for e in store.read_episodes(step)]
        assert not set(by_rank[0]) & set(by_rank[1])


@pytest.mark.slow
def test_processes_agree_on_baselines_stage_and_weights(sharded: Path) -> None:
    first, second = (knows(sharded, rank) for rank in (0, 1))
    assert first["roles"] == second["roles"]
    assert any(value for value in first["roles"].values())
    assert first["stages"] == second["stages"]
    assert first["said"] == second["said"]
    assert any(first["said"])


@pytest.mark.slow
def test_a_run_in_pieces_resumes_bit_for_bit_and_leaves_an_ordinary_model(sharded: Path) -> None:
    assert differences(sharded / "run", sharded / "again") == []
    model = sharded / "run" / "checkpoints" / "step-000002" / "model"
    assert load(ModelConfig(path=str(model)), device="cpu").trainable()


# Several machines


@contextmanager
def two_machines(run: Path, settings: dict[str, Any]) -> Iterator[list[subprocess.Popen[str]]]:
    """The commands of two machines of two processes each, all on this one; the second comes first. None outlives the
    test."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    where = ["--devices", "2", "--nodes", "2", "--rendezvous", f"127.0.0.1:{port}", "--node-rank"]
    machines = [
        subprocess.Popen(
            [*command(run, {**settings, "games_per_step": 4}), *where, rank],
            cwd=run.parent,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("1", "0")
    ]
    try:
        yield machines
    finally:
        for machine in machines:
            machine.kill()


@pytest.mark.slow
def test_two_machines_make_one_run(tmp_path: Path) -> None:
    with two_machines(tmp_path / "run", {**short(), "steps": 1, "save.every": 1}) as machines:
        for machine in machines:
            _, errors = machine.communicate(timeout=400)
            assert machine.returncode == 0, errors
    store = RunStore.open(tmp_path / "run")
    assert store.config.devices.nodes == 2
    assert len(list(store.read_episodes(0))) == 4


@pytest.mark.slow
def test_when_one_of_two_machines_is_asked_to_leave_both_save_and_leave(tmp_path: Path) -> None:
    metrics = tmp_path / "run" / "metrics.jsonl"
    with two_machines(tmp_path / "run", {**short(), "steps": 10_000, "save.every": 10_000}) as machines:
        while not (metrics.exists() and metrics.stat().st_size):
            time.sleep(0.1)
            assert [machine.poll() for machine in machines] == [None, None]
        machines[0].terminate()
        for machine in machines:
            _, errors = machine.communicate(timeout=400)
            assert machine.returncode == EXIT_CODE, errors
    assert list((tmp_path / "run" / "checkpoints").iterdir())


# What would be ignored


@pytest.mark.parametrize(
    ("settings", "place", "env", "message"),
    [
        ({}, Place(), {"ACCELERATE_USE_FSDP": "true", "WORLD_SIZE": "2"}, r"FSDP, which would be ignored"),
        ({}, Place(), {"ACCELERATE_USE_DEEPSPEED": "true", "WORLD_SIZE": "2"}, r"DeepSpeed, which would be ignored"),
        ({}, Place(), {"ACCELERATE_USE_CPU": "True"}, r"starts one process, whatever"),
        ({"processes": 2}, Place(), {"WORLD_SIZE": "1"}, r"asks for 2 processes .* 1 were started"),
        ({"processes": 2, "devices.nodes": 2}, Place(), {"WORLD_SIZE": "2"}, r"asks for 4 processes .* 2 were started"),
        ({}, Place(), {"WORLD_SIZE": "9"}, r"9 processes for games_per_step=8"),
        ({"processes": 9}, Place(), {}, r"9 processes for games_per_step=8"),
        ({}, Place(1, "a:1"), {}, r"say how many with --nodes"),
        ({"devices.nodes": 2}, Place(), {}, r"--node-rank 0 to 1"),
        ({"devices.nodes": 2}, Place(0), {}, r"--rendezvous HOST:PORT"),
        ({"devices.nodes": 2}, Place(2, "a:1"), {}, r"counted from 0 to 1"),
        ({"devices.nodes": 2}, Place(0, "a"), {}, r"not of the form HOST:PORT"),
    ],
)
def test_a_set_up_that_would_be_ignored_is_refused(
    settings: dict[str, Any], place: Place, env: dict[str, str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        check_world(config({**short(), "games_per_step": 8, **settings}), place, env)


@pytest.mark.parametrize(
    ("settings", "place", "env"),
    [
        ({}, Place(), {}),
        ({}, Place(), {"WORLD_SIZE": "8", "ACCELERATE_USE_CPU": "False"}),
        ({"processes": 4, "devices.nodes": 2}, Place(), {"WORLD_SIZE": "8"}),
        ({"processes": 4, "devices.nodes": 2}, Place(1, "node0:29500"), {}),
    ],
)
def test_what_was_asked_for_may_start(settings: dict[str, Any], place: Place, env: dict[str, str]) -> None:
    check_world(config({**short(), "games_per_step": 8, **settings}), place, env)


@pytest.mark.slow
def test_accelerate_that_would_start_one_process_is_refused(tmp_path: Path) -> None:
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    done = subprocess.run(
        [*launcher, *command(tmp_path / "run", short())[1:]], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode != 0
    assert "starts one process" in done.stderr
    assert not (tmp_path / "run").exists()


# Ready configurations


@pytest.mark.parametrize(
    ("name", "machines", "processes"), [("1gpu", 1, 1), ("4gpu", 1, 4), ("8gpu", 1, 8), ("2x8gpu", 2, 16)]
)
def test_accelerate_reads_our_configurations(name: str, machines: int, processes: int) -> None:
    read = load_config_from_file(str(LAUNCH / "accelerate" / f"{name}.yaml"))
    assert (read.num_machines, read.num_processes) == (machines, processes)
    assert read.distributed_type == ("NO" if processes == 1 else "MULTI_GPU")


def commands(text: str) -> list[list[str]]:
    """The arguments of every `vision-zero train` in a script, with variables filled in."""
    text = re.sub(r"\\\n|\$\{?\w+\}?", lambda m: " " if m[0].startswith("\\") else "1", text)
    found = re.findall(r"(?:exec vision-zero|vision_zero\.cli) (train [^'\n]*)", text)
    return [shlex.split(words) for words in found]


@pytest.mark.parametrize("name", ["slurm.sh", "torchrun.sh", "kubernetes.yaml"])
def test_examples_for_two_nodes_of_eight(name: str) -> None:
    text = (LAUNCH / name).read_text(encoding="utf-8")
    if name.endswith(".sh"):
        subprocess.run(["bash", "-n", LAUNCH / name], check=True)
    else:
        service, job = yaml.safe_load_all(text)
        pod = job["spec"]["template"]["spec"]
        [container] = pod["containers"]
        assert job["spec"]["completions"] == job["spec"]["parallelism"] == 2
        assert container["resources"]["limits"]["nvidia.com/gpu"] == 8
        assert pod["subdomain"] == service["metadata"]["name"] == service["spec"]["selector"]["job-name"]
        text = " ".join(container["args"])
    [words] = commands(text)
    given = parse(words)
    settings = [*given["overrides"], f"processes={given['devices']}", f"devices.nodes={given['nodes']}"]
    recipe = load_config(ROOT / given["recipe"], [s.replace("nodes=1", "nodes=2") for s in settings])
    assert (recipe.processes, recipe.devices.nodes, recipe.devices.shard) == (8, 2, "fsdp")
    place = Place(given["node_rank"], given["rendezvous"])
    check_world(recipe, place, {"WORLD_SIZE": "16"} if name == "torchrun.sh" else {})
