"""The dashboard's wiring: its own read-only connections, the state folder, the settings -> a server.

`ckptwatch serve` runs it alone; the daemon runs it in a thread.
"""

from __future__ import annotations

from collections.abc import Callable

from watcher.errors import EnvironmentProblem
from watcher.launch.logs import last_words
from watcher.log import Log
from watcher.settings.schema import WebSettings
from watcher.state.folder import StateFolder
from watcher.store.migrate import open_for_reading
from watcher.store.read.dashboard import Pages
from watcher.store.read.results import KeptWindows

LOG_TAIL = 16_384  # characters


def make_server(settings: WebSettings, url: str, state: StateFolder):
    """A bound server that does not run yet. Raises ConfigError, EnvironmentProblem, NothingFound, StoreRefused."""
    try:
        from watcher.web.routes import create_app
        from watcher.web.server import Server, refuse_remote
        from watcher.web.source import Source
    except ModuleNotFoundError as error:
        raise EnvironmentProblem(
            f"the dashboard needs a library that is not installed: {error.name}", hint="pip install 'ckptwatch[web]'"
        ) from None
    refuse_remote(settings.host, settings.allow_remote)
    store = open_for_reading(url)
    source = Source(Pages(store), state, lambda path: last_words(path, LOG_TAIL), KeptWindows(store))
    return Server(create_app(source, (settings.host, *settings.allowed_hosts)), settings.host, settings.port)


def start_server(settings: WebSettings, url: str, state: StateFolder) -> tuple[str, Callable[[], None]]:
    """Serve in a thread of this process: (address, stop). Raises like make_server."""
    server = make_server(settings, url, state)
    return server.url, server.start()


def open_dashboard(settings: WebSettings, url: str, state: StateFolder, log: Log) -> Callable[[], None]:
    """The daemon's dashboard, where it is wanted: returns what closes it. Raises ConfigError for a remote address.

    A port that is taken or a library that is missing costs the dashboard, not the daemon.
    """
    if not settings.enabled:
        return lambda: None
    try:
        address, stop = start_server(settings, url, state)
    except EnvironmentProblem as error:
        log.event("dashboard_failed", reason=f"{error.cause} ({error.hint})")
        return lambda: None
    log.event("serving", address=address)
    return stop
