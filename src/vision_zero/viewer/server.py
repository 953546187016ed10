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

import hmac
import ipaddress
import secrets
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vision_zero.errors import UserError
from vision_zero.runs.serialise import dumps
from vision_zero.viewer.library import Library

MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}
PICTURE_TYPES = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp"}

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
"""Nothing but the page's own files runs or loads, and not even they may turn a text into markup."""

HEADERS = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
COOKIE = "vision-zero"


def page_files() -> dict[str, bytes]:
    """The page's own files by name. Example: `{"index.html": b"<!doctype html>…", "charts.js": …}`"""
    folder = resources.files("vision_zero.viewer") / "page"
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir(), key=lambda f: f.name)}


def make_app(library: Library, token: str | None = None, host: str = "127.0.0.1") -> ASGIApp:
    """The application. With a `token` nothing is answered without it; without, only to addresses of this machine."""
    files = page_files()

    def index(request: Request) -> Response:
        return Response(files["index.html"], media_type=MEDIA_TYPES[".html"])

    def page(request: Request) -> Response:
        name = request.path_params["file"]
        if name not in files:
            return _missing("there is no such file")
        return Response(files[name], media_type=MEDIA_TYPES[Path(name).suffix])

    def runs(request: Request) -> Response:
        return _json([reader.summary() for reader in library.readers()])

    def overview(request: Request) -> Response:
        reader = library.reader(request.path_params["run"])
        tag = f'"{reader.stamp()}"'
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers={"etag": tag})
        return _json(reader.overview(), tag)

    def games(request: Request) -> Response:
        return _json(library.reader(request.path_params["run"]).games(request.path_params["step"]))

    def game(request: Request) -> Response:
        given = request.path_params
        return _json(library.reader(given["run"]).game(given["step"], given["number"]))

    def picture(request: Request) -> Response:
        data = library.reader(request.path_params["run"]).picture(request.path_params["sha"]).data
        kind = next((t for start, t in PICTURE_TYPES.items() if data.startswith(start)), None)
        if kind is None:
            return _missing("this is not PNG, JPEG or WebP")
        return Response(data, media_type=kind, headers={"cache-control": "private, max-age=31536000, immutable"})

    async def unavailable(request: Request, error: Exception) -> Response:
        return _missing(str(error))

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
        routes=[Route(path, endpoint, methods=["GET"]) for path, endpoint in routes],
        middleware=[Middleware(_Headers), Middleware(_Door, token=token, host=host)],
        exception_handlers={UserError: unavailable},
    )


def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine and nobody else can reach it."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def serve(library: Library, host: str, port: int, token: str | None, say: Callable[[str], None]) -> None:
    """Serve until Ctrl-C. Beyond this machine there is always a token: a new one if none is given.

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
        make_app(library, token, host), log_level="warning", access_log=False, server_header=False, limit_concurrency=64
    )
    uvicorn.Server(config).run(sockets=[listener])


def _json(value: Any, tag: str | None = None) -> Response:
    headers = {"cache-control": "no-cache", **({"etag": tag} if tag else {})}
    return Response(dumps(value), media_type="application/json", headers=headers)


def _missing(why: str) -> Response:
    return Response(dumps({"error": why}), status_code=404, media_type="application/json")


class _Headers:
    """Adds the security headers to every answer, errors too."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self.app(scope, receive, with_headers)


class _Door:
    """Lets in who may read.

    With a token: the cookie that `/?token=…` sets; the token then leaves the address bar. Without: whoever speaks
    to this machine by its own name, so that no web page elsewhere can reach it under a name of its own (DNS
    rebinding).
    """

    def __init__(self, app: ASGIApp, token: str | None, host: str) -> None:
        self.app, self.token = app, token
        self.names = {"localhost", "127.0.0.1", "[::1]", host, f"[{host}]"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(Request(scope))
        if refusal is None:
            await self.app(scope, receive, send)
        else:
            await refusal(scope, receive, send)

    def _refusal(self, request: Request) -> Response | None:
        if self.token is None:
            name = request.headers.get("host", "").lower()
            name = name.rpartition(":")[0] if name.rpartition(":")[2].isdigit() else name
            return None if name in self.names else PlainTextResponse("unknown host name", 421)
        given = parse_qs(request.url.query).get("token", [""])[0]
        if self._is_token(given):
            answer = RedirectResponse("/", 303)
            answer.set_cookie(COOKIE, given, httponly=True, samesite="strict")
            return answer
        if self._is_token(_cookie(request)):
            return None
        return PlainTextResponse("open the address with ?token=… that `vision-zero view` printed", 401)

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), (self.token or "").encode())


def _cookie(request: Request) -> str:
    cookies: SimpleCookie = SimpleCookie()
    try:
        cookies.load(request.headers.get("cookie", ""))
    except CookieError:
        return ""
    return cookies[COOKIE].value if COOKIE in cookies else ""
