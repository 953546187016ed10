"""The API player against a real HTTP server that speaks the chat completions protocol."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from PIL import Image

from tests.games.driving import play_with
from tests.local_server import Reply, Request, serving
from vision_zero.config import GameConfig
from vision_zero.errors import UserError
from vision_zero.games import make_game
from vision_zero.games.base import Ask, Deal, View
from vision_zero.players.api import ApiPlayer
from vision_zero.types import ImagePair, Message, Picture, PicturePart, Role, Stage, StopReason, TextPart


def chat(text: str | None, finish: str = "stop") -> Reply:
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}
    return 200, {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}


@dataclass
class Server:
    """What the server does with a request body, and what it was sent."""

    url: str
    answer: Callable[[dict[str, Any]], Reply] = lambda body: chat("hello")
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def answer(request: Request) -> Reply:
        body = json.loads(request.body)
        state.bodies.append(body)
        state.keys.append(request.headers["Authorization"])
        return state.answer(body) if request.path == "/v1/chat/completions" else (404, {})

    with serving(answer) as address:
        state = Server(f"{address}/v1")
        yield state


def picture(width: int, format: str = "PNG") -> Picture:
    file = io.BytesIO()
    Image.new("RGB", (width, 8)).save(file, format)
    return Picture(file.getvalue())


def ask(text: str = "what?\n", width: int = 8, format: str = "PNG") -> Ask:
    seen = picture(width, format)
    message = Message("user", (PicturePart(seen), TextPart("look\n"), TextPart(text)))
    return Ask(View(0, Role.CIVILIAN, 3, seen), Stage.CLUE, 1, 0, (message,), 77, True, 2**62)


def player(server: Server, **settings: Any) -> ApiPlayer:
    return ApiPlayer("m", server.url, "secret", **{"timeout": 5, "retries": 2, **settings})


def test_what_is_sent_and_what_comes_back(server: Server) -> None:
    server.answer = lambda body: chat("a red cube", "length")
    asked = ask(format="JPEG")
    (said,) = player(server).respond([asked])
    assert (said.text, said.stop, said.ids) == ("a red cube", StopReason.LENGTH, ())
    (body,) = server.bodies
    assert server.keys == ["Bearer secret"]
    assert (body["model"], body["max_tokens"], body["seed"], body["temperature"]) == ("m", 77, 2**62, 1.0)
    (message,) = body["messages"]
    image, text = message["content"]
    assert text == {"type": "text", "text": "look\nwhat?\n"}
    head, _, data = image["image_url"]["url"].partition(",")
    assert head == "data:image/jpeg;base64"
    assert base64.b64decode(data) == asked.view.picture.data


def test_settings_for_servers_that_differ(server: Server) -> None:
    player(server, send_seed=False, length_field="max_completion_tokens", temperature=0.5).respond([ask()])
    (body,) = server.bodies
    assert "seed" not in body
    assert "max_tokens" not in body
    assert (body["max_completion_tokens"], body["temperature"]) == (77, 0.5)


def test_a_silent_model_said_nothing(server: Server) -> None:
    server.answer = lambda body: chat(None)
    assert player(server).respond([ask()])[0].text == ""


def test_a_batch_runs_in_threads_and_keeps_its_order(server: Server) -> None:
    together = threading.Barrier(4)

    def answer(body: dict[str, Any]) -> Reply:
        together.wait(5)  # breaks unless four requests are under way at once
        text = body["messages"][0]["content"][1]["text"].split()[-1]
        time.sleep(0.03 * (4 - int(text)))
        return chat(text)

    server.answer = answer
    said = player(server, concurrency=4).respond([ask(f"{n}\n") for n in range(4)])
    assert [u.text for u in said] == ["0", "1", "2", "3"]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_passing_failures_are_tried_again(server: Server, status: int) -> None:
    server.answer = lambda body: chat("at last") if len(server.bodies) == 3 else (status, {"error": {"message": "no"}})
    assert player(server).respond([ask()])[0].text == "at last"


FAILURES = [
    (401, 1, "refused the API key: check OPENAI_API_KEY"),
    (404, 1, "does not know the model 'm'.*no such thing"),
    (400, 1, "refused the request.*no such thing"),
    (500, 3, "refused the request.*no such thing"),
]


@pytest.mark.parametrize(("status", "attempts", "message"), FAILURES)
def test_lasting_failures_name_the_remedy(server: Server, status: int, attempts: int, message: str) -> None:
    server.answer = lambda body: (status, {"error": {"message": "no such thing"}})
    with pytest.raises(UserError, match=rf"player m: .*{message}"):
        player(server).respond([ask()])
    assert len(server.bodies) == attempts


def test_a_server_that_is_slow_absent_or_something_else(server: Server) -> None:
    hold = threading.Event()

    def wait(body: dict[str, Any]) -> Reply:
        hold.wait(5)
        return chat("late")

    server.answer = wait
    with pytest.raises(UserError, match="did not answer in time"):
        player(server, timeout=0.1, retries=0).respond([ask()])
    hold.set()
    server.answer = lambda body: (200, {"choices": []})
    with pytest.raises(UserError, match="without a choice"):
        player(server).respond([ask()])
    with pytest.raises(UserError, match="cannot reach"):
        ApiPlayer("m", "http://127.0.0.1:9/v1", "k", retries=0).respond([ask()])


def test_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(UserError, match="OPENAI_API_KEY"):
        ApiPlayer("m", "http://127.0.0.1:9/v1")


def test_a_whole_game_played_by_a_remote_model_that_looks_at_its_picture(server: Server) -> None:
    """The server tells the width of the picture it was sent, and votes for whoever told another width."""

    def answer(body: dict[str, Any]) -> Reply:
        image, text = body["messages"][0]["content"]
        data = base64.b64decode(image["image_url"]["url"].partition(",")[2])
        width = Image.open(io.BytesIO(data)).width
        if "which player is a spy" not in text["text"].lower():
            return chat(rf"Let me see. \boxed{{It is {width} wide.}}")
        heard = [line for line in text["text"].splitlines() if line.startswith("Round ")]
        lie = next(line for line in heard if f"{width} wide" not in line)
        return chat(rf"Who lies? \boxed{{{lie.split(':')[0].split()[-1]}}}")

    server.answer = answer
    pair = ImagePair("p", picture(32), picture(48))
    cast = {Role.CIVILIAN: "m", Role.SPY: "m"}
    result = play_with(make_game(GameConfig()), Deal("g", pair, 1, cast, spies=(1,)), {"m": player(server)})
    assert [t.understood.clue for t in result.turns[:2]] == ["It is 32 wide.", "It is 48 wide."]
    assert result.outcome.votes_received == (0, 3, 0, 0)
    assert result.outcome.civilians_win
