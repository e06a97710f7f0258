"""Everything `status` shows as one object: lock, status file, queue, running jobs, last results. Reads only."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from watcher.domain.health import EXIT_DEGRADED, judge_from_outside
from watcher.errors import EnvironmentProblem, NothingFound
from watcher.launch.driver import ask_driver
from watcher.log import sentence
from watcher.report.running import lag_s, queue_eta_s, with_progress
from watcher.report.suites import newest_of_each
from watcher.settings.masking import without_password
from watcher.state.folder import StateFolder
from watcher.state.lock import lock_facts
from watcher.state.status_file import read_object
from watcher.store.migrate import open_for_reading
from watcher.store.read import averages, queue, results, suites

Row = dict[str, Any]
#: What is shown of a database that cannot be read.
NO_ROWS: Row = {"queue": {}, "samples": {}, "running": [], "lag_s": None, "eta_s": None, "last_results": []}
NO_ROWS |= {"averages": [], "suites": []}


def overview(url: str, folder: StateFolder, device: str, now_s: float) -> Row:
    """The object of `status --json`. device: `[launch] device`; GPUs are listed unless it is "cpu"."""
    report = read_object(folder.health)
    lock = lock_facts(folder.lock, now_s)
    health = judge_from_outside(report, lock, now_s)
    alive = report if report is not None and lock.pid is not None and report.get("pid") == lock.pid else {}
    facts: Row = {
        "state": str(health.state),
        "exit_code": health.exit_code,
        "reasons": [sentence(reason) for reason in health.reasons],
        "pid": lock.pid,
        "started_at": alive.get("started_at"),
        "heard_at": alive.get("at"),
        "runs": alive.get("runs", []),
        "work": alive.get("work", []),
        "launches": alive.get("launches", []),
        "database": without_password(url),
        "state_dir": str(folder.root),
        "devices": [asdict(gpu) for gpu in ask_driver().gpus] if device != "cpu" else [],
    }
    try:
        facts |= _rows(url, now_s)
    except NothingFound:
        facts |= NO_ROWS | {"failures": 0, "newest_failure": None}
    except EnvironmentProblem as problem:
        facts["reasons"].append(problem.cause)
        if health.ok:
            facts |= {"state": "degraded", "exit_code": EXIT_DEGRADED}
        facts |= NO_ROWS | {"failures": None, "newest_failure": None}
    return facts


def _rows(url: str, now_s: float) -> Row:
    store = open_for_reading(url)
    try:
        counts = queue.count_by_state(store)
        running = [_with_progress(job, now_s) for job in queue.running_jobs(store)]
        recent = results.last_results(store, 20)
        due = [job for job in running if job["set_kind"] != "sample"]
        launches = len({job["launch"] for job in due})
        failures = queue.failure_count(store)
        return {
            "queue": counts,
            "samples": queue.count_by_state(store, samples=True),
            "running": running,
            "lag_s": lag_s(queue.oldest_waiting_at(store), now_s),
            "eta_s": queue_eta_s(counts.get("queued", 0), due, recent, launches),
            "failures": failures,
            "newest_failure": queue.newest_failure(store) if failures else None,
            "averages": averages.waiting_averages(store),
            "last_results": recent[:5],
            "suites": [asdict(score) for score in newest_of_each(suites.suite_scores(store))],
        }
    finally:
        store.close()


def _with_progress(job: Row, now_s: float) -> Row:
    """The job with its progress, from the files of its launch."""
    from evalcore.launch_folder import LaunchFolder  # with the messages, which only a running job needs

    if job["folder"] is None:
        return with_progress(job, None, now_s)
    return with_progress(job, read_object(LaunchFolder(Path(job["folder"])).progress), now_s)
