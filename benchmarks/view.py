"""How fluid the page is with 10,000 games: seconds and bytes of what a person does, in a real browser.

    python benchmarks/view.py [--steps 100] [--games 100]

Makes a run of `steps` x `games` games with pictures of their own, opens it with `vision-zero view` in a headless
Chromium (`chromium` and `chromedriver`) and prints a table: medians and spread of 5.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the tests' browser and their games

from tests.browsing import Page, browser  # noqa: E402
from tests.runs.stored_games import game, picture  # noqa: E402
from tests.viewer.viewing import viewing  # noqa: E402

from vision_zero.config import RunConfig  # noqa: E402
from vision_zero.runs.store import RunStore  # noqa: E402
from vision_zero.types import Role  # noqa: E402

TIMES = 5


def make_run(path: Path, steps: int, games: int) -> None:
    """Every game with two pictures that no other game has."""
    store = RunStore.create(path.parent, RunConfig(name="many", games_per_step=games, steps=steps), path)
    for step in range(steps):
        episodes = []
        for number in range(games):
            shade = step * games + number
            twins = {r: picture(f"#{shade:06x}", size=(96 + k, 64)) for k, r in enumerate(Role)}
            played = game(number, step, ((1, 1, "N/A"), (1, 2, "N/A"), (0, 0, None))[number % 3])
            episodes.append(replace(played, seats=tuple(replace(s, picture=twins[s.role]) for s in played.seats)))
        store.write_episodes(step, episodes)
        store.append_metrics(step, {"stage": "decision", "win/civilian": 0.5, "win/spy": 0.5, "seconds/step": 1.0})


def main() -> None:
    """Make the run, do things, print the table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--steps", type=int, default=100)
    options.add_argument("--games", type=int, default=100)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "many"
        make_run(run, given.steps, given.games)
        table = Table(title=f"{given.steps * given.games} games, {given.steps} steps, medians of {TIMES}")
        for column in ("what", "seconds", "from", "to", "kB loaded"):
            table.add_column(column, justify="left" if column == "what" else "right")
        with browser(Path(folder) / "profile") as driver, viewing(run) as address:
            page = Page(driver, address)
            for what, before, act, done in tasks(page, given.steps, given.games):
                seconds, loaded = [], 0.0
                for _ in range(TIMES):
                    before()
                    page.run("performance.clearResourceTimings()")
                    began = time.monotonic()
                    act()
                    page.until(done)
                    seconds.append(time.monotonic() - began)
                    sizes = "return performance.getEntriesByType('resource').map(e => e.encodedBodySize)"
                    loaded = sum(page.run(sizes)) / 1000
                low, middle, high = min(seconds), statistics.median(seconds), max(seconds)
                table.add_row(what, f"{middle:.2f}", f"{low:.2f}", f"{high:.2f}", f"{loaded:.0f}")
        Console().print(table)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"largest process (server or browser): {peak:.0f} MB")


Task = tuple[str, Callable[[], object], Callable[[], object], Callable[[], object]]


def tasks(page: Page, steps: int, games: int) -> list[Task]:
    """What, what comes before, what is timed, and how one sees that it is done."""
    rows = lambda: len(page.all(".games tbody tr"))  # noqa: E731
    last = f"#/many/game/{steps - 1}"
    ties = steps * len(range(1, games, 3))

    def at(place: str, done: str) -> Callable[[], object]:
        return lambda: page.open(place).one(done)

    def scroll() -> object:
        return page.run("scrollTo(0, document.body.scrollHeight)")

    return [
        ("the run at a glance", lambda: page.open("#/nowhere"), lambda: page.open(""), lambda: page.all(".chart")),
        ("the list of all games", lambda: None, lambda: page.open("#/many/games"), lambda: rows() == 50),
        ("50 more, scrolled to", at("#/many/games", ".games tbody tr"), scroll, lambda: rows() == 100),
        (
            "another filter",
            at("#/many/games", ".games tbody tr"),
            lambda: page.choose("ending", "nobody accused"),
            lambda: page.all("td.tie") and not page.all("td.caught"),
        ),
        (
            f"searching all steps (nothing found of {ties} ties)",
            lambda: None,
            lambda: page.open("#/many/games?ending=tie&only=cut_off"),
            lambda: page.texts("p.end") == ["0 games"],
        ),
        (
            "a game by its link",
            lambda: None,
            lambda: page.open(f"#/many/game/{steps - 1}/57"),
            lambda: page.all("article"),
        ),
        (
            "the next game, by the arrow key",
            at(f"{last}/57", "article"),
            lambda: page.press("\ue014"),
            lambda: page.place().endswith("/58") and "game 58" in page.one("#trail").text,
        ),
    ]


if __name__ == "__main__":
    main()
