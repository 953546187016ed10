"""The server answers with what is in the runs, to whom it may, and with nothing else."""

from __future__ import annotations

from collections import Counter
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from tests.viewer.made_runs import RED, make_run
from tests.viewer.viewing import viewing

pytest.importorskip("starlette", reason="the page needs the extra `view`")
from starlette.testclient import TestClient

from vision_zero.viewer.door import HEADERS, Door
from vision_zero.viewer.library import Library
from vision_zero.viewer.limits import READS, WRONG, Limits
from vision_zero.viewer.server import is_loopback, make_app, page_files

SECRET = b"nobody may read this"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run `first`, and a secret beside and above it."""
    folder = tmp_path_factory.mktemp("house") / "runs"
    make_run(folder / "first")
    (folder / "secret.json").write_bytes(SECRET)
    (folder.parent / "secret.json").write_bytes(SECRET)
    (folder / "first" / "checkpoints" / "secret.json").write_bytes(SECRET)
    return folder


@pytest.fixture(scope="module")
def client(runs: Path) -> TestClient:
    return TestClient(make_app(Library(runs)), base_url="http://127.0.0.1:8321")


def test_everything_the_page_asks_for(client: TestClient) -> None:
    assert client.get("/").text.startswith("<!doctype html>")
    assert client.get("/page/style.css").headers["content-type"].startswith("text/css")
    assert [run["name"] for run in client.get("/data/runs.json").json()] == ["first"]
    assert client.get("/data/runs/first/overview.json").json()["steps"] == 3
    assert len(client.get("/data/runs/first/games/2.json").json()) == 4
    assert client.get("/data/runs/first/games/2/3.json").json()["id"] == "000002-0003"
    picture = client.get(f"/data/runs/first/pictures/{RED.sha}")
    assert (picture.content, picture.headers["content-type"]) == (RED.data, "image/png")
    assert "immutable" in picture.headers["cache-control"]


def test_an_overview_that_did_not_change_is_not_sent_again(client: TestClient) -> None:
    tag = client.get("/data/runs/first/overview.json").headers["etag"]
    again = client.get("/data/runs/first/overview.json", headers={"if-none-match": tag})
    assert (again.status_code, again.content) == (304, b"")


def test_every_answer_has_the_security_headers(client: TestClient) -> None:
    for address in ("/", "/page/app.js", "/data/runs.json", "/nowhere", "/data/runs/first/games/99.json"):
        answer = client.get(address)
        assert {k: answer.headers[k] for k in HEADERS} == HEADERS, address
    policy = HEADERS["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_nothing_is_written(client: TestClient) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert client.request(method, "/data/runs.json", json={}).status_code == 405


CLIMBS = [
    "../secret.json",
    "..%2fsecret.json",
    "..%2Fsecret.json",
    "%2e%2e%2fsecret.json",
    "%252e%252e%252fsecret.json",
    "..%5csecret.json",
    "..\\secret.json",
    "....//secret.json",
    ".%00./secret.json",
    "checkpoints/secret.json",
    "checkpoints%2fsecret.json",
    "first%2fcheckpoints%2fsecret.json",
    "run.json",
    "recipe.yaml",
]


PLACES = [
    "/{}",
    "/page/{}",
    "/data/{}",
    "/data/runs/{}",
    "/data/runs/{}/overview.json",
    "/data/runs/first/{}",
    "/data/runs/first/games/{}",
    "/data/runs/first/games/0/{}",
    "/data/runs/first/pictures/{}",
]


def test_no_way_leads_out(runs: Path) -> None:
    """Request lines as they are written here: no client that tidies them up before."""
    absolute = str(runs / "secret.json")
    climbs = [*CLIMBS, absolute, quote(absolute, safe=""), "file://" + absolute]
    with viewing(runs) as address:
        connection = HTTPConnection(urlsplit(address).netloc)
        for way in [place.format(climb) for place in PLACES for climb in climbs] + ["..", absolute, "*"]:
            connection.putrequest("GET", way, skip_accept_encoding=True)
            connection.endheaders()
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status in (400, 404), (way, body)
            assert SECRET not in body, way
        connection.close()


def test_other_names_of_this_machine_are_not_answered(client: TestClient) -> None:
    """A web page elsewhere may give its own name this machine's address, and would then be let in."""
    for name in ("evil.example", "evil.example:8321", "127.0.0.1.evil.example", ""):
        assert client.get("/data/runs.json", headers={"host": name}).status_code == 421, name
    for name in ("localhost", "localhost:8321", "127.0.0.1:1", "[::1]:8321"):
        assert client.get("/data/runs.json", headers={"host": name}).status_code == 200, name


