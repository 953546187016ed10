"""Nothing is sent anywhere unasked: not by us, not by a dependency. At import, in training, in the page.

Python tells a hook of every name that it looks up and of every connection (`sys.audit`), whoever in the process asks
for it; a connection of this machine to itself is no sending. Where this system permits it, training also runs with
the network cut: in a namespace that has no device but the loopback.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import pytest

from tests.test_house import MODULES, PROGRAMS
from tests.viewer.viewing import serving

HOOK = """
import json, os, sys

def hear(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname", "urllib.Request"):
        address = arguments[-1] if event in ("socket.connect", "socket.sendto") else arguments[0]
        host = address[0] if isinstance(address, tuple) else address
        if isinstance(address, tuple) or event not in ("socket.connect", "socket.sendto"):  # else a local socket
            with open(os.environ["HEARD"], "a") as file:
                file.write(json.dumps([event, str(host)]) + "\\n")

sys.addaudithook(hear)
"""
HERE = {"127.0.0.1", "::1", "localhost", "None", "b'localhost'"}
SMALL = ("steps=1", "games_per_step=2", "evaluation.games=0", "pairs.count=20", "processes=1")
ONE_STEP = [word for setting in SMALL for word in ("--set", setting)]


def can_cut() -> bool:
    command = shutil.which("unshare")
    return command is not None and subprocess.run([command, "-rn", "true"], capture_output=True).returncode == 0


@pytest.fixture
def heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What every Python that is started from now on looks up and connects to, one a line."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(HOOK)
    path = [str(tmp_path / "hook"), str(Path.cwd() / "src"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
    monkeypatch.setenv("HEARD", str(tmp_path / "heard"))
    # what a user's environment may have set, and what must not be needed
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "heard"


def elsewhere(heard: Path) -> list[list[str]]:
    lines = heard.read_text().splitlines() if heard.exists() else []
    return [found for line in lines if (found := json.loads(line))[1] not in HERE]


def test_the_hook_hears(heard: Path) -> None:
    code = "import socket\ntry: socket.create_connection(('192.0.2.1', 9), timeout=0.01)\nexcept OSError: print(1)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert {host for _, host in elsewhere(heard)} == {"192.0.2.1"}


def test_importing_everything_asks_nobody(heard: Path) -> None:
    names = [f"vision_zero.{name}".rstrip(".") for name in MODULES if name not in PROGRAMS and "__main__" not in name]
    code = f"import importlib\nfor name in {names}: importlib.import_module(name)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert elsewhere(heard) == []


def test_training_and_looking_ask_nobody(heard: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    cut = ["unshare", "-rn", "sh", "-c", 'ip link set lo up 2>/dev/null; exec "$@"', "sh"] if can_cut() else []
    train = [sys.executable, "-m", "vision_zero.cli", "train", "recipes/nano.yaml", "--out", str(run)]
    done = subprocess.run(
        [*cut, *train, "--set", "processes=1", *ONE_STEP], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    # without a proxy, since this asks the page on this machine
    reach = build_opener(ProxyHandler({})).open
    with serving("view", str(run)) as address:
        assert b"<!doctype html>" in reach(address).read()
        assert b'"steps":1' in reach(address + "data/runs/run/overview.json").read()
        assert b'"id":"000000-0000"' in reach(address + "data/runs/run/games/0/0.json").read()
    with serving("play", str(run), "--page", "--out", str(tmp_path / "people")) as address:
        assert b'"invited":["policy","start"]' in reach(address + "table.json").read()
    assert elsewhere(heard) == []
