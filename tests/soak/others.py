"""Promises whose long form is their tests: the page, the network."""

from __future__ import annotations

from tests.soak.rows import Row, tested

ROWS: tuple[Row, ...] = (
    tested("the page and the server serve nothing else", "tests/viewer/test_server.py", "tests/viewer/test_library.py"),
    tested("no script from a clue runs; seats see what is theirs", "tests/viewer/test_browser.py", "tests/tabletop"),
    tested("nothing is sent anywhere unasked", "tests/test_offline.py"),
)
