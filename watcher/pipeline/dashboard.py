"""The dashboard's wiring: read-only connections of its own, the state folder, the settings -> a server.

`ckptwatch serve` runs it alone; the daemon runs it in a thread. It stands here because it joins store, launch, log and
web; pages and routes are in watcher/web/.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

from watcher.errors import ConfigError, EnvironmentProblem
from watcher.launch.logs import log_tail
from watcher.log import Log
from watcher.pipeline.registration import settings_digest
from watcher.settings.eval_sets import resolve_model
from watcher.settings.schema import ModelSettings, WebSettings
from watcher.state.folder import StateFolder
from watcher.store.migrate import open_for_reading
from watcher.store.read.behind import Behind
from watcher.store.read.dashboard import Pages
from watcher.store.read.listing import rows_of
from watcher.store.read.panels import Panels
from watcher.store.read.run_pages import RunPages
from watcher.store.read.samples import SamplePages
from watcher.store.read.tasks import KeptItems
from watcher.store.read.windows import KeptWindows

LOG_TAIL = 16_384  # characters


def make_server(settings: WebSettings, url: str, state: StateFolder, log: Log, model: ModelSettings | None = None):
    """A bound server that does not run yet; a page's unexpected error goes to the log.

    model: the section `[model]`, for the commands that reproduce a result.

    Raises ConfigError, EnvironmentProblem, NothingFound, StoreRefused.
    """
    try:
        from watcher.web.routes import create_app
        from watcher.web.server import Server, refuse_remote
        from watcher.web.source import Source
    except ModuleNotFoundError as error:
        raise EnvironmentProblem(
            f"the dashboard needs a library that is not installed: {error.name}",
            hint="in a clone of ckptwatch: pip install '.[web]'",
        ) from None
    refuse_remote(settings.host, settings.allow_remote)
    store = open_for_reading(url)
    tables = partial(rows_of, store)
    read_log = partial(log_tail, limit=LOG_TAIL)
    windows, runs = KeptWindows(store), RunPages(store)
    flags = _model_flags(model or ModelSettings())
    source = Source(
        Pages(store),
        Panels(store),
        tables,
        state,
        read_log,
        runs,
        Behind(store),
        SamplePages(store),
        flags,
        windows,
        KeptItems(store),
        settings.edit,
    )
    hosts = (settings.host, *settings.allowed_hosts)
    token = settings.edit_token if settings.edit else None
    report = partial(_log_page_error, log)
    app = create_app(source, hosts, on_error=report, edit_token=token)
    return Server(app, settings.host, settings.port)


def _model_flags(model: ModelSettings):
    from watcher.web.reproduce import ModelFlags

    try:
        digest = settings_digest(resolve_model(model))
    except ConfigError:  # its file is gone: commands are shown only for rows that name no settings
        digest = None
    config = os.fspath(model.config) if isinstance(model.config, Path) else None
    return ModelFlags(model.factory, tuple(map(os.fspath, model.python_path)), config, model.state, digest)


def _log_page_error(log: Log, path: str, reference: str, error: BaseException) -> None:
    log.event(
        "page_failed", path=path, reference=reference, error="".join(traceback.format_exception_only(error)).strip()
    )
    log.trace("".join(traceback.format_exception(error)))


def start_server(
    settings: WebSettings, url: str, state: StateFolder, log: Log, model: ModelSettings | None = None
) -> tuple[str, Callable[[], None]]:
    """Serve in a thread of this process: (address, stop). Raises like make_server."""
    server = make_server(settings, url, state, log, model)
    return server.url, server.start()


def open_dashboard(
    settings: WebSettings, url: str, state: StateFolder, log: Log, model: ModelSettings | None = None
) -> Callable[[], None]:
    """The daemon's dashboard, if `[web]` enables it: returns a function that closes it.

    Raises ConfigError for a remote address. A taken port or a missing library costs the dashboard, not the daemon.
    """
    if not settings.enabled:
        return lambda: None
    try:
        address, stop = start_server(settings, url, state, log, model)
    except EnvironmentProblem as error:
        log.event("dashboard_failed", reason=f"{error.cause} ({error.hint})")
        return lambda: None
    log.event("serving", address=address)
    return stop
