"""Is a value what its type says? For trees that were read from files which anybody may have written."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def require_type(value: Any, kind: Any, where: str) -> None:
    """Raise TypeError naming the place, unless `value` is a `kind`: a plain class, a dataclass with all its fields, an
    enum, a literal, a union, a tuple or a mapping of these. A whole number passes for a float, True for no number."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return
    if origin is Literal:
        fits = any(value == choice and type(value) is type(choice) for choice in inner)
    elif origin in (Union, types.UnionType):
        fits = any(_is(value, choice) for choice in inner)
    elif origin is tuple:
        fits = isinstance(value, tuple) and (inner[-1] is Ellipsis or len(value) == len(inner))
        if fits and inner[0] in (int, float) and inner[-1] is Ellipsis:
            # thousands of ids and log-probs a game
            fits = set(map(type, value)) <= ({int} if inner[0] is int else {int, float})
        elif fits:
            for i, item in enumerate(value):
                require_type(item, inner[0] if inner[-1] is Ellipsis else inner[i], f"{where}[{i}]")
    elif origin is not None and issubclass(origin, Mapping):
        fits = isinstance(value, Mapping)
        for key, item in value.items() if fits else ():
            require_type(key, inner[0], f"a key of {where}")
            require_type(item, inner[1], f"{where}[{key!r}]")
    elif isinstance(kind, type) and is_dataclass(kind):
        fits = isinstance(value, kind)
        for name, hint in _fields(kind) if fits else ():
            require_type(getattr(value, name), hint, f"{where}.{name}")
    elif isinstance(kind, type) and issubclass(kind, Enum):
        fits = isinstance(value, kind)
    else:
        fits = type(value) is kind or (kind is float and type(value) is int)
    if not fits:
        raise TypeError(f"{where} is {str(value)[:40]!r}, not {getattr(kind, '__name__', kind)}")


def _is(value: Any, kind: Any) -> bool:
    try:
        require_type(value, kind, "")
    except TypeError:
        return False
    return True


@cache
def _fields(kind: type) -> tuple[tuple[str, Any], ...]:
    hints = get_type_hints(kind)
    return tuple((f.name, hints[f.name]) for f in fields(kind))
