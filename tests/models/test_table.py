"""`vision-zero models` claims what tests show, no more and no less."""

from __future__ import annotations

import inspect
import io
from collections.abc import Iterator

import pytest
from rich.console import Console

from tests.models import test_contract
from tests.tiny_models import FAMILIES
from tests.vllm import test_local
from vision_zero.models.table import CAPABILITIES, families, models_table


def shown() -> Iterator[tuple[str, str]]:
    """(test, capability) of every mark in the contract and in the tests of vLLM, which run with every family."""
    for group in [*(g for _, g in inspect.getmembers(test_contract, inspect.isclass)), test_local]:
        for name, test in inspect.getmembers(group, inspect.isfunction):
            for mark in getattr(test, "pytestmark", []):
                if mark.name == "shows":
                    assert "family" in inspect.signature(test).parameters
                    yield name, mark.args[0]


def test_the_table_claims_what_the_contract_shows() -> None:
    proved = {capability for _, capability in shown()}
    assert proved == set(CAPABILITIES)
    assert list(families()) == sorted(FAMILIES)
    for name, claims in families().items():
        assert {c for c, claimed in claims.items() if claimed} == proved, name
        assert list(claims) == list(CAPABILITIES)


def test_no_test_that_shows_something_can_be_skipped() -> None:
    for _, group in inspect.getmembers(test_contract, inspect.isclass):
        for name, test in inspect.getmembers(group, inspect.isfunction):
            marks = {mark.name for mark in getattr(test, "pytestmark", [])}
            assert "shows" not in marks or not marks & {"skip", "skipif", "xfail"}, name


@pytest.mark.parametrize("family", FAMILIES)
def test_the_table_is_printed(family: str) -> None:
    file = io.StringIO()
    Console(file=file, width=120).print(models_table())
    (line,) = [line for line in file.getvalue().splitlines() if f" {family} " in line]
    assert line.count("yes") == sum(families()[family].values())
