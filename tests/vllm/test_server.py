"""vLLM as a server: the real one, started by our command, with weights that change, and killed in mid-step."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import yaml
from rich.console import Console

from tests.test_train import RECIPE, overrides, short
from tests.vllm.made import EXACT, PICTURES, config, mixed, nudge, request_of, worst_difference
from vision_zero.config import RunConfig, load_config
from vision_zero.errors import UserError
from vision_zero.models.base import load
from vision_zero.rollouts.vllm_server import VllmServerEngine
from vision_zero.runs.store import RunStore
from vision_zero.train import train

TEMPERATURE = 1.3
READY = 300.0


def settings(port: int, retries: int = 2) -> RunConfig:
    vllm = {"urls": [f"http://127.0.0.1:{port}"], "timeout": 60, "retries": retries}
    rollouts = {"engine": "vllm-server", "vllm": vllm}
    lora = {"model": {"train": "language", "lora": {"rank": 4, "alpha": 8}}}
    return config("qwen2_5_vl", TEMPERATURE, rollouts=rollouts, **lora)


def full(config: RunConfig) -> RunConfig:
    """The same without LoRA. A server that holds adapters can be given other base weights all the same."""
    return config.model_copy(update={"model": config.model.model_copy(update={"lora": None, "train": "all"})})


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@contextmanager
def server(config: RunConfig, port: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`vision-zero rollout-server` in a process group of its own, ready."""
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    command = [sys.executable, "-m", "vision_zero.cli", "rollout-server", str(recipe), "--port", str(port)]
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            start_new_session=True,
            # a shell without job control starts what runs in the background, perhaps these tests, deaf to Ctrl-C
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
    try:
        deadline = time.monotonic() + READY
        while not healthy(port):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail("the server did not start:\n" + (folder / "server.log").read_text()[-3000:])
            time.sleep(0.5)
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def healthy(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=5, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def running(port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[bytes]]:
    with server(settings(port), port, tmp_path_factory.mktemp("server")) as process:
        yield process


@pytest.mark.usefixtures("running")
def test_all_weights_are_brought_over_and_checked(port: int, tmp_path: Path) -> None:
    config = full(settings(port))
    vlm = load(config.model, "cpu")
    engine = VllmServerEngine(vlm, config, tmp_path)
    requests = mixed(vlm, 24, TEMPERATURE)
    answers = []
    for step in range(2):
        with engine.fixed_weights():
            done = engine.generate(requests)
        assert worst_difference(vlm, requests, done) < EXACT
        assert not vlm.forbidden_ids.intersection(i for c in done for i in c.ids)
        answers.append([c.ids for c in done])
        figures = engine.figures()
        assert figures["weights_difference"] < EXACT
        assert figures["prefix_hit_rate"] > 0
        assert figures["failed_tries"] == 0
        nudge(vlm, seed=step)
        engine.weights_changed()
    assert answers[0] != answers[1]
    assert len(list(tmp_path.iterdir())) == 1, "only the newest weights are kept"
    engine.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("running")
def test_weights_that_did_not_arrive_stop_the_run(port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = full(settings(port))
    vlm = load(config.model, "cpu")
    engine = VllmServerEngine(vlm, config, tmp_path)
    with engine.fixed_weights():
        pass
    post = engine._post
    skip = ("collective_rpc",)
    monkeypatch.setattr(engine, "_post", lambda url, path, body=None: path in skip or post(url, path, body))
    nudge(vlm, 0.01)
    engine.weights_changed()
    with pytest.raises(UserError, match="log-probs on the fixed prompt differ"), engine.fixed_weights():
        pytest.fail("played with stale weights")


@pytest.mark.usefixtures("running")
def test_weights_changed_by_another_are_noticed_and_put_right(port: int, tmp_path: Path) -> None:
    """Two runs that share a server by mistake, or a server that was started anew: answers say whose weights drew
    them."""
    config = full(settings(port))
    mine, other = (load(config.model, "cpu") for _ in range(2))
    nudge(other)
    engine, thief = (VllmServerEngine(m, config, tmp_path / n) for m, n in ((mine, "mine"), (other, "other")))
    requests = mixed(mine, 6, TEMPERATURE)
    with engine.fixed_weights():
        with thief.fixed_weights():
            pass
        done = engine.generate(requests)
    assert worst_difference(mine, requests, done) < EXACT
    assert engine.figures()["failed_tries"] == 1


@pytest.mark.usefixtures("running")
def test_another_picture_size_is_refused(port: int, tmp_path: Path) -> None:
    config = full(settings(port))
    smaller = config.model_copy(update={"model": config.model.model_copy(update={"max_pixels": 56 * 56})})
    vlm = load(smaller.model, "cpu")
    engine = VllmServerEngine(vlm, smaller, tmp_path)
    other = r"vLLM reads another prompt than the trainer: .* picture placeholders, the trainer has"
    with pytest.raises(UserError, match=other), engine.fixed_weights():
        pytest.fail("the server reads pictures in another size")


@pytest.mark.usefixtures("running")
def test_adapters_alone_are_brought_over(port: int, tmp_path: Path) -> None:
    config = settings(port)
    # the base model's weights, which other tests of this server changed
    base = load(full(config).model, "cpu")
    with VllmServerEngine(base, full(config), tmp_path / "base").fixed_weights():
        pass
    vlm = load(config.model, "cpu")
    engine, start = VllmServerEngine(vlm, config, tmp_path / "adapters"), vlm.reference()
    requests = mixed(vlm, 12, TEMPERATURE)
    for step in range(3):
        with engine.fixed_weights():
            done, frozen = engine.generate(requests), engine.base().generate(requests)
        assert worst_difference(vlm, requests, done) < EXACT
        assert worst_difference(start, requests, frozen) < EXACT
        nudge(vlm, 0.1, seed=step)
        engine.weights_changed()
    assert worst_difference(start, requests, done) > 0.01


@pytest.mark.usefixtures("running")
def test_two_steps_of_training_through_a_server(port: int, tmp_path: Path) -> None:
    config = full(settings(port))
    recipe = load_config(RECIPE, overrides({**short(), "steps": 2, "evaluation.games": 2}))
    config = recipe.model_copy(update={"model": config.model, "rollouts": config.rollouts})
    store = RunStore.create(tmp_path, config, tmp_path / "run")
    train(config, store.path, Console(quiet=True))
    lines = store.read_metrics()
    assert len(lines) == 2
    for line in lines:
        assert line["engine/weights_difference"] < EXACT
        assert line["engine/failed_tries"] == 0
        assert line["update/sampler_difference/max"] < 10 * EXACT
    assert not list((store.path / "engine").iterdir())


def test_a_server_killed_in_mid_step_is_waited_for_and_then_given_up(
    running: subprocess.Popen[bytes], port: int, tmp_path: Path
) -> None:
    """Last of its server. Started anew within the tries it gets the newest weights; else the run ends with a word."""
    config = full(settings(port))
    vlm = load(config.model, "cpu")
    nudge(vlm)
    engine = VllmServerEngine(vlm, config, tmp_path)
    requests = [request_of(vlm, [PICTURES[i % 3], "go\n"], i, tokens=400, temperature=TEMPERATURE) for i in range(48)]
    with engine.fixed_weights():
        killer = threading.Timer(1.0, os.killpg, (running.pid, signal.SIGKILL))
        killer.start()
        began = time.monotonic()
        with pytest.raises(UserError, match=r"vLLM did not answer in 3 tries .* resumes from its last checkpoint"):
            engine.generate(requests)
        assert time.monotonic() - began < 60
    killer.join()


def test_no_server_is_a_word_and_not_a_wait(tmp_path: Path) -> None:
    config = full(settings(free_port(), retries=0))
    engine = VllmServerEngine(load(config.model, "cpu"), config, tmp_path)
    with pytest.raises(UserError, match=r"did not take new weights in 1 tries .*ConnectError"), engine.fixed_weights():
        pytest.fail("there is no server")
