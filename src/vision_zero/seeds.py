"""Seeds by name. All randomness of a run comes from here, never from global state.

A seed depends on what it is for, not on when or where it is drawn: the batch size, the number of
processes and the order of games cannot change which games are dealt or what is sampled in them.
"""

from __future__ import annotations

import hashlib


def derive_seed(*names: int | str) -> int:
    """A 63-bit seed for a named purpose, e.g. `derive_seed(run_seed, "deal", step, game)`."""
    text = "/".join(f"{type(n).__name__}:{n}" for n in names)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
