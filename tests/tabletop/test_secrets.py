"""Whoever sits on a seat is told what that seat may know, and nothing else: on the bytes that the server sends."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.tabletop.evenings import PAIRS, evening, guest, until_asked_or_ended
from vision_zero.games.base import Deal
from vision_zero.types import ImagePair, Role

pytest.importorskip("starlette", reason="the page needs the extra `view`")
from starlette.testclient import TestClient

from vision_zero.tabletop.page import make_table
from vision_zero.viewer.library import Library
from vision_zero.viewer.limits import WRITES, Limits

JSON = {"content-type": "application/json"}
DATA = [
    "/data/runs.json",
    "/data/runs/run/overview.json",
    "/data/runs/run/games/0.json",
    "/data/runs/run/games/0/0.json",
]


def client(path: Path, deal: Deal) -> TestClient:
    table = evening(path, guest("vague", "ann"), guest("vague", "bob"), deal=lambda step, wish: deal)
    return TestClient(make_table(table, Library(path), None, "127.0.0.1"), base_url="http://127.0.0.1:8322")


def bodies(path: Path, deal: Deal, hidden: list[str]) -> list[tuple[str, int, bytes]]:
    """Everything that can be asked for, at every moment at which the person is asked."""
    page, seen = client(path, deal), []
    assert page.post("/table/begin", json={"role": None, "civilians": "ann", "spies": "bob"}).status_code == 200
    while not (told := until_asked_or_ended(lambda: page.get("/table.json").json()))["game"]["ended"]:
        own = [f"/table/pictures/{sha}" for sha in told["game"]["pictures"]]
        others = [f"{at}/{sha}" for sha in hidden for at in ("/table/pictures", "/data/runs/run/pictures")]
        for address in ("/table.json", *own, *DATA):
            answer = page.get(address)
            seen.append((address, answer.status_code, re.sub(rb'"started":"[^"]*"', b"", answer.content)))
            assert not any(sha.encode() in answer.content for sha in hidden), address
        for address in others:
            assert page.get(address).status_code == 404, address
        ask = told["game"]["ask"]
        text = "a red cube" if ask["stage"] == "clue" else "n/a"
        # a snapshot of whatever the others have said by then: only the settled ones above are compared
        said = page.post("/table/say", json={"ask": ask["number"], "text": text})
        assert said.json().keys() == told.keys()
        assert not any(sha.encode() in said.content for sha in hidden)
    assert told["game"]["problem"] is None
    replay = page.get("/data/runs/run/games/0/0.json").json()
    assert {seat["picture"] for seat in replay["seats"]} >= set(hidden), "in the end all is told"
    return seen


def dealt(pair: ImagePair, spy: int, seats: dict[int, str]) -> Deal:
    return Deal("000000-0000", pair, 5, {Role.CIVILIAN: "ann", Role.SPY: "ann"}, {**seats, 0: "you"}, (spy,))


def test_a_civilian_cannot_tell_who_the_spy_is(tmp_path: Path) -> None:
    """Two games that differ in who is the spy and in who sits where: byte for byte the same to the person."""
    pair: Any = PAIRS[0]
    one = bodies(tmp_path / "a" / "run", dealt(pair, 1, {1: "ann", 2: "bob", 3: "bob"}), [pair.modified.sha])
    other = bodies(tmp_path / "b" / "run", dealt(pair, 3, {1: "bob", 2: "ann", 3: "ann"}), [pair.modified.sha])
    assert len(one) > 12
    assert one == other


def test_a_spy_cannot_tell_what_the_others_see(tmp_path: Path) -> None:
    """Two games that differ in the civilians' picture alone."""
    first: Any = PAIRS[0]
    second = replace(first, original=PAIRS[1].original, changes=(*first.changes, *first.changes))
    one = bodies(tmp_path / "a" / "run", dealt(first, 0, {1: "ann", 2: "bob", 3: "bob"}), [first.original.sha])
    other = bodies(tmp_path / "b" / "run", dealt(second, 0, {1: "bob", 2: "ann", 3: "ann"}), [second.original.sha])
    assert one == other


def test_only_the_page_itself_may_act(tmp_path: Path) -> None:
    page = client(tmp_path / "run", dealt(PAIRS[0], 1, {1: "ann", 2: "bob", 3: "bob"}))
    wish = '{"role": null, "civilians": "ann", "spies": "bob"}'
    for headers, status in (
        ({"content-type": "text/plain"}, 415),
        ({}, 415),
        ({**JSON, "origin": "http://evil.example"}, 403),
        ({**JSON, "origin": "null"}, 403),
        ({**JSON, "host": "evil.example"}, 421),
    ):
        assert page.post("/table/begin", content=wish, headers=headers).status_code == status, headers
    for body in ("", "[]", "{", '{"role": "judge", "civilians": "ann", "spies": "bob"}', "[" * 5000):
        assert page.post("/table/begin", content=body, headers=JSON).status_code == 400, body
    assert page.post("/table/begin", content="x" * 20_000, headers=JSON).status_code == 413
    assert page.get("/table/begin").status_code == 405
    assert page.get("/table.json").json()["game"] is None
    assert (
        page.post("/table/begin", content=wish, headers={**JSON, "origin": "http://127.0.0.1:8322"}).status_code == 200
    )
    assert page.post("/table/begin", content=wish, headers=JSON).status_code == 409
    assert page.post("/table/leave", json={}).status_code == 200


def test_acts_are_rationed(tmp_path: Path) -> None:
    table = client(tmp_path / "run", dealt(PAIRS[0], 1, {1: "ann", 2: "bob", 3: "bob"}))
    now = [0.0]
    (limits,) = [m for m in table.app.user_middleware if m.cls is Limits]
    limits.kwargs["clock"] = lambda: now[0]
    page = TestClient(table.app, base_url="http://127.0.0.1:8322")
    most = WRITES[0]
    codes = [page.post("/table/say", json={"ask": 1, "text": "a"}).status_code for _ in range(most + 5)]
    assert codes == [409] * most + [429] * 5
    assert page.get("/table.json").status_code == 200, "looking is not acting"
    now[0] += 1
    assert page.post("/table/say", json={"ask": 1, "text": "a"}).status_code == 409
