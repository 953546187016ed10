"""The page in a real browser: what a person does, with the mouse and the keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browsing import NEEDS_BROWSER, Page, browser
from tests.viewer.made_runs import BALL, HOSTILE, SIZE, add_step, hold_out, make_run
from tests.viewer.viewing import viewing
from vision_zero.evaluate.statistics import wilson
from vision_zero.runs.store import RunStore
from vision_zero.viewer.export import export
from vision_zero.viewer.library import Library

pytest.importorskip("selenium", reason="selenium drives the browser: install the extra `dev`")
from selenium.common.exceptions import JavascriptException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

pytestmark = NEEDS_BROWSER


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser") / "runs"
    make_run(folder / "first")
    make_run(folder / "second", steps=2, switch_after=0, games=5)
    for name in ("first", "second"):
        hold_out(folder / name)
    return folder


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with browser(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="module")
def address(runs: Path) -> Iterator[str]:
    with viewing(runs) as address:
        yield address


@pytest.fixture
def page(driver: Any, address: str) -> Iterator[Page]:
    """The page of a live server; at the end nothing was complained of and nothing was asked of anybody else."""
    driver.get_log("browser")
    page = Page(driver, address)
    yield page
    assert page.complaints() == []


def test_a_run_at_a_glance(page: Page) -> None:
    page.open("#/first").one(".chart")
    titles = [e.get_attribute("data-title") for e in page.all(".chart")]
    assert {"Games won", "Decision accuracy", "Baselines of the roles"} & set(titles) == {
        "Games won",
        "Decision accuracy",
    }
    assert "Where the seconds of a step went" in titles
    assert page.texts(".timeline li") == ["step 1 decision -> clue after step 2: forced <i>in a test</i>"]
    assert [t.partition(":")[0] for t in page.texts("[data-title='Decision accuracy'] .level-name")] == [
        "enough, from decisions to clues",
        "too low, from clues to decisions",
    ]
    assert page.texts(".progress > span:first-child") == ["first: 3 of 10 steps"]
    # a hole where the figure was no number: two lone points instead of a line
    assert len(page.all("[data-title^='KL'] circle")) == 2

    assert page.texts(".alarms li") == ["step 2 20% of the clues <i>repeat</i> an earlier one (2 steps)"]
    assert page.texts(".tile span")[:2] == ["games won by civilians", "by the spy"]
    assert page.texts(".tile b")[:2] == ["35.0 %", "65.0 %"], "averages of the last steps"
    assert page.texts(".held tbody td") == [
        "votes that name the spy <b>",
        "",
        "41.0 % → 66.0 %\n+25 (+20 to +29)",
        "improved",
    ]
    assert page.one(".held .dot").get_attribute("cx") == "66%"

    plot = page.one("[data-title='Games won'] .plot svg")
    ActionChains(page.driver).move_to_element(plot).perform()
    low, high = wilson(0.35 * 4, 4)
    assert page.one("[data-title='Games won'] .values").text.splitlines() == [
        "step 1 · decision stage",
        f"civilians: 35.0 % ({low:.1%} to {high:.1%})".replace("%", " %").replace("  ", " "),
        f"spy: 65.0 % ({1 - high:.1%} to {1 - low:.1%})".replace("%", " %").replace("  ", " "),
    ]
    assert page.one("[data-title='Games won'] .values").size["height"] < plot.size["height"]
    plot.click()
    page.until_listed(4)
    assert page.place() == "/first/games?step=1"


def test_runs_are_compared(page: Page) -> None:
    page.open("")
    page.until(lambda: page.texts(".runs a") == ["first", "second"])
    compare = page.one(".tools button")
    assert not compare.is_enabled()
    for box in page.all(".runs input"):
        box.click()
    compare.click()
    page.until(lambda: page.all(".chart"))
    assert page.place() == "/first?with=second"
    assert page.texts(".differences thead th") == ["", "first", "second"]
    chart = "[data-title='Sampler and trainer: difference of log-probs']"
    assert page.texts(f"{chart} .legend span") == ["mean"]
    assert [line.get_attribute("data-label") for line in page.all(f"{chart} .line[data-label]")] == [
        "first: mean",
        "second: mean",
    ]
    assert page.texts(".timeline p") == ["first", "second"]
    assert len(page.all(".timeline .strip")) == 2
    assert page.texts(".differences tbody th") == ["games_per_step"]
    assert page.texts(".differences tbody td") == ["4", "5"]
    assert [t.split("\n")[0] for t in page.texts(".held tbody td.number")] == ["41.0 % → 66.0 %"] * 2


def test_filters_stand_in_the_address(page: Page) -> None:
    page.open("#/first/games")
    page.until_listed(12)
    page.choose("ending", "nobody accused")
    page.until_listed(3)
    assert page.texts(".games td.tie") == ["nobody accused"] * 3
    page.choose("step", "step 2")
    page.until_listed(1)
    assert page.place() == "/first/games?step=2&ending=tie"
    page.open("#/first/games?step=2&ending=tie").until_listed(1)
    page.open("#/first/games?only=highest&role=civilian").until_listed(3)
    assert [t[-4:] for t in page.texts(".games tbody a")] == ["0003"] * 3
    page.open("#/first/games?only=unreadable&role=spy").until_listed(0)
    page.open("#/first/games?only=unreadable").until_listed(12)


def test_arrows_go_through_the_list_that_one_came_from(page: Page) -> None:
    page.open("#/first/games?ending=tie").until_listed(3)
    page.all(".games tbody tr")[0].click()
    page.until(lambda: page.place() == "/first/game/0/1?ending=tie" and page.all("article"))
    page.press(Keys.ARROW_RIGHT)
    page.until(lambda: page.place() == "/first/game/1/1?ending=tie" and "step 1, game 1" in page.one("#trail").text)
    page.press(Keys.ARROW_LEFT)
    page.until(lambda: page.place() == "/first/game/0/1?ending=tie" and "step 0, game 1" in page.one("#trail").text)
    page.press(Keys.ARROW_LEFT)
    page.until(lambda: page.one("#status").text == "this is the first game of the list")
    page.one("button[data-name=next]").click()
    page.until(lambda: page.place() == "/first/game/1/1?ending=tie")


def test_a_game_turn_by_turn(page: Page) -> None:
    page.open("#/first/game/1/0").one("article")
    assert page.texts(".seat b") == ["player 1", "player 2", "player 3", "player 4"]
    assert page.texts(".seat .role") == ["civilian", "spy", "civilian", "civilian"]
    assert page.texts(".seat .figure") == ["reward +0.050", "reward -0.150", "reward +0.050", "reward +0.050"]
    assert page.one(".verdict b").text == "player 2 is accused: spy caught"
    assert page.texts("p.clue") == ["a cube that 1 sees", "a cube that 2 sees", "a cube that 3 sees", "no clue"]
    assert page.texts("p.decision") == ["votes for player 2", "votes for player 2", "abstains (N/A)"]
    assert page.texts(".problem") == ["no box"]
    assert "advantage +0.100" in page.texts(".figures")[0]
    page.until(lambda: all(page.run("return [...document.images].map(i => i.naturalWidth > 0)")))
    thought = page.all(".thought bdi")[0]
    assert not thought.is_displayed()
    page.all(".thought summary")[0].click()
    assert thought.text == "private thought of 1"
    page.press("t")
    assert [t.is_displayed() for t in page.all(".thought bdi")] == [True] * 4


def test_votes_of_a_voter_that_was_asked_twice_are_counted(page: Page) -> None:
    page.open("#/first/game/1/3").one("article")
    votes = page.all(".round")[-1]
    assert [p.text for p in votes.find_elements(By.CSS_SELECTOR, ".said > p") if p.is_displayed()] == [
        "votes for player 2: 1 of 2, invalid vote: 1 of 2",
        "votes for player 2: 1 of 2, invalid vote: 1 of 2",
        "abstains (N/A): 1 of 2, invalid vote: 1 of 2",
    ]
    votes.find_element(By.CSS_SELECTOR, "summary").click()
    assert [p.text for p in votes.find_elements(By.CSS_SELECTOR, "p.decision") if p.is_displayed()] == [
        "votes for player 2",
        "invalid vote",
    ]


def test_twins_blink_and_differences_are_outlined(page: Page) -> None:
    page.open("#/first/game/1/0").one("article")
    own, twin = page.one(".seat.spy .sight img"), page.one(".seat.spy .twin")
    assert own.get_attribute("src") != twin.get_attribute("src")
    assert not twin.is_displayed()
    page.one("button[data-name=blink]").click()
    page.until(twin.is_displayed)
    page.until(lambda: not twin.is_displayed())
    page.press("b")

    box = page.one(".regions rect")
    assert not box.is_displayed()
    page.press("o")
    assert box.is_displayed()
    assert page.one("button[data-name=outline]").get_attribute("aria-pressed") == "true"
    seen, picture = box.rect, page.one(".seat .sight img").rect
    left, top = (seen["x"] - picture["x"]) / picture["width"], (seen["y"] - picture["y"]) / picture["height"]
    assert left == pytest.approx(BALL[0] / SIZE[0], abs=0.05)
    assert top == pytest.approx(BALL[1] / SIZE[1], abs=0.05)


def assert_only_text(page: Page) -> None:
    """What was said stands there letter by letter, and did nothing."""
    shown = HOSTILE.replace("\u202e", "\\u202e").replace("\u202c", "\\u202c").replace("\x1b", "\\u001b")
    assert page.one("p.clue").get_attribute("textContent") == shown
    assert page.one("p.problem").get_attribute("textContent") == shown
    assert page.one(".thought bdi").get_attribute("textContent") == shown
    assert page.one(".raw pre").get_attribute("textContent") == shown
    assert page.run("return window.broken") is None
    assert page.all("main script, main b > b, .turn img, .turn a, .turn b, .turn strong") == []
    assert page.run("return getComputedStyle(document.querySelector('p.clue bdi')).unicodeBidi") == "isolate"


def test_no_word_of_a_player_is_more_than_a_word(page: Page) -> None:
    page.open("#/first/games?step=0").until_listed(4)
    assert page.all("tbody script, tbody b, tbody img[onerror]") == []
    page.open("#/first/game/0/0").one("article")
    assert_only_text(page)
    # and if the page's own code tried to make markup of it, the browser would not let it
    with pytest.raises(JavascriptException, match="TrustedHTML"):
        page.run("document.body.innerHTML = arguments[0]", HOSTILE)
    page.driver.get_log("browser")


def test_what_is_not_there_is_said(page: Page) -> None:
    page.open("#/third")
    page.until(lambda: page.one("#status").text == "there is no run of this name")
    page.open("#/first/game/0/99")
    page.until(lambda: page.one("#status").text == "step 0 has games 0 to 3, but no game 99")
    assert all("404" in line["message"] for line in page.driver.get_log("browser"))


def test_a_page_follows_a_run_that_is_going(page: Page, runs: Path) -> None:
    live = make_run(runs / "third", steps=1)
    page.open("#/third")
    page.until(lambda: page.texts(".progress > span:first-child") == ["third: 1 of 10 steps"])
    add_step(RunStore.open(live), 1)
    page.until(lambda: page.texts(".progress > span:first-child") == ["third: 2 of 10 steps"])
    assert len(page.texts(".timeline li")) == 1


def test_many_games_are_loaded_as_they_are_looked_at(page: Page, runs: Path) -> None:
    steps, games = 100, 100
    many = RunStore.open(make_run(runs / "many", steps=1, games=games))
    lines = many.episode_path(0).read_text()
    for step in range(1, steps):
        many.episode_path(step).write_text(lines.replace('"000000-', f'"{step:06d}-'))
    page.open("#/many/games").one(".games tbody tr")
    page.until(lambda: len(page.all(".games tbody tr")) == 50)
    asked = "return performance.getEntriesByType('resource').filter(e => /games.[0-9]+.json/.test(e.name)).length"
    assert page.run(asked) == 1
    for goal in (100, 150):
        page.run("scrollTo(0, document.body.scrollHeight)")
        page.until(lambda goal=goal: len(page.all(".games tbody tr")) == goal)
    assert page.run(asked) == 2
    page.open("#/many/game/99/57").one("article")
    assert "000099-0057" in page.one(".facts").text
    assert page.run(asked) == 0


def test_a_folder_opens_without_a_server(driver: Any, runs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a shared folder"
    export(Library(runs / "first"), folder, lambda line: None)
    driver.get_log("browser")
    page = Page(driver, (folder / "index.html").as_uri())
    page.open("").one(".chart")
    page.one("a.button").click()
    page.until_listed(4)
    page.all(".games tbody a")[1].click()
    page.until(lambda: "step 2, game 1 of 4" in page.one("#trail").text)
    page.until(lambda: all(page.run("return [...document.images].map(i => i.naturalWidth > 0)")))
    page.press(Keys.ARROW_RIGHT)
    page.until(lambda: "step 2, game 2 of 4" in page.one("#trail").text)
    page.open("#/first/game/0/0").one("article")
    assert_only_text(page)
    page.open("#/first/game/0/99")
    page.until(lambda: "is not in this folder" in page.one("#status").text)
    complaints = [line["message"] for line in driver.get_log("browser")]
    assert [c for c in complaints if "games/0/99.js" not in c] == []


def test_beyond_this_machine_a_token_is_asked_for(driver: Any, runs: Path) -> None:
    with viewing(runs / "first", "--host", "0.0.0.0") as printed:
        near = printed.replace("0.0.0.0", "127.0.0.1")
        page = Page(driver, near.partition("?")[0])
        page.open("")
        assert "token" in page.one("body").text
        Page(driver, near).open("").one(".chart")
        assert "token" not in driver.current_url
        page.open("").one(".chart")
