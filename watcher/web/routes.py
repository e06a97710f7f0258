"""The application: routes, one wrapper that makes a page and its JSON twin from the same content, live updates.

Reads only. Never opens the database or a file itself: the Source does.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from watcher.errors import CkptwatchError
from watcher.report import format, palette
from watcher.web import checkpoint_page, comparing, editing, metrics, overview, runs, samples, views
from watcher.web.guard import Guard
from watcher.web.live import Live, in_long_thread, in_thread, warm_up
from watcher.web.missing import NoSuchThing
from watcher.web.source import Source
from watcher.web.tables import HEADS, csv_text, export

#: name -> (path, title, content); each has a template of its name and twins at ?format=json and /api<path>
PAGES: dict[str, tuple[str, str, Callable]] = {
    "overview": ("/", "Overview", overview.overview),
    "runs": ("/runs", "Runs", runs.runs),
    "run": ("/runs/{id:int}", "Run", runs.run),
    "compare": ("/compare", "Compare", comparing.compare),
    "checkpoints": ("/checkpoints", "Checkpoints", views.checkpoints),
    "results": ("/results", "Results", views.all_results),
    "checkpoint": ("/checkpoints/{id:int}", "Checkpoint", checkpoint_page.checkpoint),
    "items": ("/results/{id:int}/items", "Items", checkpoint_page.items),
    "samples": ("/samples", "Samples", samples.samples),
    "queue": ("/queue", "Queue", views.queue),
    "job": ("/jobs/{id:int}", "Job", views.job),
    "data": ("/data", "Data sets", views.data),
    "system": ("/system", "System", views.system),
}
MENU = ("overview", "runs", "compare", "checkpoints", "results", "samples", "queue", "data", "system")
_MENU_OF = {
    "checkpoint": "checkpoints",
    "job": "queue",
    "run": "runs",
    "items": "results",
}  # where a page that is not in the menu belongs
#: One stylesheet for each kind of page: the first paint waits for every file that a page links to.
STYLES = {
    "page.css": ("palette.css", "chart.css", "app.css"),
    "overview-page.css": ("palette.css", "chart.css", "app.css", "uplot.min.css", "overview.css"),
}
_TYPES = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml", "txt": "text/plain"}


OnError = Callable[[str, str, BaseException], None]


def create_app(
    source: Source,
    hosts: Iterable[str] = (),
    poll_s: float = 1.0,
    on_error: OnError = lambda path, reference, error: None,
    edit_token: str | None = None,
) -> Starlette:
    """hosts: host names besides loopback's that requests may name. poll_s: seconds between checks for changes.

    on_error: called with the path of a page that failed unexpectedly, its reference and the exception. edit_token: what
    a form must hold to write a note or tag; None: nothing can be written.
    """
    site = _Site(source, Live(source.pulse, poll_s), on_error, edit_token)
    routes = [Route("/static/{name}", site.static), Route("/api/results", site.json(views.results))]
    for name, (path, _, _) in PAGES.items():
        routes.append(Route(path, site.page(name)))
        routes.append(Route("/api/overview" if name == "overview" else f"/api{path}", site.twin(name)))
    routes += [
        Route("/api/curves", site.text(overview.curves)),
        Route("/api/bests", site.text(overview.bests)),
        Route("/results/{id:int}", site.result),
        Route("/favicon.ico", site.icon),
        Route("/events", site.events),
        Route("/metrics", site.metrics),
        Route("/healthz", site.healthz),
        Route("/readyz", site.readyz),
    ]
    if edit_token is not None:
        routes.append(Route(editing.PATH, site.annotate, methods=["POST"]))
    written = editing.PATH if edit_token is not None else None
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Guard, hosts=tuple(hosts), written=written, body_max_bytes=editing.BODY_MAX_BYTES)],
        exception_handlers={HTTPException: site.refused, CkptwatchError: site.trouble, Exception: site.broken},
    )
    app.state.live = site.live
    return app


class _Site:
    """The handlers, with what they share."""

    def __init__(self, source: Source, live: Live, on_error: OnError, edit_token: str | None) -> None:
        self.source = source
        self.live = live
        self.on_error = on_error
        self.edit_token = edit_token or ""
        # A dictionary of what the package holds: no request can name any other file.
        folders = (files("watcher.web") / "static", files("watcher.report") / "chart")
        self._static = {
            item.name: item.read_bytes() for folder in folders for item in folder.iterdir() if item.is_file()
        } | {"palette.css": palette.stylesheet().encode()}
        for name, parts in STYLES.items():
            self._static[name] = b"\n".join(self._static[part] for part in parts)
        self._templates = Environment(
            loader=PackageLoader("watcher.web"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {
            "number": format.decimal,
            "count": format.integer,
            "short_count": format.short_integer,
            "size": format.size,
            "duration": format.duration,
            "clock": format.clock,
            "name": format.text,
            "signed": format.signed,
            "short_digest": format.short_digest,
            "ago": lambda at: format.ago(at, time.time()),
            "p_value": format.p_value,
        }
        warm_up(self._templates.get_template, "overview.html")  # compiling takes a browser's whole patience

    def page(self, name: str) -> Callable:
        async def show(request: Request) -> Response:
            form, key = request.query_params.get("format"), request.query_params.get("table", "")
            if form in ("csv", "json") and key in HEADS:
                return await self._export(key, form, request)
            if form == "json":
                return await self._twin(name, request)
            opened = name == "overview" and request.headers.get("sec-fetch-mode") == "navigate"
            content = await self._content(name, request, overview.overview_at_once if opened else None)
            return HTMLResponse(await in_thread(self._render, name, content, request), headers=_FRESH)

        return show

    def twin(self, name: str) -> Callable:
        async def answer(request: Request) -> Response:
            return await self._twin(name, request)

        return answer

    def json(self, build: Callable) -> Callable:
        async def answer(request: Request) -> Response:
            return _json(await in_thread(build, self.source, request.query_params))

        return answer

    def text(self, build: Callable) -> Callable:
        """The same for a function that makes the JSON text itself."""

        async def answer(request: Request) -> Response:
            text = await in_long_thread(build, self.source, request.query_params)
            return Response(text, media_type="application/json", headers=_FRESH)

        return answer

    async def result(self, request: Request) -> Response:
        """From a point of a curve to the page of its checkpoint."""
        number = request.path_params["id"]
        found = await in_thread(self.source.panels.checkpoint_of, number) if number < 2**63 else None
        if found is None:
            raise HTTPException(404, f"there is no result number {number}, or its checkpoint is not registered")
        return RedirectResponse(f"/checkpoints/{found}#result{number}", 303)

    async def static(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self._static:
            raise HTTPException(404)
        kind = _TYPES.get(name.rsplit(".", 1)[-1], "application/octet-stream")
        return Response(self._static[name], media_type=kind, headers={"cache-control": "max-age=3600"})

    async def icon(self, request: Request) -> Response:
        """What a browser asks for beside a JSON answer, which names no icon."""
        return RedirectResponse("/static/favicon.svg", 301)

    async def events(self, request: Request) -> Response:
        if self.live.full or request.method == "HEAD":
            return PlainTextResponse("too many listeners\n" if self.live.full else "", 503 if self.live.full else 200)
        return StreamingResponse(self.live.stream(), media_type="text/event-stream", headers=_FRESH)

    async def metrics(self, request: Request) -> Response:
        text = await in_thread(metrics.page, self.source, time.time())
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4", headers=_FRESH)

    async def healthz(self, request: Request) -> Response:
        health = await in_thread(self.source.health)
        return _json(health.as_json(), 200 if health.ok else 503)

    async def readyz(self, request: Request) -> Response:
        health = await in_thread(self.source.health)
        return _json({"ready": health.ready, "reasons": list(health.reasons)}, 200 if health.ready else 503)

    async def refused(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        return await in_thread(self._failed, request, status, "There is no such page.")

    async def trouble(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, CkptwatchError)
        return await in_thread(self._failed, request, 503, f"{error.cause}. {error.hint}")

    async def broken(self, request: Request, error: Exception) -> Response:
        """No template here: whatever failed may fail again in the frame of the page."""
        path, reference = request.url.path, secrets.token_hex(4)
        self.on_error(path, reference, error)
        why = f"{type(error).__name__} in {path}; reference {reference} in the log of `ckptwatch run` or `serve`"
        if path.startswith("/api/") or request.query_params.get("format") == "json":
            return _json({"error": why, "reference": reference}, 500)
        return PlainTextResponse(f"500: this page failed: {why}\n", 500)

    async def annotate(self, request: Request) -> Response:
        body = await request.body()
        try:
            back = await in_thread(editing.annotate, self.source, self.edit_token, request.headers, body)
        except editing.Refused as refused:
            return await in_thread(self._failed, request, refused.status, str(refused))
        return RedirectResponse(back, 303)

    async def _content(self, name: str, request: Request, build: Callable | None = None) -> dict[str, Any]:
        build, ids = build or PAGES[name][2], [value for key, value in request.path_params.items() if key == "id"]
        if any(value > 2**63 - 1 for value in ids):
            raise HTTPException(404)
        try:
            return await in_thread(build, self.source, request.query_params, *ids)
        except NoSuchThing as error:
            raise HTTPException(404, str(error)) from None

    async def _export(self, key: str, form: str, request: Request) -> Response:
        """One table as it is sorted and filtered: all its rows, not only the page that is shown."""
        query = request.query_params
        equal = {"run_id": views.whole(query, "run"), "eval_set": query.get("set") or None}
        rows = await in_thread(lambda: export(self.source, key, query, **equal))
        if form == "json":
            return _json({key: rows})
        headers = {**_FRESH, "content-disposition": f'attachment; filename="ckptwatch-{key}.csv"'}
        return Response(await in_thread(csv_text, rows), media_type="text/csv", headers=headers)

    async def _twin(self, name: str, request: Request) -> Response:
        return _json(await self._content(name, request))

    def _render(self, name: str, content: dict[str, Any], request: Request, title: str = "") -> str:
        template = self._templates.get_template(f"{name}.html")
        return template.render(
            current=_MENU_OF.get(name, name),
            title=title or PAGES[name][1],
            menu=[
                (each, PAGES[each][0], PAGES[each][1])
                for each in MENU
                if each != "samples" or name == each or (name != "failed" and self.source.samples.exist())
            ],
            health=self.source.health(),
            twin=str(request.url.include_query_params(format="json").replace(scheme="", netloc="")),
            **content,
        )

    def _failed(self, request: Request, status: int, why: str) -> Response:
        if request.url.path.startswith("/api/") or request.query_params.get("format") == "json":
            return _json({"error": why}, status)
        return HTMLResponse(self._render("failed", {"status": status, "why": why}, request, str(status)), status)


_FRESH = {"cache-control": "no-store"}


def _json(value: Any, status: int = 200) -> Response:
    """Strict JSON, long texts cut."""
    return Response(
        format.json_text(value, text_max=format.JSON_TEXT_MAX), status, media_type="application/json", headers=_FRESH
    )
