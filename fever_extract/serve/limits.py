"""Middleware that bounds a request's body while it is read: its size, its time, all of them."""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fever_extract.serve.settings import Settings

_LINGER = 2.0  # seconds in which a refused client may go on sending, and then reads why
RETRY_AFTER = 1  # seconds


class BodyLimits:
    """Refuse bodies that are too large, too slow, or too many at once, as they come.

    What reads the body gets an `HTTPException`: 413, 408 or 503. A client whose body was not read
    to its end gets its answer, a moment to notice it, and a closed connection.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app, self._settings = app, settings
        self._held = 0  # bytes of all bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(Headers(scope=scope), receive, self._settings)
        try:
            await self._app(scope, lambda: self._receive(body), lambda m: _answer(body, m, send))
        finally:
            self._held -= body.size

    async def _receive(self, body: _Body) -> Message:
        before = body.size
        try:
            message = await body.read()
        finally:
            self._held += body.size - before
        if self._held > self._settings.max_bodies and not body.complete:
            raise HTTPException(
                503,
                "too many requests at once; try again later",
                {"Retry-After": str(RETRY_AFTER)},
            )
        return message


class _Body:
    """The body of one request.

    Attributes:
        size: bytes that were read.
        complete: whether all of it was.
        late: whether it did not come in time.
    """

    def __init__(self, headers: Headers, receive: Receive, settings: Settings) -> None:
        self._receive, self._settings = receive, settings
        length = headers.get("content-length", "0")
        self._declared = int(length) if length.isdecimal() else 0
        self._deadline = asyncio.get_running_loop().time() + settings.timeout
        self.size = 0
        self.complete = self._declared == 0 and "transfer-encoding" not in headers
        self.late = False

    async def read(self) -> Message:
        """Read the next part; after the last, wait for the end of the connection."""
        if self.complete:
            return await self._receive()
        if self._declared > self._settings.max_body:
            self._refuse_size()
        left = self._deadline - asyncio.get_running_loop().time()
        try:
            message = await asyncio.wait_for(self._receive(), left)
        except asyncio.TimeoutError:
            self.late = True
            seconds = f"{self._settings.timeout:g} s"
            raise HTTPException(408, f"the request did not end within {seconds}") from None
        if message["type"] == "http.request":
            self.size += len(message.get("body", b""))
            self.complete = not message.get("more_body", False)
            if self.size > self._settings.max_body:
                self._refuse_size()
        return message

    def _refuse_size(self) -> None:
        raise HTTPException(
            413, f"a request may have {self._settings.max_body} bytes at most; send fewer images"
        )

    async def drain(self) -> None:
        """Read what still comes, for a moment, and forget it."""

        async def to_the_end() -> None:
            while True:
                message = await self._receive()
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return

        try:
            await asyncio.wait_for(to_the_end(), _LINGER)
        except asyncio.TimeoutError:
            return


async def _answer(body: _Body, message: Message, send: Send) -> None:
    """Pass an answer on; if the body was not read to its end, close the connection after it.

    To close it at once would reset it, and a client that is still sending would lose the answer.
    """
    if body.complete:
        await send(message)
    elif message["type"] == "http.response.start":
        headers = [*message.get("headers", ()), (b"connection", b"close")]
        await send({**message, "headers": headers})
    elif message.get("more_body", False) or body.late:
        await send(message)
    else:
        await send({**message, "more_body": True})
        await body.drain()
        await send({"type": "http.response.body", "body": b"", "more_body": False})
