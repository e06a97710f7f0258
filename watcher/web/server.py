"""The HTTP server: bound before it starts, limited in what a client may cost, stoppable from another thread.

uvicorn runs in a thread, where it installs no signal handlers; only `run`, for `ckptwatch serve`, has its own.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from watcher.errors import ConfigError, EnvironmentProblem
from watcher.state.wake import Wake

REQUEST_TIMEOUT_S = 10.0  # for a request to arrive whole
KEEP_ALIVE_S = 15
CONNECTIONS_MAX = 256
HEAD_MAX_BYTES = 16 << 10


class Server:
    """One listening socket. `url` is where it can be reached; `run` blocks, `start` does not."""

    def __init__(self, app: Starlette, host: str, port: int) -> None:
        self._app = app
        self._socket = _bound(host, port)
        bound = self._socket.getsockname()
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{bound[1]}/"
        config = uvicorn.Config(
            app,
            loop="asyncio",  # "auto" takes uvloop where another package brought it: 1 MB more, and other code there
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=CONNECTIONS_MAX,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=2,
            h11_max_incomplete_event_size=HEAD_MAX_BYTES,
        )
        self._server = uvicorn.Server(config)
        self._thread: threading.Thread | None = None
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)

    def run(self) -> int:
        """Serve until SIGINT or SIGTERM. From the main thread only. Returns the exit status."""
        caught: list[int] = []
        over = Wake()

        def leave(number: int, frame) -> None:
            caught.append(number)
            over.set()

        before = {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            self.start()
            while not over.wait(1.0) and self._thread is not None and self._thread.is_alive():
                pass
            self.stop()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        return 130 if signal.SIGINT in caught else 0

    def start(self) -> Callable[[], None]:
        """Serve in a thread. Returns `stop`, which ends it within about two seconds."""
        self._thread = threading.Thread(target=self._quietly, name="dashboard", daemon=True)
        self._thread.start()
        return self.stop

    def stop(self) -> None:
        self._server.should_exit = True
        self._app.state.live.close()
        if self._thread is not None:
            self._thread.join(5.0)

    def _quietly(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        except SystemExit:
            return  # uvicorn's way of saying that it could not start


def refuse_remote(host: str, allow_remote: bool) -> None:
    """Raise ConfigError for an address beyond loopback that was not asked for on purpose."""
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback and not allow_remote:
        raise ConfigError(
            f"the dashboard would listen on {host}, where others can read it: it has no passwords",
            hint="set allow_remote = true in [web] (or give --allow-remote) if a firewall or proxy stands before it",
            tried="nothing was opened",
        )


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    os.set_inheritable(listening.fileno(), False)
    try:
        listening.bind((host, port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise EnvironmentProblem(
            f"cannot listen on {host} port {port}: {error.strerror}",
            hint="choose another with --port N (0 takes a free one), or see who holds it with `ss -ltnp`",
        ) from None
    return listening


class _Protocol(H11Protocol):
    """uvicorn's own, with a limit to how long a request may take to arrive."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._deadline = self.loop.call_later(REQUEST_TIMEOUT_S, self._too_slow)

    def data_received(self, data: bytes) -> None:
        if self._deadline is None and self._idle:
            self._deadline = self.loop.call_later(REQUEST_TIMEOUT_S, self._too_slow)
        super().data_received(data)
        if not self._idle:
            self._cancel_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_deadline()
        super().connection_lost(exc)

    @property
    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if self._idle and not self.transport.is_closing():
            self.transport.close()
