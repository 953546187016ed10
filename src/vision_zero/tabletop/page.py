"""The table in the browser: the viewer's page over the games that were played, and a seat at the one that is.

GET  /table.json             what the person may know now
GET  /table/pictures/SHA     a picture that lies before the person
POST /table/begin            {"role": "spy", "civilians": "policy", "spies": "anybody"}; role null: by lot
POST /table/say              {"ask": 3, "text": "a red cube"}; votes are numbers from 1, or "n/a"
POST /table/leave            {}
"""

from __future__ import annotations

import json
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from vision_zero.errors import UserError
from vision_zero.players.human import NotAnAnswer
from vision_zero.tabletop.evening import Evening, Wish
from vision_zero.types import JSON, Role
from vision_zero.viewer.library import Library
from vision_zero.viewer.server import PICTURE_TYPES, json_answer, make_app, refused


def make_table(evening: Evening, library: Library, token: str | None, host: str) -> ASGIApp:
    """The application: the viewer's over `library`, where the evening's games are kept, and the table's addresses."""

    def state(request: Request) -> Response:
        told = evening.state()
        tag = f'"{told["version"]}"'
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers={"etag": tag})
        return json_answer(told, tag)

    def picture(request: Request) -> Response:
        data = evening.picture(request.path_params["sha"]).data
        kind = next((t for start, t in PICTURE_TYPES.items() if data.startswith(start)), None)
        if kind is None:
            return refused("this is not PNG, JPEG or WebP")
        return Response(data, media_type=kind, headers={"cache-control": "no-store"})

    def begin(given: JSON) -> None:
        role = given["role"]
        evening.begin(Wish(None if role is None else Role(role), str(given["civilians"]), str(given["spies"])))

    def say(given: JSON) -> None:
        evening.say(int(given["ask"]), str(given["text"]))

    def leave(given: JSON) -> None:
        evening.leave()

    routes = [Route("/table.json", state), Route("/table/pictures/{sha}", picture)]
    routes += [Route(f"/table/{act.__name__}", _doing(act, evening), methods=["POST"]) for act in (begin, say, leave)]
    return make_app(library, token, host, routes, "table")


def _doing(act: Callable[[JSON], None], evening: Evening) -> Callable[[Request], object]:
    """An endpoint that does something with the JSON object that it was sent, and tells how things stand after it."""

    async def endpoint(request: Request) -> Response:
        try:
            given = json.loads(await request.body())
            if not isinstance(given, dict):
                raise TypeError("a JSON object is expected")
            await run_in_threadpool(act, given)
        except UserError as e:
            return refused(str(e), 409)
        except NotAnAnswer as e:
            return refused(str(e), 422)
        except (KeyError, TypeError, ValueError, RecursionError) as e:
            return refused(f"not understood ({type(e).__name__})", 400)
        return json_answer(evening.state())

    return endpoint
