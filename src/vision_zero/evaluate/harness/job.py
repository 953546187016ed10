"""What a tool is asked to do, and what it found: the words that both tools share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vision_zero.evaluate.harness.environment import Tool
from vision_zero.evaluate.harness.probe_file import ProbeFile

LOG = "tool.log"
"""All that the tool says, in the folder of its job."""


@dataclass(frozen=True)
class Job:
    """One model, served at `url` by the name `model`, on `benchmarks` (the tool's names; `probes.name` among them).

    Everything that the tool reads and writes lies in `folder`. `judge` is the model that marks replies where rules
    cannot; `max_tokens` the longest reply (None: what the tool's benchmarks say); `requests` how many at once.
    """

    tool: Tool
    model: str
    url: str
    benchmarks: tuple[str, ...]
    probes: ProbeFile | None
    folder: Path
    judge: str | None
    max_tokens: int | None
    requests: int


@dataclass(frozen=True)
class Command:
    """How the tool is started: `arguments` with `settings` added to the environment variables."""

    arguments: list[str]
    settings: Mapping[str, str]


@dataclass(frozen=True)
class Score:
    """The tool's headline for one benchmark, in its own units, and what it gave to each question (0 to 1).

    `answers` is None where the tool keeps no score of single questions. Example: `Score("MMStar", "Overall", 0.613,
    {"0": 1.0, "1": 0.0})`
    """

    benchmark: str
    metric: str
    value: float
    answers: Mapping[str, float] | None
