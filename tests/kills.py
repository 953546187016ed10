"""Runs of the tiny model that are killed at chosen instants, and whether two run directories tell the same.

A victim is the command line itself, in a process of its own. It is forked from a server that has done the imports
(10 seconds of a core, each time), and tells its parent which phase it is in and which files it touches.
"""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

RECIPE = Path(__file__).resolve().parent.parent / "recipes" / "nano.yaml"
SETTINGS: Mapping[str, Any] = {
    "steps": 4,
    "games_per_step": 3,
    "processes": 1,
    "pairs.count": 8,
    "game.rounds": 1,
    "game.votes_per_voter": 2,
    "save.every": 2,
    "save.keep": 2,
    "save.trackers": "[]",
    "evaluation.games": 0,
    "sight_check_every": 3,
    # so that both stages are trained, and a switch lies on either side of a checkpoint
    "credit.stages.schedule": "cycle",
    # a second update a step has old log-probs and minibatches to draw
    "update.minibatches": 2,
}
KILLED = -signal.SIGKILL
GRACE = 20.0
"""Seconds that the others have for their last words when one fails."""
PATIENCE = 240.0
"""Seconds after which a victim that says nothing is given up."""

POISON = "POISON"
"""Variable with which every loss of a victim is NaN."""
FILE_EVENTS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "shutil.rmtree"}

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    [
        "vision_zero.cli",
        "vision_zero.train",
        "vision_zero.runs.reporter",
        "transformers.models.qwen2_5_vl.modeling_qwen2_5_vl",
        "transformers.models.qwen2_5_vl.processing_qwen2_5_vl",
        "transformers.models.qwen2_vl.image_processing_qwen2_vl",
    ]
)


@dataclass(frozen=True)
class Kill:
    """When a victim dies: `delay` seconds after its phase number `phase` begins, or before it touches file number
    `file`. Both count from 0; exactly one is given. With SIGTERM as `signal` it is only asked to leave."""

    phase: int | None = None
    delay: float = 0.0
    file: int | None = None
    signal: signal.Signals = signal.SIGKILL


@dataclass(frozen=True)
class Life:
    """What a victim did: its exit code, what it said on stderr, the phases it entered with their seconds, the files
    it touched."""

    code: int
    said: str
    phases: tuple[tuple[str, float], ...]
    files: tuple[str, ...]

    @property
    def last(self) -> str:
        """The phase it ended in."""
        return self.phases[-1][0] if self.phases else "start"


def command(path: Path, **settings: Any) -> list[str]:
    """Arguments of the command line that trains the tiny model in `path`; dots in names are written as __."""
    merged = {**SETTINGS, **{name.replace("__", "."): value for name, value in settings.items()}}
    changed = [word for key, value in merged.items() for word in ("--set", f"{key}={value}")]
    return ["train", str(RECIPE), "--out", str(path), *changed]


def live(run: Path, arguments: Sequence[str], kill: Kill | None = None, env: Mapping[str, str] | None = None) -> Life:
    """One process, to its end or until it is killed."""
    [life] = live_together(run, arguments, [kill], [env or {}])
    return life


def live_together(
    run: Path, arguments: Sequence[str], kills: Sequence[Kill | None], envs: Sequence[Mapping[str, str]]
) -> list[Life]:
    """Several processes at once. When one is killed or fails, the others are killed: as the launcher does."""
    pipes = [_context.Pipe(duplex=False) for _ in envs]
    victims = [
        _context.Process(target=_victim, args=(str(run), list(arguments), kill and kill.file, dict(env), sender))
        for kill, env, (_, sender) in zip(kills, envs, pipes, strict=True)
    ]
    for victim, (_, sender) in zip(victims, pipes, strict=True):
        victim.start()
        sender.close()
    told: list[list[tuple[str, str, float]]] = [[] for _ in envs]
    due: dict[int, float] = {}
    last_words: float | None = None
    began = time.monotonic()
    while running := [v for v in victims if v.is_alive()]:
        assert time.monotonic() - began < PATIENCE, "a victim does not get on"
        for i, (receiver, _) in enumerate(pipes):
            told[i] += _receive(receiver)
            kill = kills[i]
            phases = [at for kind, _, at in told[i] if kind == "phase"]
            if kill and kill.phase is not None and kill.phase < len(phases):
                due.setdefault(i, time.monotonic() + kill.delay)
            if kill and due.get(i, math.inf) <= time.monotonic():
                os.kill(victims[i].pid or 0, kill.signal)
                due[i] = math.inf
        ended = [v.exitcode for v in victims if v.exitcode]
        if ended and last_words is None:
            last_words = time.monotonic() + (0 if KILLED in ended else GRACE)
        if last_words is not None and time.monotonic() >= last_words:
            for victim in victims:
                victim.kill()
        next_due = min((at - time.monotonic() for at in due.values()), default=1.0)
        # a pipe whose writer has ended is always ready
        talking = [r for v, (r, _) in zip(victims, pipes, strict=True) if v.is_alive()]
        wait([*talking, *(v.sentinel for v in running)], min(1.0, max(0.0, next_due)))
    for victim, (receiver, _), tale in zip(victims, pipes, told, strict=True):
        victim.join()
        tale += _receive(receiver)
    said = [_errors(run, env).read_text() for env in envs]
    return [_life(v.exitcode, text, tale) for v, text, tale in zip(victims, said, told, strict=True)]