def test_a_token_opens_and_nothing_else_does(runs: Path) -> None:
    client = TestClient(make_app(Library(runs), token="sesame", host="0.0.0.0"), base_url="http://somewhere:8321")
    for address in ("/", "/page/app.js", "/data/runs.json", "/nowhere", "/?token=", "/?token=sesam", "/?token=sesamé"):
        refused = client.get(address)
        assert refused.status_code == 401, address
        assert b"sesame" not in refused.content
    assert client.get("/data/runs.json", headers={"cookie": "vision-zero=wrong; ;="}).status_code == 401
    opened = client.get("/?token=sesame", follow_redirects=False)
    assert (opened.status_code, opened.headers["location"]) == (303, "/")
    assert "httponly" in opened.headers["set-cookie"].lower()
    assert "samesite=strict" in opened.headers["set-cookie"].lower()
    assert client.get("/data/runs.json").status_code == 200


def test_who_asks_too_often_or_guesses_waits(runs: Path) -> None:
    now = [0.0]
    inside = make_app(Library(runs), host="somewhere")
    app = Limits(Door(inside, token="sesame", host="somewhere"), lambda: now[0])
    client = TestClient(app, base_url="http://somewhere:8321")
    guesses = [client.get(f"/?token={k}").status_code for k in range(30)]
    assert guesses == [401] * WRONG[0] + [429] * (30 - WRONG[0])
    assert client.get("/?token=sesame", follow_redirects=False).status_code == 429, "not even the right one by luck"
    now[0] += 3
    assert client.get("/?token=sesame", follow_redirects=False).status_code == 303
    codes = Counter(client.get("/page/text.js").status_code for _ in range(READS[0] + 100))
    assert codes[429] > 0
    now[0] += 1
    assert client.get("/page/text.js").status_code == 200
    other = TestClient(app, base_url="http://somewhere:8321", client=("192.0.2.7", 1))
    assert other.get("/page/text.js").status_code == 401, "another client is not kept waiting"


def test_requests_are_small(client: TestClient) -> None:
    assert client.request("GET", "/data/runs.json", content=b"x" * 20_000).status_code == 413
    chunks = client.request(
        "POST", "/data/runs.json", content=iter([b"x"]), headers={"content-type": "application/json"}
    )
    assert chunks.status_code == 413, "of a length that is not told"
    assert client.get("/" + "a" * 2000).status_code == 404


@pytest.mark.parametrize(
    ("host", "near"),
    [
        *((near, True) for near in ("127.0.0.1", "127.8.9.1", "::1", "localhost")),
        *((far, False) for far in ("0.0.0.0", "::", "192.168.0.3", "localhost.evil.example", "")),
    ],
)
def test_what_is_loopback(host: str, near: bool) -> None:
    assert is_loopback(host) is near


def test_the_page_turns_no_text_into_markup_and_loads_nothing_from_elsewhere() -> None:
    files = page_files()
    assert {"index.html", "app.js", "style.css"} <= files.keys()
    for name, data in files.items():
        text = data.decode()
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "DOMParser", "srcdoc"):
            assert word not in text, (name, word)
        elsewhere = [w for w in text.replace("http://www.w3.org/2000/svg", "").split() if "://" in w or 'src="//' in w]
        assert elsewhere == [], name
