"""Files that somebody else made: a real run directory with one thing wrong, and every command over it.

Whatever is in the files, a command either does its work or ends with one message and code 2. Nothing else is an
answer: no traceback, no hang, nothing run.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from typer.testing import CliRunner

from vision_zero.cli import app

ROOT = Path(__file__).resolve().parent.parent.parent
NANO = ROOT / "recipes" / "nano.yaml"
SMALL = {
    "processes": 1,
    "games_per_step": 2,
    "steps": 2,
    "game.votes_per_voter": 2,
    "pairs.count": 8,
    "evaluation.games": 0,
    "save.every": 1,
    "save.trackers": "[]",
}


@dataclass(frozen=True)
class Ended:
    """How a command ended. `trouble` is None if it ended as promised."""

    code: int
    said: str
    trouble: str | None


def run(*arguments: object) -> Ended:
    """The real command line, in this process."""
    with _quiet_logs():
        result = CliRunner().invoke(app, [str(a) for a in arguments])
    trouble = None
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        trouble = f"{type(result.exception).__name__}: {result.exception}"
    elif result.exit_code not in (0, 2):
        trouble = f"ended with {result.exit_code}: {result.output[-300:]}"
    elif result.exit_code == 2 and not result.stderr.strip():
        trouble = "ended with 2 and said nothing"
    return Ended(result.exit_code, result.stderr, trouble)


@contextmanager
def _quiet_logs() -> Iterator[None]:
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def make_run(path: Path) -> Path:
    """A finished run of the tiny model: two steps of two games, two checkpoints."""
    changed = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
    ended = run("train", NANO, "--out", path, *changed)
    assert ended.code == 0, ended
    return path


# What can be wrong with a file


def cut(data: bytes, rng: Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def flip(data: bytes, rng: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 3, 30))):
        if changed:
            changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def insert(data: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    junk = rng.choice((b"\x00" * 9, b"[" * 5000, b'"', b"\xff\xfe", b"NaN", b"-", b"\n", b"\n{}\n", rng.randbytes(50)))
    return data[:at] + junk + data[at:]


def garbage(data: bytes, rng: Random) -> bytes:
    return rng.choice(
        (b"", b"\x00" * 100, rng.randbytes(300), b"{}", b"[]", b"null", b"[" * 100_000, b"\x80\x04K\x01.")
    )


ODD: tuple[Any, ...] = (None, True, -1, 2**70, 1e308, "", "x" * 1000, "../../x", "NaN", [], {}, [[]], {"a": None}, 0.5)


def wrong_value(data: bytes, rng: Random) -> bytes:
    """One value of the JSON (of one line of it) replaced, removed or renamed."""
    lines = data.split(b"\n")
    rows = [i for i, line in enumerate(lines) if line.strip()]
    whole = data.lstrip().startswith(b"{") and len(rows) > 1 and not lines[rows[0]].rstrip().endswith(b"}")
    try:
        at = 0 if whole else rng.choice(rows)
        tree = json.loads(data if whole else lines[at])
        place, key = rng.choice(list(_places(tree)))
    except (ValueError, IndexError):
        return flip(data, rng)
    if isinstance(place, dict) and rng.random() < 0.2:
        value = place.pop(key)
        if rng.random() < 0.5:
            place[f"{key}s"] = value
    else:
        place[key] = rng.choice(ODD)
    text = json.dumps(tree, indent=1 if whole else None).encode()
    return text if whole else b"\n".join([*lines[:at], text, *lines[at + 1 :]])


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    for key, value in list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree)):
        yield tree, key
        if isinstance(value, dict | list):
            yield from _places(value)


MUTATIONS: tuple[Callable[[bytes, Random], bytes], ...] = (
    cut,
    flip,
    insert,
    garbage,
    wrong_value,
    wrong_value,
    wrong_value,
)


def spoil(run_dir: Path, rng: Random) -> str:
    """Do something to one file of a run directory; says what. A checkpoint's manifest is made to agree, as whoever
    sends a checkpoint would."""
    files = [p for p in sorted(run_dir.rglob("*")) if p.is_file() and p.suffix not in (".png", ".txt", ".jinja")]
    files += sorted((run_dir / "images").glob("*.png"))[:2] + sorted((run_dir / "checkpoints").rglob("*.jinja"))[:1]
    # newest checkpoint only: the one before would be read instead
    newest = sorted((run_dir / "checkpoints").glob("step-*"))[-1]
    file = rng.choice([p for p in files if "checkpoints" not in p.parts or newest in p.parents])
    how = rng.choice(("remove", "folder", "link", *MUTATIONS, *MUTATIONS))
    if callable(how):
        file.write_bytes(how(file.read_bytes(), rng))
    else:
        file.unlink()
        if how == "folder":
            file.mkdir()
        elif how == "link":
            file.symlink_to(rng.choice(("/etc/hostname", "/dev/zero", "/", file.name, "/nowhere")))
    if newest in file.parents and file.name != "manifest.json" and file.is_file() and not file.is_symlink():
        agree(newest)
    return f"{getattr(how, '__name__', how)} {file.relative_to(run_dir)}"


def agree(checkpoint: Path) -> None:
    """Write the hashes of what is there now into a checkpoint's manifest."""
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    for name in manifest["files"]:
        if (checkpoint / name).is_file():
            manifest["files"][name] = hashlib.sha256((checkpoint / name).read_bytes()).hexdigest()
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))


def commands(what: str, run_dir: Path, out: Path) -> list[tuple[object, ...]]:
    """The commands that read what was spoiled."""
    light: list[tuple[object, ...]] = [
        ("replay", run_dir),
        ("view", run_dir, "--static", out / "page"),
        ("export", run_dir, "--games", out / "games"),
    ]
    if "episodes" in what or "images" in what:
        return light
    recipe = ("--recipe", run_dir / "recipe.yaml")
    heavy: list[tuple[object, ...]] = [
        ("resume", run_dir),
        ("eval", run_dir, "--out", out / "exam", "--pairs", 2),
        ("export", run_dir, "--checkpoint", 2, out / "model"),
    ]
    if "checkpoints" in what:
        return heavy
    return [
        *light,
        *heavy,
        ("config", run_dir / "recipe.yaml"),
        ("arena", f"a={run_dir}", "honest", *recipe, "--games", 4, "--out", out / "arena"),
    ]


def fuzz_files(run_dir: Path, scratch: Path, trials: int, seed: int) -> list[str]:
    """Spoil copies of a run directory and run every command that reads what was spoiled; what went wrong, in words."""
    wrong = []
    for trial in range(trials):
        rng = Random(seed * 1_000_003 + trial)
        place = scratch / f"{seed}-{trial}"
        copy = place / "run"
        shutil.copytree(run_dir, copy)
        what = spoil(copy, rng)
        for command in commands(what, copy, place / "out"):
            trouble = run(*command).trouble
            if trouble:
                wrong.append(f"{what}: {command[0]}: {trouble}")
        shutil.rmtree(place)
    return wrong
