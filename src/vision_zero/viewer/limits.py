"""How much and how often anybody may ask, so that one client cannot keep the machine busy or fill its memory."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_CONNECTIONS = 64
MOST_BODY = 16 * 1024
"""Bytes that a request may bring: the longest clue is a sentence."""
READS, WRITES, WRONG = (1000, 200.0), (20, 4.0), (10, 1.0)
"""Requests at once, and a second after that: all, those that change something, those that were refused at the door.
A list of games with its pictures, scrolled as fast as one can, asks for about 100 a second."""
MOST_CLIENTS = 1024
REFUSED = 401


class Bucket:
    """Full with `size` drops, refilled with `rate` drops a second; `clock` in seconds."""

    def __init__(self, size: float, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._size, self._rate, self._clock = size, rate, clock
        self._left, self._then = size, clock()

    def left(self) -> float:
        """Drops that are in it now."""
        now = self._clock()
        self._left = min(self._size, self._left + self._rate * (now - self._then))
        self._then = now
        return self._left

    def take(self) -> bool:
        """Take a drop if there is one."""
        if self.left() < 1:
            return False
        self._left -= 1
        return True


class Limits:
    """Answers 429 to a client that asks too often or guesses tokens, 413 to one that sends too much."""

    def __init__(self, app: ASGIApp, clock: Callable[[], float] = time.monotonic) -> None:
        self.app, self._clock = app, clock
        self._clients: OrderedDict[str, tuple[Bucket, Bucket, Bucket]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        reads, writes, wrong = self._buckets((scope.get("client") or ("",))[0])
        reading = scope["method"] in ("GET", "HEAD")
        if not reads.take() or wrong.left() < 1 or not (reading or writes.take()):
            await PlainTextResponse("too many requests: wait a second", 429)(scope, receive, send)
            return
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > MOST_BODY or b"transfer-encoding" in headers:
            await PlainTextResponse(f"at most {MOST_BODY} bytes, of a length told before", 413)(scope, receive, send)
            return

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == REFUSED:
                wrong.take()
            await send(message)

        await self.app(scope, receive, counted)

    def _buckets(self, client: str) -> tuple[Bucket, Bucket, Bucket]:
        if client not in self._clients:
            while len(self._clients) >= MOST_CLIENTS:
                self._clients.popitem(last=False)
            self._clients[client] = tuple(Bucket(*size, self._clock) for size in (READS, WRITES, WRONG))  # type: ignore[assignment]
        self._clients.move_to_end(client)
        return self._clients[client]
