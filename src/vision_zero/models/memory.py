"""Memory that ends, told so that one knows what to lower."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from vision_zero.errors import UserError

_ON_THE_CPU = ("can't allocate memory", "not enough memory")
"""What torch says in an ordinary `RuntimeError`."""


@contextmanager
def memory_for(what: str, remedy: str) -> Iterator[None]:
    """Inside, memory that ends is a `UserError` that names `what` needed it and the `remedy`.

    Example: `with memory_for("an update on 3 rows of 4096 tokens", "lower update.tokens_per_batch (16384)"): ...`
    """
    try:
        yield
    except (MemoryError, RuntimeError) as e:
        known = isinstance(e, MemoryError | torch.OutOfMemoryError) or any(words in str(e) for words in _ON_THE_CPU)
        if not known:
            raise
        said = (str(e).splitlines() or [type(e).__name__])[0]
        raise UserError(f"out of memory in {what}: {remedy}. ({said})") from e
