"""Runs inside the environment of VLMEvalKit or lmms-eval; nothing imports it.

`start.py run MODULE ARGUMENTS...` runs a module of the tool as a program. `start.py describe TOOL` and
`start.py report FOLDER` (what VLMEvalKit says of a run) answer with one marked line of JSON on standard output.
"""

from __future__ import annotations

import json
import runpy
import sys
from importlib import metadata
from typing import Any

import torch

DISTRIBUTIONS = {"vlmevalkit": "ms-vlmeval", "lmms-eval": "lmms_eval"}


def let_torchvision_load() -> None:
    """Make torchvision importable beside a torch that is built for CPUs.

    The package index has torchvision only with kernels for CUDA, which cannot be loaded then; its import fails as
    it looks for the schemas of two operators that the kernels define. The tools import it but never call those two.
    """
    if torch.version.cuda is None and torch.version.hip is None:
        # schemas are known as long as this object lives
        library: Any = torch.library
        let_torchvision_load.schemas = schemas = library.Library("torchvision", "DEF")  # type: ignore[attr-defined]
        for name in ("nms", "qnms"):
            schemas.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def describe(tool: str) -> dict[str, Any]:
    """Version, all packages, and every benchmark: with its class in VLMEvalKit, task or group in lmms-eval."""
    if tool == "vlmevalkit":
        from vlmeval.dataset import DATASET_CLASSES

        # the first class that knows a name is the one that VLMEvalKit takes
        known = {name: c.__name__ for c in reversed(DATASET_CLASSES) for name in c.supported_datasets()}
    else:
        from lmms_eval.tasks import TaskManager

        manager = TaskManager()
        known = dict.fromkeys(manager.all_groups, "group") | dict.fromkeys(manager.all_subtasks, "task")
    packages = sorted(f"{d.name}=={d.version}" for d in metadata.distributions())
    return {"version": metadata.version(DISTRIBUTIONS[tool]), "benchmarks": known, "packages": packages}


def report(folder: str) -> dict[str, Any]:
    """Headline score, failures and errors of each benchmark of a run of VLMEvalKit."""
    from vlmeval.smp import collect_run_benchmark_report

    return {"benchmarks": collect_run_benchmark_report(folder)}


def main() -> None:
    let_torchvision_load()
    what, argument, *rest = sys.argv[1:]
    if what == "run":
        sys.argv = [argument, *rest]
        runpy.run_module(argument, run_name="__main__", alter_sys=True)
        return
    answer = describe(argument) if what == "describe" else report(argument)
    print("\nvision-zero:" + json.dumps(answer, default=float))


if __name__ == "__main__":
    main()
