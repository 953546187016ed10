"""Do runs that must be the same have the same bytes?"""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from tests.kills import differences
from tests.soak.rows import Row, Trial, tested
from tests.test_determinism import RECIPE, reproduced


def bytes_equal(number: int, scratch: Path) -> Trial:
    """A run in `number` modulo 4 plus 1 processes, its batch size drawn, beside one that is kept."""
    expected = scratch / "reproducible"
    if not (expected / "held_out.json").exists():
        shutil.rmtree(expected, ignore_errors=True)
        reproduced(expected)
    rng = random.Random(f"batch size {number}")
    processes, batch = number % 4 + 1, rng.randint(1, 40)
    found = reproduced(scratch / f"reproducible-{number}", processes=processes, rollouts__batch_size=batch)
    wrong = [name for name in differences(expected, found) if name != RECIPE]
    if not wrong:
        shutil.rmtree(found)
    return Trial(", ".join(wrong), f"{processes} processes")


ROWS: tuple[Row, ...] = (
    Row("reproducible: same bytes in 1 to 4 processes, any batch size", 8, bytes_equal),
    tested(
        "same games beside others; nobody draws from global state",
        "tests/test_determinism.py",
        "tests/rollouts/test_hf.py",
        "tests/test_house.py",
    ),
)
