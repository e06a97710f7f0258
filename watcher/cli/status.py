"""`ckptwatch status`: daemon, queue, what runs and how far, lag, last results; the exit status is the short answer."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import click

from watcher.cli.options import Globals, database_url, db_option, examples, json_option, print_json
from watcher.errors import EnvironmentProblem, NothingFound

COLOURS = {"ok": "green", "starting": "green", "degraded": "yellow", "paused": "yellow"}


@click.command(
    "status",
    epilog=examples("ckptwatch status --watch", "ckptwatch status >/dev/null || systemctl restart ckptwatch"),
)
@click.option("--watch", is_flag=True, help="Go on showing it until Ctrl-C.")
@click.option("--interval", "interval_s", type=click.FloatRange(0.1), default=2.0, show_default=True, metavar="S",
              help="Seconds between two looks of --watch.")  # fmt: skip
@json_option
@db_option
@click.pass_obj
def command(flags: Globals, watch: bool, interval_s: float, as_json: bool, db: str | None) -> int:
    """Show how the daemon is and what it does.

    Exit status: 0 healthy, 10 no daemon, 11 stalled, 12 degraded, paused or not readable (and why).
    """
    from watcher.report.format import json_text

    while True:
        facts = gather(flags, db, time.time())
        if as_json and not watch:
            print_json(facts)
        elif as_json:
            click.echo(json_text(facts))
        else:
            if watch and _clears():
                click.clear()
            _show(facts)
        if not watch:
            return facts["exit_code"]
        threading.Event().wait(interval_s)


def gather(flags: Globals, db: str | None, now_s: float) -> dict[str, Any]:
    """Everything `status` shows, as one object."""
    from watcher.cli.showing import state_folder
    from watcher.domain.health import EXIT_DEGRADED, judge_from_outside
    from watcher.log import sentence
    from watcher.settings.masking import without_password
    from watcher.state.lock import lock_facts

    folder = state_folder(flags, db)
    said = read_json(folder.health)
    lock = lock_facts(folder.lock, now_s)
    pid = lock.pid
    verdict = judge_from_outside(said, lock, now_s)
    facts: dict[str, Any] = {"state": str(verdict.state), "exit_code": verdict.exit_code}
    facts |= {"reasons": [sentence(reason) for reason in verdict.reasons], "pid": pid}
    alive = said if said is not None and pid is not None and said.get("pid") == pid else {}
    facts |= {"started_at": alive.get("started_at"), "heard_at": alive.get("at"), "runs": alive.get("runs", [])}
    facts |= {
        "work": alive.get("work", []),
        "launches": alive.get("launches", []),
        "database": without_password(database_url(flags, db)),
        "state_dir": str(folder.root),
    }
    facts["devices"] = _devices(flags)
    try:
        facts |= _from_store(flags, db, now_s)
    except NothingFound:
        facts |= {"queue": {}, "running": [], "lag_s": None, "eta_s": None, "failures": 0, "last_results": []}
    except EnvironmentProblem as problem:
        facts["reasons"].append(problem.cause)
        if verdict.ok:
            facts |= {"state": "degraded", "exit_code": EXIT_DEGRADED}
        facts |= {"queue": {}, "running": [], "lag_s": None, "eta_s": None, "failures": None, "last_results": []}
    return facts


def _from_store(flags: Globals, db: str | None, now_s: float) -> dict[str, Any]:
    from watcher.cli.options import reading
    from watcher.report.running import lag_s, queue_eta_s
    from watcher.store.read import results as questions

    store = reading(flags, db)
    try:
        counts = questions.queue_counts(store)
        running = [_measured(job, now_s) for job in questions.running_jobs(store)]
        recent = questions.last_results(store, 20)
        launches = len({job["launch"] for job in running})
        return {
            "queue": counts,
            "running": running,
            "lag_s": lag_s(questions.oldest_queued_at(store), now_s),
            "eta_s": queue_eta_s(counts.get("queued", 0), running, recent, launches),
            "failures": questions.failure_count(store),
            "last_results": recent[:5],
        }
    finally:
        store.close()


def _devices(flags: Globals) -> list[dict[str, Any]]:
    """The GPUs as the driver tells them; none are asked for where jobs run on the CPU only."""
    from dataclasses import asdict

    from watcher.launch.driver import list_gpus
    from watcher.settings.load import load_settings

    if load_settings(flags.settings_file()).launch.device == "cpu":
        return []
    return [asdict(gpu) for gpu in list_gpus()]


def _measured(job: dict[str, Any], now_s: float) -> dict[str, Any]:
    """The job with its progress, from the files of its launch."""
    from evalcore.launch_folder import LaunchFolder
    from watcher.report.running import with_progress

    if job["folder"] is None:
        return with_progress(job, None, now_s)
    return with_progress(job, read_json(LaunchFolder(Path(job["folder"])).progress), now_s)


def read_json(path: Path) -> dict[str, Any] | None:
    """A small object that another process rewrites; None where it is not there or not whole."""
    try:
        said = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError):
        return None
    return said if isinstance(said, dict) else None


def _clears() -> bool:
    import sys

    return sys.stdout.isatty()


def _show(facts: dict[str, Any]) -> None:
    from watcher.cli.showing import painted, print_table
    from watcher.domain.checkpoint import printable
    from watcher.report.columns import Column, result_columns, text_column
    from watcher.report.format import duration, integer, size
    from watcher.report.progress import bar
    from watcher.report.progress import words as progress_words

    who = f", pid {facts['pid']}" if facts["pid"] else ""
    click.echo(f"daemon     {painted(facts['state'], COLOURS.get(facts['state'], 'red'))}{who}")
    for reason in facts["reasons"]:
        click.echo(f"           {printable(reason)}")
    counts = facts["queue"]
    order = ("queued", "running", "succeeded", "failed", "cancelled")
    lines = {"jobs": ", ".join(f"{counts.get(state, 0)} {state}" for state in order)}
    if facts["lag_s"] is not None:
        lines["lag"] = f"the oldest job waits for {duration(facts['lag_s'])}"
    if facts["eta_s"] is not None:
        lines["queue"] = f"empty in about {duration(facts['eta_s'])}"
    if facts["failures"]:
        lines["failures"] = f"{facts['failures']}: ckptwatch queue list --failed"
    if facts["devices"]:
        lines["devices"] = "; ".join(
            f"GPU {gpu['index']} {size(gpu['free_bytes'])} of {size(gpu['total_bytes'])} free"
            for gpu in facts["devices"]
        )
    lines["database"] = facts["database"]
    for name, words in lines.items():
        click.echo(f"{name:<10} {words}")
    for work in facts["work"]:
        click.echo(f"at work    {progress_words(work, time.time())}")
    for run in facts["runs"]:
        click.echo(f"watching   {printable(run['name'])}: {printable(run['dir'])}{_scan_words(run)}")
    if facts["running"]:
        click.echo()
        columns = [
            *(
                text_column("run"),
                Column("step", lambda row: integer(row["step"]), True),
                text_column("eval_set", "set"),
            ),
            text_column("phase"),
            Column("progress", lambda row: " ".join(filter(None, (bar(row["share"], 12), row["progress"]))) or "-"),
            *(Column("left", lambda row: duration(row["eta_s"]), True), text_column("device")),
        ]
        print_table(columns, facts["running"])
    if facts["last_results"]:
        click.echo()
        when = Column("age", lambda row: duration(_age_s(row["evaluated_at"])), True, optional=True)
        lag = Column("after saving", lambda row: duration(_between_s(row)), True, optional=True)
        shown = [column for column in result_columns(facts["last_results"]) if column.head not in ("seconds", "tokens")]
        print_table([when, lag, *shown], facts["last_results"])


def _scan_words(run: dict[str, Any]) -> str:
    said = [f"{run['matching']} file(s)"] if run.get("matching") is not None else []
    if run.get("settling"):
        said.append(f"{run['settling']} settling")
    if run.get("ignored"):
        said.append(f"{sum(run['ignored'].values())} ignored")
    if run.get("scan_seconds") is not None:
        said.append(f"last scan took {run['scan_seconds'] * 1000:.0f} ms")
    return f" ({', '.join(said)})" if said else ""


def _age_s(at: str) -> float:
    from watcher.domain.timestamps import seconds

    return time.time() - seconds(at)


def _between_s(row: dict[str, Any]) -> float:
    from watcher.domain.timestamps import seconds

    return seconds(row["evaluated_at"]) - seconds(row["saved_at"])
