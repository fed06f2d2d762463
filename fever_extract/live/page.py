"""The local page: its address has a secret, and each frame comes as one answer."""

from __future__ import annotations

import asyncio
import html
import io
import json
import secrets
import struct
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib import resources
from typing import TYPE_CHECKING

from PIL import Image
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fever_extract.live.analysis import Result, fields
from fever_extract.live.session import Session
from fever_extract.live.sources import Source

if TYPE_CHECKING:
    from fever_extract.extractor import Extractor

_WAIT = 1.0  # seconds for which a page waits for a frame, and then asks again
_STALE = 2.0  # seconds after which a frame is that of an earlier run
_LONGEST = 960  # pixels of the longer side of the picture that a page is sent
_QUALITY = 80


class Feed:
    """The newest result as a page takes it, handed from the analysis to an event loop."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._newest: tuple[int, float, bytes] | None = None
        self._change = asyncio.Event()

    def open(self) -> None:
        """Remember the event loop that runs."""
        self._loop = asyncio.get_running_loop()

    def publish(self, result: Result) -> None:
        """Take a result from any thread."""
        packed = result.number, result.came, pack(result)
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._set, packed)

    def _set(self, newest: tuple[int, float, bytes]) -> None:
        self._newest = newest
        self._change.set()
        self._change = asyncio.Event()

    async def after(self, number: int) -> tuple[int, float, bytes] | None:
        """Wait for a result other than that one; None if none comes.

        Returns:
            Its number, when its frame came, and its bytes.
        """
        newest = self._newest
        if newest is None or newest[0] == number or time.monotonic() - newest[1] > _STALE:
            try:
                await asyncio.wait_for(self._change.wait(), _WAIT)
            except asyncio.TimeoutError:
                return None
        return self._newest


def pack(result: Result) -> bytes:
    """A result in bytes: the length of its JSON (4, big-endian), the JSON, and a JPEG."""
    text = json.dumps(fields(result), allow_nan=False).encode()
    picture = io.BytesIO()
    if result.pixels is not None:
        image = Image.fromarray(result.pixels)
        image.thumbnail((_LONGEST, _LONGEST), Image.Resampling.BILINEAR)
        image.save(picture, "JPEG", quality=_QUALITY)
    return struct.pack(">I", len(text)) + text + picture.getvalue()


def create_app(
    extractor: Extractor,
    source: Source,
    *,
    token: str,
    hosts: Sequence[str],
    **settings: int,
) -> Starlette:
    """Make the page's app; its source is open only while a page asks for frames.

    Args:
        extractor, source, settings: see `fever_extract.live.session.Session`.
        token: that every address must hold.
        hosts: names and ports by which the page may be called, against DNS rebinding.
    """
    feed = Feed()
    session = Session(extractor, source, feed.publish, **settings)

    async def page(_: Request) -> Response:
        nonce = secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
            "img-src data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'"
        )
        text = _render(source, list(extractor.config.expressions), nonce)
        return Response(text, media_type="text/html", headers={"Content-Security-Policy": policy})

    async def frame(request: Request) -> Response:
        text = request.query_params.get("after", "-1")
        after = int(text) if text.isdecimal() else -1
        problem = await asyncio.to_thread(session.watch, after < 0)
        newest = None if problem else await feed.after(after)
        if newest is None:
            return JSONResponse({"ended": problem}, 410) if problem else Response(status_code=204)
        _, came, body = newest
        age = {"X-Age": f"{time.monotonic() - came:.4f}"}
        return Response(body, media_type="application/octet-stream", headers=age)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        feed.open()
        yield
        await asyncio.to_thread(session.stop)

    return Starlette(
        routes=[Route("/", page), Route("/frame", frame)],
        middleware=[Middleware(_Guard, token=token, hosts=hosts)],
        lifespan=lifespan,
    )


def _render(source: Source, expressions: Sequence[str], nonce: str) -> str:
    """The page as one HTML file, which loads nothing."""
    folder = resources.files("fever_extract.live")
    parts = {
        name: (folder / f"page.{name}").read_text(encoding="utf-8")
        for name in ("html", "css", "js")
    }
    # "<" is escaped: the data stands in a script element.
    data = json.dumps({"expressions": list(expressions)}).replace("<", "\\u003c")
    for mark, text in (
        ("@@NONCE@@", nonce),
        ("@@TITLE@@", html.escape(source.title)),
        ("@@STYLE@@", parts["css"]),
        ("@@DATA@@", data),
        ("@@SCRIPT@@", parts["js"]),
    ):
        parts["html"] = parts["html"].replace(mark, text)
    return parts["html"]


class _Guard:
    """Let nobody in who does not know the token, or calls the page by another name."""

    def __init__(self, app: ASGIApp, token: str, hosts: Sequence[str]) -> None:
        self._app, self._token, self._hosts = app, token, frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        token = QueryParams(scope["query_string"]).get("token", "")
        known = secrets.compare_digest(token.encode(), self._token.encode())
        if known and Headers(scope=scope).get("host") in self._hosts:

            async def private(message: Message) -> None:
                if message["type"] == "http.response.start":
                    headers = MutableHeaders(scope=message)
                    headers["Cache-Control"] = "no-store"
                    headers["Referrer-Policy"] = "no-referrer"
                    headers["X-Content-Type-Options"] = "nosniff"
                await send(message)

            await self._app(scope, receive, private)
            return
        reason = "open the address that the command printed: it ends in a token"
        await PlainTextResponse(reason, 403)(scope, receive, send)
