"""What all tests share, and which tests show what of which model family: the results behind `vision-zero models`.

A test marked `@pytest.mark.shows("train")` speaks for the family it is run with (its parameter `family`).
`pytest --write-models` writes what the results show into the package's table, and leaves what this environment has
no tests for (those of vLLM run in another, see `make test-vllm`); a table that claims more or less than the marks is
refused by `tests/models/test_table.py`, and a marked test that fails fails the suite.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from vision_zero.models.table import CAPABILITIES, families

# No test may fail because a machine is slow; and a red build must be red again when it is looked into.
settings.register_profile(
    "steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile("steady")

TABLE = Path(__file__).parent.parent / "src" / "vision_zero" / "models" / "families.json"
RESULTS: defaultdict[tuple[str, str], list[bool]] = defaultdict(list)


@pytest.fixture(scope="session", autouse=True)
def _temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tested programs leave in the machine's temporary folder goes with the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        folder = str(tmp_path_factory.mktemp("temporary"))
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", folder)
        yield


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-models", action="store_true", help="write what the tests show of each model family")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "shows(capability): passing shows it for the family of the test")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        family = getattr(item, "callspec", None) and item.callspec.params.get("family")  # type: ignore[attr-defined]
        for mark in item.iter_markers("shows"):
            assert mark.args[0] in CAPABILITIES, f"{item.nodeid}: unknown capability {mark.args[0]!r}"
            assert family, f"{item.nodeid}: a test that shows something needs the parameter `family`"
            item.user_properties.append(("shows", [family, mark.args[0]]))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.outcome == "skipped":
        return  # it says nothing
    if report.when == "call" or report.outcome != "passed":
        for name, value in report.user_properties:
            if name == "shows":
                RESULTS[value[0], value[1]].append(report.outcome == "passed")


def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.config.getoption("--write-models") and not hasattr(session.config, "workerinput"):
        table = {name: dict(shown) for name, shown in families().items()}
        spoken_of = {capability for _, capability in RESULTS}
        for name in {family for family, _ in RESULTS} | set(table):
            before = table.get(name, {})
            table[name] = {
                c: bool(RESULTS[name, c]) and all(RESULTS[name, c]) if c in spoken_of else before.get(c, False)
                for c in CAPABILITIES
            }
        table = dict(sorted(table.items()))
        TABLE.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
