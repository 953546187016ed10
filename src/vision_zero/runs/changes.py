"""A run goes on with the settings it was started with, unless its user names those that may change."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from vision_zero.config import RunConfig
from vision_zero.errors import UserError
from vision_zero.types import JSON

Changes = Mapping[str, tuple[Any, Any]]
"""Setting -> what it was and what it is to be. Example: `{"update.learning_rate": (1e-05, 3e-05)}`"""


def changed_settings(then: RunConfig, now: RunConfig) -> dict[str, tuple[Any, Any]]:
    """All settings that differ."""
    before, after = _flat(then.model_dump(mode="json")), _flat(now.model_dump(mode="json"))
    # A branch may be absent on one side (`model.lora: null`): what stands below it is then None there.
    return {
        key: (before.get(key), after.get(key))
        for key in [*before, *(k for k in after if k not in before)]
        if before.get(key) != after.get(key)
    }


def require_allowed(changes: Changes, allowed: Collection[str], how: str) -> None:
    """Raises `UserError` naming every change that `allowed` (settings, or branches of them) does not cover.

    `how`: what the user can do about it.
    """
    refused = [key for key in changes if not any(_covers(name, key) for name in allowed)]
    if refused:
        listed = "; ".join(f"{key} was {changes[key][0]!r}, is {changes[key][1]!r}" for key in refused)
        raise UserError(f"the run has other settings ({listed}): {how}")


def _covers(name: str, key: str) -> bool:
    return key == name or key.startswith(f"{name}.")


def _flat(tree: JSON, prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found
