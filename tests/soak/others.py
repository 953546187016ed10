"""Promises whose tests lie elsewhere: hostile words and files, cheating, the page, the network."""

from __future__ import annotations

from pathlib import Path

from tests.soak.rows import Row, Trial, tested

COMPLETIONS = 10_000


def fuzzed(number: int, scratch: Path) -> Trial:
    """Hostile completions played as whole games against readers of every family; raises at the first that breaks
    through."""
    # models of every family are made when this is imported
    from tests.hostile.fuzzing import fuzz_words

    figures = fuzz_words(COMPLETIONS)
    return Trial(note=f"{figures.prompts:,} prompts, {figures.kept_clues:,} clues that others heard")


ROWS = (
    Row("hostile completions, in games of every family", 1, fuzzed, cases=COMPLETIONS),
    tested("hostile words and files: the corpora", "tests/hostile"),
    tested("cheating is visible: figures and alarms", "tests/test_watch.py", "tests/credit"),
    tested("the page and the server serve nothing else", "tests/viewer/test_server.py", "tests/viewer/test_library.py"),
    tested("nothing is sent anywhere unasked", "tests/test_offline.py"),
)
