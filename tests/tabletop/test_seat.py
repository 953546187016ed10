"""A person takes a seat: the real command, a real browser, real clicks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browsing import NEEDS_BROWSER, Page, browser
from tests.viewer.viewing import serving
from vision_zero.runs.store import RunStore
from vision_zero.tabletop.evening import YOU
from vision_zero.types import Role

pytestmark = NEEDS_BROWSER
SMALL = ["--set", "pairs.count=40", "--set", "game.rounds=1", "--set", "game.votes_per_voter=8", "--seed", "3"]
HOSTILE = "<b>cube</b> **bold** [x](javascript:alert(1))"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("people") / "evening"


@pytest.fixture(scope="module")
def page(out: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The table of the tiny model and a scripted player."""
    invited = ["--invite", "policy", "--invite", "perfect"]
    with (
        browser(tmp_path_factory.mktemp("profile")) as driver,
        serving("play", "recipes/nano.yaml", "--page", "--out", str(out), *invited, *SMALL) as address,
    ):
        yield Page(driver, address)


def begin(page: Page, role: str, civilians: str, spies: str) -> None:
    page.click(f".roles .{role} span")
    page.choose("civilians", civilians)
    page.choose("spies", spies)
    page.click("button[data-name=begin]")


def clue(page: Page, text: str) -> None:
    page.one("input[name=clue]").send_keys(text)
    page.click("button[data-name=say]")


def seats(page: Page) -> dict[str, str]:
    names = page.run("return [...document.querySelectorAll('.seat')].map(s => s.querySelector('b').textContent)")
    return dict(zip(names, page.texts(".seat .role"), strict=True))


def stored(out: Path) -> list[Any]:
    return list(RunStore.open(out).read_episodes())


def test_as_a_civilian(page: Page, out: Path) -> None:
    page.open("")
    begin(page, "civilian", "perfect", "policy")
    page.until(lambda: page.texts(".mine .role") == ["a civilian"])
    page.one("input[name=clue]")
    # one picture, one's own; whoever else sits there is not told
    assert page.run("return document.images.length") == 1
    page.until(lambda: page.run("return document.images[0].naturalWidth") == 96)
    assert "policy" not in page.one("main").text
    assert "perfect" not in page.one("main").text
    clue(page, "...")
    page.until(lambda: "no words" in page.one("#status").text)
    page.one("input[name=clue]").clear()
    clue(page, HOSTILE)
    page.one(".vote")
    mine = page.one(".bubble.me bdi").get_attribute("textContent")
    assert mine == "cube **bold** (x)(javascript:alert(1))", "cleaned, and text"
    assert page.all(".bubble b, .bubble a") == []
    assert len(page.all(".bubble")) == 4
    suspects = [b.text for b in page.all(".vote button.main")]
    assert len(suspects) == 3
    assert page.one(".mine b").text not in suspects
    page.click(".vote button.main")
    page.one(".reveal h1")
    (game,) = stored(out)
    assert page.one(".reveal h1").text == ("You won" if game.outcome.civilians_win else "You lost")
    assert seats(page) == {f"player {s.index + 1}": str(s.role) for s in game.seats}
    assert {s.player for s in game.seats if s.role is Role.CIVILIAN} == {"perfect", YOU}
    assert {s.player for s in game.seats if s.role is Role.SPY} == {"policy"}
    assert len({img.get_attribute("src") for img in page.all(".seat .sight > img:first-child")}) == 2
    page.click("button[data-name=outline]")
    page.until(lambda: page.one(".regions rect").is_displayed())
    assert page.one(".tile.civilian b").text == f"{int(game.outcome.civilians_win)} of 1"


def test_then_as_the_spy_and_the_score_is_kept(page: Page, out: Path) -> None:
    page.open("").one(".reveal")
    begin(page, "spy", "policy", "perfect")
    page.until(lambda: page.texts(".mine .role") == ["the spy"])
    clue(page, "a red cube")
    page.one(".reveal h1")
    assert page.all(".vote") == [], "a spy does not vote"
    first, second = stored(out)
    (mine,) = [s for s in second.seats if s.player == YOU]
    assert mine.role is Role.SPY
    assert page.one(".reveal h1").text == ("You lost" if second.outcome.civilians_win else "You won")
    assert len(page.texts(".history li")) == 2
    page.click(".history li:last-child a")
    page.until(lambda: page.place() == "/evening/game/0/0")
    page.until(lambda: first.id in page.one(".facts").text)
    assert all("422" in line for line in page.complaints()), "the answer without words, and nothing else"


def test_leaving_and_playing_again(page: Page, out: Path) -> None:
    page.open("")
    begin(page, "civilian", "perfect", "perfect")
    page.one("input[name=clue]")
    page.click("button[data-name=leave]")
    page.until(lambda: "You left the table" in page.one(".lobby").text)
    assert len(stored(out)) == 2


def test_what_was_played_opens_with_view_and_replay(page: Page, out: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "vision_zero.cli", "replay", str(out)], capture_output=True, text=True, check=True
    )
    assert "a red cube" in told.stdout
    assert YOU in told.stdout
    with serving("view", str(out)) as address:
        there = Page(page.driver, address)
        there.open("").one(".glance")
        assert "2 games" in there.one(".progress").text
        there.click("a.button")
        there.until_listed(2)
        assert there.complaints() == []
