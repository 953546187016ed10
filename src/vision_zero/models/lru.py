"""A cache with a limit in bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

V = TypeVar("V")


class ByteLru(Generic[V]):
    """Keeps values by name and forgets those unused for longest once they outgrow `limit` bytes.

    The newest value is always kept, even if it alone is larger than the limit.
    """

    def __init__(self, limit: int, size: Callable[[V], int]) -> None:
        self._limit, self._size = limit, size
        self._items: OrderedDict[str, V] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._items)

    def get(self, key: str, make: Callable[[], V]) -> V:
        """The value of `key`, made and kept if it is not there."""
        if key in self._items:
            self._items.move_to_end(key)
            return self._items[key]
        value = make()
        self._items[key] = value
        self.bytes += self._size(value)
        while self.bytes > self._limit and len(self._items) > 1:
            _, oldest = self._items.popitem(last=False)
            self.bytes -= self._size(oldest)
        return value

    def clear(self) -> None:
        """Forget everything."""
        self._items.clear()
        self.bytes = 0