def ranks(processes: int) -> list[dict[str, str]]:
    """Environments of processes that find each other, as a launcher sets them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(processes)}
    return [{**shared, "RANK": str(r), "LOCAL_RANK": str(r)} for r in range(processes)]


def plan_kill(reference: Life, stratum: str, seed: int) -> Kill:
    """An instant drawn from those of an uninterrupted run: anywhere within its phases of a name (`play`, `update`,
    ...), before one of its `files`, or before one of the files of a `checkpoint`."""
    rng = random.Random(f"{stratum} {seed}")
    if stratum in ("files", "checkpoint"):
        wanted = [i for i, f in enumerate(reference.files) if (".partial-step" in f) == (stratum == "checkpoint")]
        return Kill(file=rng.choice(wanted))
    number = rng.choice([i for i, (name, _) in enumerate(reference.phases) if name == stratum])
    return Kill(phase=number, delay=rng.uniform(0, 0.95 * reference.phases[number][1]))


def differences(expected: Path, found: Path) -> list[str]:
    """Names of files that differ or are on one side only, but for what two equal runs may differ in (`runs.store`)."""
    one, other = _contents(expected), _contents(found)
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def _contents(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in run.rglob("*"):
        name = path.relative_to(run).as_posix()
        if path.is_dir() or name == "run.json" or name.startswith(("events/", "processes/")):
            continue
        found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    found["metrics.jsonl"] = [{k: v for k, v in m.items() if not k.startswith(("seconds/", "speed/"))} for m in lines]
    return found


def _receive(receiver: Connection) -> list[tuple[str, str, float]]:
    found = []
    try:
        while receiver.poll():
            found.append(receiver.recv())
    except EOFError:
        return found
    return found


def _errors(run: str | Path, env: Mapping[str, str]) -> Path:
    return Path(f"{run}.{env.get('RANK', '0')}.stderr")


def _life(code: int | None, said: str, tale: Sequence[tuple[str, str, float]]) -> Life:
    assert code is not None
    phases = [(name, at) for kind, name, at in tale if kind == "phase"]
    ends = [*(at for _, at in phases[1:]), max((at for _, _, at in tale), default=0.0)]
    return Life(
        code,
        said,
        tuple((name, end - at) for (name, at), end in zip(phases, ends, strict=False)),
        tuple(name for kind, name, _ in tale if kind == "file"),
    )


def _victim(run: str, arguments: list[str], die_before: int | None, env: dict[str, str], tell: Connection) -> None:
    from vision_zero.cli import app
    from vision_zero.runs.reporter import Reporter, Silent

    os.environ.update(env, CUDA_VISIBLE_DEVICES="")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(_errors(run, env), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    touched = 0

    def on_event(event: str, details: tuple[Any, ...]) -> None:
        nonlocal touched
        if event not in FILE_EVENTS or not _writes(event, details) or not str(details[0]).startswith(run):
            return
        if touched == die_before:
            os.kill(os.getpid(), signal.SIGKILL)
        touched += 1
        tell.send(("file", str(details[0])[len(run) :], time.monotonic()))

    def telling(phase: Callable[[Any, str], None]) -> Callable[[Any, str], None]:
        def wrapped(self: Any, name: str) -> None:
            tell.send(("phase", name, time.monotonic()))
            phase(self, name)

        return wrapped

    for kind in (Reporter, Silent):
        kind.phase = telling(kind.phase)  # type: ignore[method-assign]
    if env.get(POISON):
        _make_losses_nan()
    sys.addaudithook(on_event)
    try:
        app(arguments)
    finally:
        tell.send(("end", "", time.monotonic()))


def _make_losses_nan() -> None:
    from vision_zero.update import updater
    from vision_zero.update.loss import objective

    def not_a_number(*given: Any) -> Any:
        terms = objective(*given)
        return replace(terms, loss=terms.loss * float("nan"))

    updater.objective = not_a_number  # type: ignore[attr-defined]


def _writes(event: str, details: tuple[Any, ...]) -> bool:
    """Of files that are opened, only those that are written; of flags, what `open` gives to the hook."""
    return event != "open" or bool(int(details[2]) & (os.O_WRONLY | os.O_RDWR))
