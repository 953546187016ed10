"""Restarts: many instants, one and two processes."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.kills import KILLED, Kill, Life, command, differences, live, plan_kill
from tests.soak.rows import Row, Trial, tested
from tests.test_lifeline import runs
from vision_zero.preemption import EXIT_CODE

STRATA = ("play", "update", "checkpoint", "files", "score")
ATTEMPTS = 5
"""Instants that are drawn until one falls before the end of the run."""


def killed(number: int, scratch: Path) -> Trial:
    """SIGKILL at an instant of one of the strata, then the same command again."""
    expected, reference = _reference(scratch)
    run, stratum = _fresh(scratch), STRATA[number % len(STRATA)]
    for attempt in range(ATTEMPTS):
        life = live(run, command(run), plan_kill(reference, stratum, seed=1000 * attempt + number))
        if life.code == KILLED:
            break
        shutil.rmtree(run)
    else:
        return Trial(f"it was never hit: {stratum}")
    return _go_on(expected, run, life)


def killed_often(number: int, scratch: Path) -> Trial:
    """Up to three times in one run: what goes on has less left, and may end before its instant."""
    expected, reference = _reference(scratch)
    run = _fresh(scratch)
    deaths = 0
    for attempt, stratum in enumerate(("files", "checkpoint", "update")):
        life = live(run, command(run), plan_kill(reference, stratum, seed=10_000 + 10 * number + attempt))
        deaths += life.code == KILLED
    trial = _go_on(expected, run, life)
    return Trial(trial.wrong, f"with {deaths} kills")


def asked_to_leave(number: int, scratch: Path) -> Trial:
    """SIGTERM instead: it leaves with its own code, and nothing that was played is played again."""
    expected, reference = _reference(scratch)
    run = _fresh(scratch)
    instant = plan_kill(reference, ("play", "score", "update")[number % 3], seed=20_000 + number)
    life = live(run, command(run), Kill(phase=instant.phase, delay=instant.delay, signal=signal.SIGTERM))
    played = len(list((run / "episodes").glob("*.jsonl")))
    saved = sorted(p.name for p in (run / "checkpoints").glob("step-*"))
    if life.code != EXIT_CODE or not saved or saved[-1] != f"step-{played:06d}":
        return Trial(f"exit code {life.code}, {played} steps played, saved {saved}")
    again = live(run, command(run))
    # its own checkpoints are more than those of the run that was left in peace
    apart = [n for n in differences(expected, run) if not n.startswith("checkpoints/") or "step-000004" in n]
    return Trial(f"exit code {again.code}, differs in {apart[:3]}" if again.code or apart else "", f"in {life.last}")


def torn(number: int, scratch: Path) -> Trial:
    """One byte of the newest checkpoint is changed, or a file of it cut or lost."""
    expected, _ = _reference(scratch)
    run, rng = _fresh(scratch), random.Random(number)
    shutil.copytree(expected, run)
    file = rng.choice(sorted(p for p in (run / "checkpoints" / "step-000004").rglob("*") if p.is_file()))
    harm = ("a byte changed", "cut", "lost")[number % 3]
    data = bytearray(file.read_bytes())
    if harm == "a byte changed":
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        file.write_bytes(data)
    elif harm == "cut":
        file.write_bytes(data[: rng.randrange(len(data))])
    else:
        file.unlink()
    life = live(run, command(run))
    apart = differences(expected, run)
    noticed = "trying the one before" in life.said
    return Trial("" if not life.code and noticed and not apart else f"{file.name}: {life.said}, {apart[:3]}", harm)


def two_processes(number: int, scratch: Path) -> Trial:
    """Launched as a user would. The launcher or one of its processes is killed at a random time."""
    expected = scratch / "together"
    words = [sys.executable, "-m", "vision_zero.cli"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    if not (expected / "curves.png").exists():
        shutil.rmtree(expected, ignore_errors=True)
        subprocess.run([*words, *command(expected, processes=2)], check=True, **quiet)
    took = (expected / "curves.png").stat().st_mtime - (expected / "recipe.yaml").stat().st_mtime
    run, rng = _fresh(scratch), random.Random(number)
    victim = ("launcher", "first", "second")[number % 3]
    for _ in range(ATTEMPTS):
        launcher = subprocess.Popen([*words, *command(run, processes=2)], **quiet)
        while not (run / "run.json").exists() and launcher.poll() is None:
            time.sleep(0.05)
        delay = rng.uniform(0, took)
        time.sleep(delay)
        if launcher.poll() is None:
            children = [int(p) for p in Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()]
            pids = {"launcher": launcher.pid, **dict(zip(("first", "second"), children, strict=False))}
            os.kill(pids.get(victim, launcher.pid), signal.SIGKILL)
            launcher.wait()
            break
        shutil.rmtree(run)
    else:
        return Trial("it was never hit")
    deadline = time.monotonic() + 30  # they hear of it at once, but a busy machine may not let them
    while (left := [pid for pid in children if runs(pid)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    again = subprocess.run([*words, *command(run, processes=2)], check=False, **quiet)
    apart = differences(expected, run)
    wrong = f"exit code {again.returncode}, outlived by {left}, differs in {apart[:3]}"
    return Trial(wrong if again.returncode or left or apart else "", victim)


def launcher_asked(number: int, scratch: Path) -> Trial:
    """SIGTERM to the launcher of two processes, at a random time after the first step."""
    run = _fresh(scratch)
    words = [sys.executable, "-m", "vision_zero.cli", *command(run, processes=2, steps=1000)]
    launcher = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    metrics = run / "metrics.jsonl"
    while launcher.poll() is None and not (metrics.exists() and metrics.stat().st_size):
        time.sleep(0.1)
    time.sleep(random.Random(number).uniform(0, 5))
    launcher.terminate()
    code = launcher.wait()
    played = len(metrics.read_text().splitlines())
    saved = sorted(p.name for p in (run / "checkpoints").glob("step-*"))[-1:]
    kept = code == EXIT_CODE and saved == [f"step-{played:06d}"]
    return Trial("" if kept else f"exit code {code}, {played} steps played, saved {saved}")


def _reference(scratch: Path) -> tuple[Path, Life]:
    """The run that nobody disturbs; made anew in each soak, since its phases set the instants."""
    if scratch not in _REFERENCES:
        run = scratch / "undisturbed"
        shutil.rmtree(run, ignore_errors=True)
        life = live(run, command(run))
        assert life.code == 0, life.said
        _REFERENCES[scratch] = run, life
    return _REFERENCES[scratch]


_REFERENCES: dict[Path, tuple[Path, Life]] = {}


def _fresh(scratch: Path) -> Path:
    run = scratch / "run"
    shutil.rmtree(run, ignore_errors=True)
    return run


def _go_on(expected: Path, run: Path, life: Life) -> Trial:
    again = live(run, command(run))
    apart = differences(expected, run)
    wrong = f"exit code {again.code} ({again.said.strip()[-200:]}), differs in {apart[:3]}"
    return Trial(wrong if again.code or apart else "", f"in {life.last}")


ROWS = (
    Row("killed once, started again: all bits equal", 30, killed),
    Row("killed up to three times in one run: all bits equal", 5, killed_often),
    Row("two processes, launcher or one of them killed: all bits equal, no orphan", 9, two_processes),
    Row("asked to leave: saved, code 75, all bits equal", 6, asked_to_leave),
    Row("launcher of two processes asked to leave: saved, code 75", 3, launcher_asked),
    Row("newest checkpoint damaged: noticed, the one before used", 6, torn),
    tested("no child outlives a killed parent", "tests/test_lifeline.py"),
    tested("damaged checkpoints noticed; the best and the last two stay", "tests/runs/test_checkpoint.py"),
    tested("other settings refused unless named", "tests/test_restart.py", "tests/test_cli.py"),
    tested("weights of renamed keys are never taken for loaded", "tests/models/test_renamed_keys.py"),
    tested("lost players and processes: told, kept, gone on with", "tests/test_lost.py"),
    tested("a full disk: the old checkpoint survives", "tests/runs/test_full_disk.py"),
    tested(
        "updates that are not finite, memory that ends: told, counted, bounded",
        "tests/models/test_memory.py",
        "tests/update/test_updater.py",
    ),
    tested("same seed, same games; no global random state", "tests/test_determinism.py", "tests/test_house.py"),
)
