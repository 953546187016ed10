"""One loaded model a family for the tests that do not change it."""

from __future__ import annotations

import pytest

from tests.tiny_models import FAMILIES, load_tiny
from vision_zero.models.base import VLM


@pytest.fixture(scope="session")
def vlms() -> dict[str, VLM]:
    return {family: load_tiny(family) for family in FAMILIES}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def vlm(family: str, vlms: dict[str, VLM]) -> VLM:
    """Everything trainable; not to be changed."""
    return vlms[family]
