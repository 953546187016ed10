"""Who is let in, and what every answer says to the browser."""

from __future__ import annotations

import hmac
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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


class Headers:
    """Adds the security headers to every answer, errors too."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self.app(scope, receive, with_headers)


class Door:
    """Lets in who may read.

    With a token: the cookie that `/?token=…` sets; the token then leaves the address bar. Without: whoever speaks
    to this machine by its own name, so that no web page elsewhere can reach it under a name of its own (DNS
    rebinding). Nothing is changed for a page from elsewhere: what changes something must be JSON, which a browser
    sends to others only after asking, and must not name another origin.
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
        if request.method not in ("GET", "HEAD"):
            origin = request.headers.get("origin")
            if origin is not None and urlsplit(origin).netloc.lower() != request.headers.get("host", "").lower():
                return PlainTextResponse("not from another page", 403)
            if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
                return PlainTextResponse("only application/json", 415)
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
