"""Metrics as sums, so that the figures of micro-batches and processes add up to those of the step."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from accelerate.utils import gather_object

from vision_zero.distributed import Processes


class Tally:
    """Means, totals and maxima by name."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, float]] = {}
        self._peaks: dict[str, float] = {}

    def mean(self, name: str, values: torch.Tensor) -> None:
        """Add values (any shape) to the mean `name`; none are ignored."""
        if values.numel():
            self._add(name, float(values.double().sum()), values.numel())

    def total(self, name: str, value: float) -> None:
        """Add to the sum `name`."""
        self._add(name, value, 0)

    def peak(self, name: str, values: torch.Tensor) -> None:
        """Let the maximum `name` include values (any shape)."""
        if values.numel():
            self._peaks[name] = max(float(values.max()), self._peaks.get(name, -float("inf")))

    def gathered(self, accelerator: Processes) -> dict[str, float]:
        """The figures over all processes, equal on each. To be called by all of them."""
        others = [self] if accelerator.num_processes == 1 else gather_object([self])
        whole = Tally()
        for tally in others:
            for name, (value, count) in tally._sums.items():
                whole._add(name, value, count)
            for name, value in tally._peaks.items():
                whole.peak(name, torch.tensor(value, dtype=torch.float64))
        means = {name: value / count if count else value for name, (value, count) in whole._sums.items()}
        return dict(sorted((means | whole._peaks).items()))

    def _add(self, name: str, value: float, count: float) -> None:
        total, n = self._sums.get(name, (0.0, 0.0))
        self._sums[name] = (total + value, n + count)


class TokenFigures:
    """Figures of each of T sampled tokens, averaged over the passes made over them."""

    def __init__(self, tokens: int, device: torch.device) -> None:
        self._sums: dict[str, torch.Tensor] = {}
        self._passes = torch.zeros(tokens, device=device)
        self._ratio = torch.zeros(tokens, device=device)

    def add(self, tokens: torch.Tensor, ratio: torch.Tensor, **figures: torch.Tensor) -> None:
        """One pass over some `tokens` (t,): what it found for each (t,)."""
        self._passes[tokens] += 1
        self._ratio[tokens] = torch.maximum(self._ratio[tokens], ratio)
        for name, values in (figures | {"ratio": ratio}).items():
            if name not in self._sums:
                self._sums[name] = torch.zeros_like(self._passes)
            self._sums[name][tokens] += values

    def report(self, tally: Tally, labels: Sequence[str], owner: torch.Tensor) -> None:
        """Means of all tokens and of those of each label; `owner` (T,) says whose label is a token's."""
        names = sorted(set(labels))
        label = torch.tensor([names.index(x) for x in labels], device=owner.device)[owner]
        tally.peak("ratio/max", self._ratio)
        for figure, sums in self._sums.items():
            values = sums / self._passes
            tally.mean(figure, values)
            if figure == "sampler_difference":
                tally.peak("sampler_difference/max", values)
            for i, x in enumerate(names):
                tally.mean(f"{figure}/{x}", values[label == i])


class Clock:
    """Seconds by phase. `with clock("forward"): ...` adds to a phase; accelerators are waited for."""

    def __init__(self, seconds: Mapping[str, float] = {}) -> None:
        self.seconds = dict(seconds)

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - start
