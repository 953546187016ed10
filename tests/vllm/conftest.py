"""The real vLLM with tiny random models of real families. `make test-vllm` sets its environment up and runs these."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
MISSING = "vLLM is not installed in this environment: `make test-vllm` makes one that has it and runs these tests"

# Read when vLLM is imported. No threads bound to cores that others use too, and little memory for its cache.
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if importlib.util.find_spec("vllm") is None:
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=MISSING))


@pytest.fixture(scope="session", autouse=True)
def closed() -> Iterator[None]:
    """vLLM starts a process group of its own; it is ended with the tests."""
    yield
    if importlib.util.find_spec("vllm") is not None:
        import torch.distributed as dist

        if dist.is_initialized():
            dist.destroy_process_group()
