"""State dicts on disk without pickle: tensors in safetensors, everything else in JSON.

A state is a nest of dicts, lists and tuples with tensors, strings, numbers, booleans and None at its leaves. It
comes back equal, bit for bit, with the same types of containers and of keys.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

TENSOR, TUPLE, ITEMS, FLOAT = "$tensor", "$tuple", "$items", "$float"


def write_state(folder: Path, name: str, state: Any) -> None:
    """Write `NAME.json` and `NAME.safetensors`. Raises `TypeError` naming the leaf that is of no known kind."""
    tensors: dict[str, torch.Tensor] = {}
    tree = _encode(state, name, tensors)
    (folder / f"{name}.json").write_text(json.dumps(tree, allow_nan=False, indent=1), encoding="utf-8")
    save_file(tensors, folder / f"{name}.safetensors")


def read_state(folder: Path, name: str) -> Any:
    """What `write_state` wrote; tensors are on the CPU."""
    tree = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return _decode(tree, load_file(folder / f"{name}.safetensors"))


def nbytes(state: Any) -> int:
    """About how many bytes `write_state` writes: those of the tensors."""
    if isinstance(state, torch.Tensor):
        return state.nbytes
    if isinstance(state, dict):
        return sum(map(nbytes, state.values()))
    return sum(map(nbytes, state)) if isinstance(state, list | tuple) else 0


def _encode(value: Any, where: str, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        key = f"{len(tensors)} {where}"
        tensors[key] = value.detach().cpu().contiguous().clone()
        return {TENSOR: key}
    if isinstance(value, float) and not math.isfinite(value):
        return {FLOAT: repr(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple):
        return {TUPLE: [_encode(v, f"{where}.{i}", tensors) for i, v in enumerate(value)]}
    if isinstance(value, list):
        return [_encode(v, f"{where}.{i}", tensors) for i, v in enumerate(value)]
    if isinstance(value, dict):
        pairs = {k: _encode(v, f"{where}.{k}", tensors) for k, v in value.items()}
        if all(isinstance(k, str) and not k.startswith("$") for k in pairs):
            return pairs
        return {ITEMS: [[_encode(k, where, tensors), v] for k, v in pairs.items()]}
    raise TypeError(f"state {where} is a {type(value).__name__}, which has no form in JSON or safetensors")


def _decode(tree: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(tree, list):
        return [_decode(v, tensors) for v in tree]
    if not isinstance(tree, dict):
        return tree
    match tree:
        case {"$tensor": key}:
            return tensors[key]
        case {"$tuple": values}:
            return tuple(_decode(v, tensors) for v in values)
        case {"$items": pairs}:
            return {_decode(k, tensors): _decode(v, tensors) for k, v in pairs}
        case {"$float": text}:
            return float(text)
    return {k: _decode(v, tensors) for k, v in tree.items()}
