"""Hostile words and files: completions by the thousand, spoiled run directories by the hundred."""

from __future__ import annotations

from pathlib import Path

from tests.hostile.files import fuzz_files, make_run
from tests.hostile.fuzzing import COMPLETIONS_A_GAME, fuzz_words
from tests.soak.rows import Row, Trial, tested

GAMES, SPOILED = 91, 10
"""Of one trial."""


def words(number: int, scratch: Path) -> Trial:
    """Games of completions that were drawn for this trial."""
    figures = fuzz_words(GAMES * COMPLETIONS_A_GAME, seed=number)
    return Trial(note=f"with {round(figures.kept_clues / figures.clues, 1):.0%} of clues heard")


def files(number: int, scratch: Path) -> Trial:
    """A finished run, spoiled in other places in every trial."""
    finished = scratch / "hostile-finished"
    if not finished.exists():
        make_run(scratch / "hostile-making").rename(finished)
    return Trial(
        "; ".join(fuzz_files(finished, scratch, SPOILED, seed=100 + number)), "every command ended with 0 or 2"
    )


ROWS = (
    Row("hostile completions in whole games, read by every family", 11, words, cases=GAMES * COMPLETIONS_A_GAME),
    Row("spoiled files of a run directory, every command that reads them", 20, files, cases=SPOILED),
    tested(
        "hostile recipes, run directories, pickles and pictures",
        "tests/hostile/test_files.py",
        "tests/pairs/test_reading.py",
    ),
    tested(
        "votes read as the reference table says; cleaning", "tests/games/test_speech.py", "tests/hostile/test_words.py"
    ),
    tested("alarms: a cheat for each, none in honest games", "tests/credit/test_alarms.py", "tests/test_watch.py"),
)
