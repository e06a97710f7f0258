"""One function per page: facts in, the page's content out. The same content is the page's JSON twin."""

from __future__ import annotations

import json
import platform
import shutil
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from watcher.domain.timestamps import seconds
from watcher.report.progress import amount, remaining_s, share
from watcher.report.running import lag_s, progress_of_job, queue_eta_s
from watcher.web.missing import NoSuchThing
from watcher.web.source import Row, Source
from watcher.web.tables import table_of

Query = Mapping[str, str]
RECENT = 20  # results whose mean time tells when the queue will be empty


def checkpoints(source: Source, query: Query) -> Row:
    """`run`: only this run's (id)."""
    run = whole(query, "run")
    table = table_of(source, "checkpoints", query, "Checkpoints", run_id=run)
    cells = source.pages.cells_of([row["id"] for row in table["rows"]])
    for row in table["rows"]:
        row["cells"] = cells[row["id"]]
    return {"run": run, "runs": source.pages.run_names(), "tables": {"checkpoints": table}}


def all_results(source: Source, query: Query) -> Row:
    """`run`: only this run's (id); `set`: only this set's."""
    run, name = whole(query, "run"), query.get("set") or None
    table = table_of(source, "results", query, "Results", run_id=run, eval_set=name)
    sets = sorted({row["name"] for row in source.pages.set_names()})
    return {"run": run, "runs": source.pages.run_names(), "set": name, "sets": sets, "tables": {"results": table}}


def queue(source: Source, query: Query) -> Row:
    """`run`: only this run's (id)."""
    run, counts, running = whole(query, "run"), source.pages.counts(), _running(source)
    due = [row for row in running if row["set_kind"] != "sample"]
    recent, launches = source.pages.newest_results(RECENT), len({row["launch"] for row in due})
    titles = {"queued": "Queued", "failed": "Failed", "files": "Files that could not be registered"}
    return {
        "run": run,
        "runs": source.pages.run_names(),
        "counts": counts,
        "samples": source.pages.sample_counts(),
        "lag_s": lag_s(source.pages.oldest_waiting_at(), time.time()),
        "eta_s": queue_eta_s(counts.get("queued", 0), due, recent, launches),
        "running": [row for row in running if run is None or row["run_id"] == run],
        "tables": {key: table_of(source, key, query, title, run_id=run) for key, title in titles.items()},
        "ignored": [{"run": run["name"], "ignored": _object(run["ignored"])} for run in source.pages.run_names()],
    }


def job(source: Source, query: Query, job_id: int) -> Row:
    row = source.pages.job(job_id)
    if row is None:
        raise NoSuchThing(f"there is no job number {job_id}")
    for attempt in row["tries"]:
        attempt["log"] = source.log_tail(attempt["folder"])
        del attempt["token"]
    return row


def data(source: Source, query: Query) -> Row:
    table = table_of(source, "sets", query, "Data sets", run_id=whole(query, "run"))
    for row in table["rows"]:
        row["spec"] = _object(row["spec"])
    return {"tables": {"sets": table}}


def system(source: Source, query: Query) -> Row:
    disk = shutil.disk_usage(source.state.root) if source.state.root.exists() else None
    titles = {"sinks": "Sinks", "launches": "Launches", "events": "Events"}
    tables = {key: table_of(source, key, query, title) for key, title in titles.items()}
    for row in tables["launches"]["rows"]:
        row["lasted_s"] = seconds(row["finished_at"]) - seconds(row["started_at"]) if row["finished_at"] else None
    for row in tables["events"]["rows"]:
        row["detail"] = _object(row["detail"])
    return {
        "versions": {"python": platform.python_version(), "platform": sys.platform, **_versions()},
        "database": source.pages.facts(),
        "state_folder": str(source.state.root),
        "disk": disk._asdict() if disk else None,
        "daemon": source.status_file(),
        "tables": tables,
    }


def results(source: Source, query: Query) -> Row:
    """`run` (id), `set`, `after` (the last id a client has), `limit` (1000 at most)."""
    limit = min(max(whole(query, "limit") or 1000, 1), 1000)
    rows = source.pages.results(whole(query, "run"), query.get("set"), whole(query, "after") or 0, limit)
    for row in rows:
        row.pop("run_id", None)
    return {"results": rows, "next": rows[-1]["id"] if len(rows) == limit else None}


def whole(query: Query, key: str) -> int | None:
    """A query value as an integer; None where it is missing or not an integer."""
    value = query.get(key, "")
    return int(value) if value.isascii() and value.isdigit() and len(value) < 19 else None


def _running(source: Source) -> list[Row]:
    rows = source.pages.running()
    for row in rows:
        progress = progress_of_job(source.progress(row["folder"]), row["attempt"])
        row["eta_s"] = remaining_s(progress, time.time())
        row["progress"] = {"phase": progress["phase"], "share": share(progress), "amount": amount(progress)}
    return rows


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {}
    for name in ("ckptwatch", "torch", "starlette", "uvicorn", "sqlalchemy"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def _object(text: str | None) -> Any:
    try:
        return json.loads(text) if text else None
    except ValueError:
        return text
