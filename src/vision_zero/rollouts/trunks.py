"""What was read stays read: prompts of a game begin alike, and only what is new in them needs the model."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor

from vision_zero.types import Prompt


class Trunks:
    """Columns of prompts read lately (see `Columns.load`), at most `limit` bytes of them.

    They belong to the weights that made them: whoever changes weights throws the whole object away. Beyond the
    limit, the prompts of the pictures that were unused for longest are forgotten.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._by_pictures: OrderedDict[tuple[str, ...], dict[tuple[int, ...], Tensor]] = OrderedDict()
        self.bytes = 0

    def longest(self, prompt: Prompt) -> tuple[int, Tensor | None]:
        """How many ids the prompt has in common with a kept one of the same pictures, and that one's columns."""
        kept = self._by_pictures.get(prompt.pictures)
        if kept is None:
            return 0, None
        self._by_pictures.move_to_end(prompt.pictures)
        return max(((common(ids, prompt.ids), columns) for ids, columns in kept.items()), key=lambda found: found[0])

    def keep(self, prompt: Prompt, columns: Tensor, continues: Tensor | None) -> None:
        """Keep a prompt that was read. If it `continues` more than half of another, it takes that one's place."""
        kept = self._by_pictures.setdefault(prompt.pictures, {})
        self._by_pictures.move_to_end(prompt.pictures)
        replaced = [ids for ids, old in kept.items() if old is continues and 2 * common(ids, prompt.ids) > len(ids)]
        for ids in {*replaced, prompt.ids} & kept.keys():
            self.bytes -= kept.pop(ids).nbytes
        kept[prompt.ids] = columns
        self.bytes += columns.nbytes
        while self.bytes > self._limit:
            _, oldest = self._by_pictures.popitem(last=False)
            self.bytes -= sum(c.nbytes for c in oldest.values())


def common(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the common beginning."""
    shorter = min(len(a), len(b))
    return next((i for i in range(shorter) if a[i] != b[i]), shorter)


def whole_pictures(ids: Sequence[int], placeholder: int, counts: Sequence[int]) -> tuple[int, int]:
    """The longest beginning of `ids` that ends in no picture, and how many whole pictures it has.

    `counts[k]` is the number of placeholders of picture k. They need not be adjacent: tiles of one picture may
    have other tokens between them.
    """
    places = [i for i, token in enumerate(ids) if token == placeholder]
    before = 0
    for k, count in enumerate(counts):
        if len(places) == before:
            return len(ids), k
        if len(places) < before + count:
            return places[before], k
        before += count
    return len(ids), len(counts)
