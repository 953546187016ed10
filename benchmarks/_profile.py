"""What the seconds of one run went to, by kind of operation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

KINDS = {
    "matrix products": ("mm", "addmm", "bmm", "baddbmm", "linear", "convolution", "addmv", "mv"),
    "attention": ("scaled_dot_product", "flash_attention", "efficient_attention"),
    "copies": (
        "copy_",
        "cat",
        "stack",
        "index",
        "gather",
        "scatter",
        "clone",
        "contiguous",
        "repeat",
        "fill_",
        "zero_",
    ),
}
"""Words in operations' names; the first kind with a match counts."""
OTHER = "other operations on tensors"
OUTSIDE = "outside of them (Python, tokenizer)"


def by_kind(act: Callable[[], Any]) -> str:
    """A line with shares of the seconds of one run of `act`, largest first: on a GPU of its kernels', on a CPU of all.

    Profiling takes time of its own, which makes the last kind look somewhat larger.
    """
    cuda = torch.cuda.is_available()
    activities = [ProfilerActivity.CUDA] if cuda else [ProfilerActivity.CPU]
    with profile(activities=activities) as profiled, record_function(OUTSIDE):
        act()
    spent: Counter[str] = Counter()
    for event in profiled.key_averages():
        spent[_kind(event.key)] += event.self_device_time_total if cuda else event.self_cpu_time_total
    return ", ".join(f"{kind} {seconds / spent.total():.0%}" for kind, seconds in spent.most_common())


def _kind(name: str) -> str:
    if name == OUTSIDE:
        return name
    return next((kind for kind, words in KINDS.items() if any(word in name.lower() for word in words)), OTHER)
