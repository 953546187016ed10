"""What every benchmark needs: ways that take turns, the machine and its limits, tables and JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from vision_zero.models.base import VLM


@dataclass(frozen=True)
class Spent:
    """Seconds of one run: on the clock, and of this process's CPUs (what neighbours do disturbs those less)."""

    wall: float
    cpu: float

    @property
    def steady(self) -> float:
        """The figure to compare: CPU seconds, or the clock's where a GPU does the work."""
        return self.wall if torch.cuda.is_available() else self.cpu

    def over(self, parts: float) -> Spent:
        """A part's share of it."""
        return Spent(self.wall / parts, self.cpu / parts)


def spent(act: Callable[[], Any]) -> Spent:
    """What one run of `act` takes."""
    _wait()
    wall, cpu = time.perf_counter(), time.process_time()
    act()
    _wait()
    return Spent(time.perf_counter() - wall, time.process_time() - cpu)


def take_turns(ways: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list[Spent]]:
    """Run every way `repeats` times, one after the other in turn, so that what else the machine does falls on all."""
    runs: dict[str, list[Spent]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, act in ways.items():
            runs[name].append(spent(act))
    return runs


def ratios(slow: Sequence[Spent], fast: Sequence[Spent]) -> list[float]:
    """How many times as long the slow way took, turn by turn."""
    return [a.steady / b.steady for a, b in zip(slow, fast, strict=True)]


def middle(values: Sequence[float], form: str = ".2f") -> str:
    """Median and range. Example: `"3.10 (2.95 to 3.40)"`"""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def flops_of(act: Callable[[], Any]) -> int:
    """Floating-point operations of matrix products in one run of `act`; attention on a CPU is not among them."""
    with FlopCounterMode(display=False) as counter:
        act()
    return counter.get_total_flops()


def peak_bytes(act: Callable[[], Any]) -> int:
    """Most bytes that `act` holds at once beyond those before it: on a GPU what torch's allocator says, on a CPU the
    sum of what was allocated and not yet freed, from torch's profiler."""
    if torch.cuda.is_available():
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        act()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        act()
    now = peak = 0
    events = profiled.profiler.kineto_results.events()
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


# The machine


def machine() -> str:
    """What the figures were measured on. Example: `"2 cores, Intel Xeon Processor (SapphireRapids), 1 thread"`"""
    packages = " ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, {packages}"
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{os.cpu_count()} cores, {name}, {torch.get_num_threads()} thread(s), {packages}"


@cache
def matrix_limit(dtype: torch.dtype, width: int) -> float:
    """Most FLOP/s of a product of (2048, width) and (width, 3 width), measured here and now."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(2048, width, generator=generator).to(device, dtype)
    b = torch.randn(3 * width, width, generator=generator).to(device, dtype)
    return 2 * 2048 * width * 3 * width / _best(lambda: torch.nn.functional.linear(a, b))


def limit_of(vlm: VLM) -> float:
    """What products of the model's dtype and width reach here, FLOP/s."""
    return matrix_limit(next(vlm.model.parameters()).dtype, vlm.network.config.get_text_config().hidden_size)


def reached(rate: float, vlm: VLM) -> str:
    """`rate` FLOP/s beside `limit_of` the model."""
    limit = limit_of(vlm)
    return f"{rate / 1e9:.1f} GFLOP/s in matrix products, {rate / limit:.0%} of the {limit / 1e9:.0f} measured"


@cache
def memory_limit() -> float:
    """Most bytes/s read from memory, measured here and now on 256 MiB."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    store = torch.ones(2**26, device=device)
    return store.nbytes / _best(store.sum)


def _best(act: Callable[[], Any]) -> float:
    """Seconds of the fastest of many runs in about half a second."""
    act()
    best, until = float("inf"), time.perf_counter() + 0.5
    while time.perf_counter() < until:
        best = min(best, spent(act).steady)
    return best


def _wait() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


# Command line and output


def options(doc: str | None, **more: Any) -> argparse.ArgumentParser:
    """A parser with what all benchmarks share; `more` sets its defaults."""
    parser = argparse.ArgumentParser(
        description=(doc or "").splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--model", choices=("tiny", "100m"), default="tiny", help="random Qwen2.5-VL of this size")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--seats", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--votes", type=int, default=8, help="drawn from the analyst")
    parser.add_argument("--answers", type=int, default=32, help="most tokens of a clue or a vote")
    parser.add_argument("--layout", choices=("shared", "published"), default="shared", help="order of a prompt's parts")
    parser.add_argument("--games", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    parser.set_defaults(**more)
    return parser


@dataclass(frozen=True)
class Goal:
    """A figure and what it should be. Example: `Goal("play", 23.1, 20, "at least")`"""

    name: str
    value: float
    bound: float
    sense: str

    def __str__(self) -> str:
        met = self.value >= self.bound if self.sense == "at least" else self.value <= self.bound
        return f"{self.name}: {self.value:.3g}, goal {self.sense} {self.bound:g}: {'met' if met else 'MISSED'}"


def report(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    notes: Sequence[str] = (),
    goals: Sequence[Goal] = (),
    json_to: Path | None = None,
) -> None:
    """Print a table, the machine, notes and goals; write the same as JSON if asked for."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*map(str, row))
    console.print(table)
    for line in (*notes, *map(str, goals), machine()):
        console.print(line, highlight=False, markup=False)
    if json_to is not None:
        content = {
            "title": title,
            "command": " ".join(sys.argv),
            "machine": machine(),
            "rows": [dict(zip(columns, map(str, row), strict=True)) for row in rows],
            "notes": list(notes),
            "goals": [asdict(goal) for goal in goals],
        }
        json_to.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
