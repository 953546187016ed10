"""The page over HTTP: reads only, from the run directories that were named and from nowhere else.

    GET /                                           the page
    GET /page/FILE                                  its scripts and style, out of the package
    GET /data/runs.json                             all runs
    GET /data/runs/RUN/overview.json                a run at a glance
    GET /data/runs/RUN/games/STEP.json              what a list shows of a step's games
    GET /data/runs/RUN/games/STEP/NUMBER.json       a game
    GET /data/runs/RUN/pictures/SHA                 a picture

No part of an address ever becomes part of a path: runs are looked up among those that exist, steps and numbers
are numbers, pictures are hexadecimal hashes whose files must have that hash.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from vision_zero.errors import UserError
from vision_zero.runs.serialise import dumps
from vision_zero.viewer.door import Door, Headers
from vision_zero.viewer.library import Library
from vision_zero.viewer.limits import MOST_CONNECTIONS, Limits

MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}
PICTURE_TYPES = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp"}

LIVE = '<meta name="vision-zero" content="live">'
"""How the page's own file says where its data come from; other ways put another word there."""


def page_files() -> dict[str, bytes]:
    """The page's own files by name. Example: `{"index.html": b"<!doctype html>…", "charts.js": …}`"""
    folder = resources.files("vision_zero.viewer") / "page"
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir(), key=lambda f: f.name)}


def make_app(
    library: Library,
    token: str | None = None,
    host: str = "127.0.0.1",
    more: Sequence[Route] = (),
    kind: str = "live",
) -> ASGIApp:
    """The application. With a `token` nothing is answered without it; without, only to addresses of this machine.

    `more` routes of whoever puts more than reading behind the page; `kind` tells the page that they are there.
    """
    files = page_files()
    files["index.html"] = index_of_kind(files["index.html"].decode(), kind).encode()

    def index(request: Request) -> Response:
        return Response(files["index.html"], media_type=MEDIA_TYPES[".html"])

    def page(request: Request) -> Response:
        name = request.path_params["file"]
        if name not in files:
            return refused("there is no such file")
        return Response(files[name], media_type=MEDIA_TYPES[Path(name).suffix])

    def runs(request: Request) -> Response:
        return json_answer([reader.summary() for reader in library.readers()])

    def overview(request: Request) -> Response:
        reader = library.reader(request.path_params["run"])
        tag = f'"{reader.stamp()}"'
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers={"etag": tag})
        return json_answer(reader.overview(), tag)

    def games(request: Request) -> Response:
        return json_answer(library.reader(request.path_params["run"]).games(request.path_params["step"]))

    def game(request: Request) -> Response:
        given = request.path_params
        return json_answer(library.reader(given["run"]).game(given["step"], given["number"]))

    def picture(request: Request) -> Response:
        data = library.reader(request.path_params["run"]).picture(request.path_params["sha"]).data
        kind = next((t for start, t in PICTURE_TYPES.items() if data.startswith(start)), None)
        if kind is None:
            return refused("this is not PNG, JPEG or WebP")
        return Response(data, media_type=kind, headers={"cache-control": "private, max-age=31536000, immutable"})

    async def unavailable(request: Request, error: Exception) -> Response:
        return refused(str(error))

    at = "/data/runs/{run}"
    routes: list[tuple[str, Callable[[Request], Response]]] = [
        ("/", index),
        ("/page/{file}", page),
        ("/data/runs.json", runs),
        (f"{at}/overview.json", overview),
        (f"{at}/games/{{step:int}}.json", games),
        (f"{at}/games/{{step:int}}/{{number:int}}.json", game),
        (f"{at}/pictures/{{sha}}", picture),
    ]
    return Starlette(
        routes=[*(Route(path, endpoint, methods=["GET"]) for path, endpoint in routes), *more],
        middleware=[Middleware(Headers), Middleware(Limits), Middleware(Door, token=token, host=host)],
        exception_handlers={UserError: unavailable},
    )


def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine and nobody else can reach it."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def serve(
    make: Callable[[str | None], ASGIApp], host: str, port: int, token: str | None, say: Callable[[str], None]
) -> None:
    """Serve until Ctrl-C what `make` makes of a token. Beyond this machine there is always one: new if none is given.

    Raises UserError if the port cannot be had.
    """
    import socket

    import uvicorn

    if token is None and not is_loopback(host):
        token = secrets.token_urlsafe(24)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host.strip("[]"), port))
        listener.listen(128)  # from now on whoever opens the address waits until it is answered
    except OSError as e:
        listener.close()
        raise UserError(f"cannot listen on {host}:{port} ({e.strerror}): choose another --port or --host") from e
    shown = f"[{host.strip('[]')}]" if ":" in host else host
    query = "" if token is None else "?" + urlencode({"token": token})
    say(f"http://{shown}:{listener.getsockname()[1]}/{query}")
    config = uvicorn.Config(
        make(token), log_level="warning", access_log=False, server_header=False, limit_concurrency=MOST_CONNECTIONS
    )
    uvicorn.Server(config).run(sockets=[listener])


def index_of_kind(page: str, kind: str) -> str:
    """The page's own file, told where its data come from."""
    if LIVE not in page:
        raise ValueError(f"index.html must say {LIVE}")
    return page.replace(LIVE, LIVE.replace("live", kind))


def json_answer(value: Any, tag: str | None = None) -> Response:
    """A value that may be another one next time."""
    headers = {"cache-control": "no-cache", **({"etag": tag} if tag else {})}
    return Response(dumps(value), media_type="application/json", headers=headers)


def refused(why: str, status: int = 404) -> Response:
    """What the page shows instead."""
    return Response(dumps({"error": why}), status_code=status, media_type="application/json")
