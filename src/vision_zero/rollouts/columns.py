"""A key-value cache in memory that is set aside at once: no token copies what came before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin, get_layer_types_and_kwargs

from vision_zero.errors import UserError


def layers_of(config: Any) -> int:
    """How many layers of the language model keep columns. Raises `UserError` if one attends other than to all."""
    types, _ = get_layer_types_and_kwargs(config.get_text_config(decoder=True))
    if other := sorted(set(types) - {"full_attention"}):
        raise UserError(
            f"this model has {', '.join(other)} layers; the engine 'hf' plays models whose layers attend to everything"
        )
    return len(types)


class Columns(Cache):
    """Keys and values of n rows, one column a token, with room for `capacity` columns.

    Below, L is the number of layers, K of key-value heads, D their size.
    """

    layers: Any  # list[_Layer]; the base class names a list of wider things

    def __init__(self, layers: int, capacity: int) -> None:
        super().__init__(layers=[_Layer(capacity) for _ in range(layers)])

    def load(self, rows: Sequence[Tensor | None], width: int) -> None:
        """Start with `width` columns: `rows[i]` (L, 2, K, columns, D) at the right end of row i, None for none.

        The columns to their left hold zeros and must be masked.
        """
        first = next(r for r in rows if r is not None)
        for i, layer in enumerate(self.layers):
            store = layer.allocate(len(rows), first[i])
            for row, columns in enumerate(rows):
                start = width if columns is None else width - columns.shape[3]
                # What is masked is still multiplied, so that it must be finite.
                store[:, row, :, :start] = 0
                if columns is not None:
                    store[:, row, :, start:width] = columns[i]
            layer.length = width

    def row(self, row: int, places: Tensor) -> Tensor:
        """A copy (L, 2, K, len(places), D) of some columns of a row."""
        return torch.stack([layer.filled[:, row].index_select(2, places) for layer in self.layers])

    def place(self, rows: Tensor, columns: Tensor, length: int) -> None:
        """The next n tokens are not one a row: token i becomes column `columns[i]` of row `rows[i]`. Then there are
        `length` columns; those that no token became hold zeros and must be masked."""
        for layer in self.layers:
            layer.places, layer.after = (rows, columns), length

    def select(self, rows: Tensor) -> None:
        """Go on with these rows. One layer at a time is held twice."""
        for layer in self.layers:
            layer.select(rows)


class _Layer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """One layer. `store` (2, n, K, capacity, D): keys, then values."""

    is_sliding = False

    def __init__(self, capacity: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.capacity, self.length = capacity, 0
        self.store: Tensor | None = None
        self.places: tuple[Tensor, Tensor] | None = None
        self.after = 0

    @property
    def filled(self) -> Tensor:
        """(2, n, K, length, D)."""
        assert self.store is not None
        return self.store[:, :, :, : self.length]

    def allocate(self, rows: int, like: Tensor) -> Tensor:
        """Memory for `rows`; `like` (..., K, any, D) has the kind of what will come."""
        heads, _, size = like.shape[-3:]
        self.store = like.new_empty(2, rows, heads, self.capacity, size)
        self.is_initialized = True
        return self.store

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.allocate(len(key_states), key_states)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if self.store is None:
            self.lazy_initialization(key_states, value_states)
        assert self.store is not None
        end = self.after if self.places else self.length + key_states.shape[-2]
        if self.places:
            rows, columns = self.places
            self.store[:, :, :, self.length : end] = 0
            self.store[0, rows, :, columns] = key_states[:, :, 0]
            self.store[1, rows, :, columns] = value_states[:, :, 0]
        else:
            self.store[0, :, :, self.length : end] = key_states
            self.store[1, :, :, self.length : end] = value_states
        self.length = end
        keys, values = self.filled
        return keys, values

    def select(self, rows: Tensor) -> None:
        assert self.store is not None
        self.store = self.store.index_select(1, rows)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.length + query_length, 0

    def get_seq_length(self) -> int:
        return self.length

    def get_max_length(self) -> int:
        return self.capacity
