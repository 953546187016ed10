"""What was shown to work with which family: `families.json`, written from test results (see tests/conftest.py)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files

from rich.table import Table

CAPABILITIES = ("train", "LoRA", "vLLM", "prefix sharing", "several pictures", "resume")


def families() -> Mapping[str, Mapping[str, bool]]:
    """`model_type` -> capability -> whether all tests of it pass. Example: `{"internvl": {"LoRA": True, ...}, ...}`"""
    text = files(__package__).joinpath("families.json").read_text(encoding="utf-8")
    table: Mapping[str, Mapping[str, bool]] = json.loads(text)
    return table


def models_table() -> Table:
    """For the terminal."""
    table = Table(title="shown by the tests, with random tiny models of the real classes", title_justify="left")
    table.add_column("model_type")
    for capability in CAPABILITIES:
        table.add_column(capability, justify="center")
    for name, shown in families().items():
        table.add_row(name, *("yes" if shown[c] else "-" for c in CAPABILITIES))
    return table
