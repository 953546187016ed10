"""A disk that fills up: the checkpoint before survives, and the message says how much is needed."""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vision_zero.errors import UserError
from vision_zero.runs import checkpoint
from vision_zero.runs.files import append_line, write_atomic
from vision_zero.runs.store import RunStore

MB = 1_000_000
NEW_USER, NEW_MOUNTS = 0x10000000, 0x00020000


class Weights:
    """A model of so many bytes, which may say that it has fewer."""

    def __init__(self, size: int, claimed: int | None = None) -> None:
        self.size, self.nbytes = size, size if claimed is None else claimed

    def save(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "weights.bin").write_bytes(os.urandom(self.size))

    def restore(self, folder: Path) -> None:
        raise NotImplementedError


def on_a_disk_of(size: int, folder: Path, act: Callable[[], Any]) -> Any:
    """What `act` returns in a child process for which `folder` is a disk of `size` bytes (tmpfs in a mount
    namespace). Skips where the kernel does not let a user mount."""
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        user, group = os.getuid(), os.getgid()
        allowed = libc.unshare(NEW_USER | NEW_MOUNTS) == 0
        if allowed:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"0 {user} 1")
            Path("/proc/self/gid_map").write_text(f"0 {group} 1")
            allowed = libc.mount(b"none", bytes(folder), b"tmpfs", 0, f"size={size}".encode()) == 0
        try:
            result = {"told": act()} if allowed else {"refused": os.strerror(ctypes.get_errno())}
        except BaseException as e:  # noqa: BLE001 - all of it is told to the parent
            result = {"raised": repr(e)}
        os.write(sender, json.dumps(result).encode())
        os._exit(0)
    os.close(sender)
    with os.fdopen(receiver, "rb") as pipe:
        result = json.loads(pipe.read())
    os.waitpid(child, 0)
    if "refused" in result:
        pytest.skip(f"no disk can be mounted here: {result['refused']}")
    assert "raised" not in result, result
    return result["told"]


def fill(file: Path) -> None:
    def write_on() -> None:
        with file.open("wb", buffering=0) as ballast:
            while ballast.write(b"x" * 4096):
                pass

    with pytest.raises(OSError, match="No space"):
        write_on()


@pytest.mark.parametrize("claimed", [8 * MB, 0], ids=["seen before writing", "seen while writing"])
def test_the_checkpoint_before_survives(tmp_path: Path, claimed: int) -> None:
    def act() -> dict[str, Any]:
        checkpoint.save(tmp_path, 1, Weights(4 * MB), {})
        message = ""
        try:
            checkpoint.save(tmp_path, 2, Weights(8 * MB, claimed), {})
        except UserError as e:
            message = str(e)
        found = checkpoint.latest(tmp_path)
        left = sorted(p.name for p in tmp_path.iterdir())
        again = checkpoint.save(tmp_path, 2, Weights(MB), {}).path.name  # when there is room again
        return {"message": message, "step": found and found.step, "left": left, "again": again}

    told = on_a_disk_of(10 * MB, tmp_path, act)
    assert "No space left on device" in told["message"]
    assert f"About {claimed // MB} MB are needed. 6 MB are free. Free space" in told["message"]
    assert told["step"] == 1
    assert told["left"] == ["step-000001"]
    assert told["again"] == "step-000002"


def test_lines_and_files_of_a_run(tmp_path: Path) -> None:
    def act() -> dict[str, str]:
        store = RunStore(tmp_path)
        store.append_metrics(0, {"loss": 1.0})
        write_atomic(tmp_path / "games", b"old")
        fill(tmp_path / "ballast")
        messages = {}
        for name, write in {
            "line": lambda: append_line(tmp_path / "metrics.jsonl", json.dumps({"step": 1, "x": "y" * 8192})),
            "file": lambda: write_atomic(tmp_path / "games", b"new" * 4096),
        }.items():
            try:
                write()
            except UserError as e:
                messages[name] = str(e)
        (tmp_path / "ballast").unlink()
        store.append_metrics(1, {"loss": 0.5})
        steps = [line["step"] for line in store.read_metrics()]
        return messages | {"games": (tmp_path / "games").read_text(), "steps": str(steps)}

    told = on_a_disk_of(MB, tmp_path, act)
    for name in ("line", "file"):
        assert "No space left on device" in told[name]
        assert "Free space" in told[name]
    assert told["games"] == "old"
    assert told["steps"] == "[0, 1]"
