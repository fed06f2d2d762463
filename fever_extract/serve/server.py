"""Run an app by uvicorn, with a graceful end."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
from collections.abc import Callable

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

_GRACE = 30  # seconds for requests that are being worked on when the end is asked for
_CONNECTIONS = 512


class _Protocol(H11Protocol):
    """Close connections on which the head of a request never ends: uvicorn would wait for ever."""

    seconds = 10.0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop()

    def _watch(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._stop()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.seconds, self.timeout_keep_alive_handler)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._announce()


def bind(host: str, port: int) -> socket.socket:
    """Take an address; nobody is answered before `run`.

    Raises:
        OSError: saying what is wrong with the address.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        taken = socket.socket(family, kind, protocol)
    except socket.gaierror as error:
        raise OSError(f"{host} is no address of this machine: {error.strerror}") from None
    try:
        if os.name == "posix":  # elsewhere it would let two programs share a port
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
    except OSError as error:
        taken.close()
        reason = error.strerror or str(error)
        hint = "; choose another with --port" if error.errno == errno.EADDRINUSE else ""
        raise OSError(f"can't listen on {host}, port {port}: {reason}{hint}") from None
    return taken


def address(taken: socket.socket) -> str:
    """The URL of a bound socket."""
    host, port = taken.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(
    app: ASGIApp,
    taken: socket.socket,
    *,
    announce: Callable[[], None],
    access_log: bool = False,
    head: float = _Protocol.seconds,
    grace: int = _GRACE,
) -> None:
    """Serve an app until SIGTERM or Ctrl-C.

    Then no connection is taken any more, and requests that have come are answered.

    Args:
        app: an ASGI app.
        taken: from `bind`.
        announce: called when requests are taken.
        access_log: log a line a request.
        head: seconds in which the head of a request must have come.
        grace: seconds for the requests that have come; what is left then is cut off.
    """

    class Protocol(_Protocol):
        seconds = head

    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        lifespan="on",
        log_level="info" if access_log else "warning",
        access_log=access_log,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=grace,
    )
    server = _Server(config, announce)
    # uvicorn raises the signal that ended it once more; the end is regular, so nobody is to know.
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: None) for number in signals}
    try:
        server.run(sockets=[taken])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        taken.close()
