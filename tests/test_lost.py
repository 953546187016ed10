"""What is lost in mid-step costs as little as can be, and the run says where it stands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kills import POISON, command, differences, live, live_together, ranks
from vision_zero.runs.store import RunStore

BY_SERVER = "{spy: 'api:m'}"
SERVER = """
import json, os, signal, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    asked = 0

    def do_POST(self):
        Handler.asked += 1
        if Handler.asked == int(sys.argv[1]):
            sys.argv[3] == "dies" and os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(1000)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        said = {"role": "assistant", "content": f"a red cube number {body['seed'] % 7} ."}
        choice = {"index": 0, "finish_reason": "stop", "message": said}
        reply = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        data = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass

http = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler)
print(http.server_port, flush=True)
http.serve_forever()
"""


@contextmanager
def server(last: int = 0, then: str = "dies") -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """A chat server in a process of its own. When it is asked for the `last` time it kills itself, or `hangs`."""
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(last), "0", then], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline()), process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.slow
def test_a_server_that_dies_in_mid_step(tmp_path: Path) -> None:
    """The spy is played by a model behind a server, three games a step, one after the other. It dies in the second
    game of the second step; the first one is kept, and with a new server the run ends as if it had not died."""

    def words(run: Path) -> list[str]:
        return command(run, rollouts__opponents=BY_SERVER, rollouts__games_at_once=1, steps=3)

    env = {"OPENAI_API_KEY": "any", "NO_PROXY": "127.0.0.1"}
    with server() as (port, _):
        env["OPENAI_BASE_URL"] = f"http://127.0.0.1:{port}/v1"
        assert live(tmp_path / "whole", words(tmp_path / "whole"), env=env).code == 0
    # one clue of the spy a game
    with server(last=5) as (port, process):
        env["OPENAI_BASE_URL"] = f"http://127.0.0.1:{port}/v1"
        life = live(tmp_path / "run", words(tmp_path / "run"), env=env)
        assert process.wait() == -signal.SIGKILL
    assert life.code == 2
    assert "game 000001-0001" in life.said
    assert "cannot reach" in life.said
    assert "Of the 3 games of step 1, 1 had ended and are kept" in life.said
    assert "Traceback" not in life.said
    run = tmp_path / "run"
    kept = (run / "episodes" / "unfinished_000001.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in kept] == ["000001-0000"]
    assert [p.name for p in (run / "checkpoints").iterdir()] == ["step-000001"]
    with server() as (port, process):
        env["OPENAI_BASE_URL"] = f"http://127.0.0.1:{port}/v1"
        life = live(run, words(run), env=env)
    assert life.code == 0, life.said
    apart = [name for name in differences(tmp_path / "whole", run) if "step-000001/" not in name]
    assert apart == []
    assert sorted(os.listdir(run / "episodes")) == ["step_000000.jsonl", "step_000001.jsonl", "step_000002.jsonl"]


@pytest.mark.slow
def test_who_keeps_the_others_waiting_and_where(tmp_path: Path) -> None:
    """Two processes, one of whose servers hangs. The other says, after max_wait_minutes, which one it waits for."""
    run = tmp_path / "run"
    words = command(run, rollouts__opponents=BY_SERVER, processes=2, max_wait_minutes=0.2)
    with server() as (well, _), server(last=1, then="hangs") as (hanging, _):
        env = {"OPENAI_API_KEY": "any", "NO_PROXY": "127.0.0.1"}
        envs = [
            {**env, **rank, "OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1"}
            for rank, port in zip(ranks(2), (well, hanging), strict=True)
        ]
        lives = live_together(run, words, [None, None], envs)
    said = lives[0].said
    assert lives[0].code == 2, said
    assert "process 0 gave up waiting for another one (max_wait_minutes=0.2)" in said
    first, second = (line for line in said.splitlines() if line.startswith("process ") and " of 2 " in line)
    assert "process 0 of 2" in first
    assert "step 0, play" in first
    assert "it waits for others in tell_all" in first
    assert "process 1 of 2" in second
    assert "step 0, play" in second
    assert "it is busy in respond" in second
    assert "players/api.py:" in second
    assert "Traceback" not in said
    assert "most recent call first" in (run / "processes" / "process-1.txt").read_text()


@pytest.mark.slow
def test_updates_that_are_not_finite_are_skipped_and_their_samples_kept(tmp_path: Path) -> None:
    """Every loss of one of two processes is NaN: both skip one update, and stop after the second in a row."""
    run = tmp_path / "run"
    words = command(run, processes=2, update__minibatches=1, update__max_skipped=1)
    first, second = ranks(2)
    lives = live_together(run, words, [None, None], [first, {**second, POISON: "1"}])
    assert [life.code for life in lives] == [2, 2]
    said = lives[0].said
    assert "2 updates in a row were skipped, more than update.max_skipped=1" in said
    # of the games 0, 1 and 2, the second process has 1
    assert "000001-0001 turn 0" in said
    store = RunStore.open(run)
    assert [line["update/skipped"] for line in store.read_metrics()] == [1, 1]
    for step in (0, 1):
        lines = [json.loads(line) for line in store.offending_path(step).read_text().splitlines()]
        assert {line["episode"] for line in lines} == {f"{step:06d}-0001"}
        assert all(line["ids"] and line["prompt"] and line["sampling_logprobs"] for line in lines)
