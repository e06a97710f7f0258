"""`ckptwatch logs`: a job's worker log, escaped; followed until the job ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from watcher.cli.completing import complete_jobs
from watcher.cli.options import Globals, db_option, examples, json_option, print_json, reading, say
from watcher.errors import NothingFound

FINAL = ("succeeded", "failed", "cancelled")


@click.command("logs", epilog=examples("ckptwatch logs 12", "ckptwatch logs exp1 -f"))
@click.argument("target", metavar="JOB|RUN|SET", shell_complete=complete_jobs("running", "failed", "succeeded"))
@click.option("-f", "--follow", is_flag=True, help="Follow the log until the job ends.")
@json_option
@db_option
@click.pass_obj
def command(flags: Globals, target: str, follow: bool, as_json: bool, db: str | None) -> None:
    """Print a job's worker log.

    It is the log of the job's newest launch. The name of a run or eval set stands for its job that was started last.
    `queue list` and `queue list --failed` show job numbers.
    """
    from watcher.cli.ctrl_c import pauses
    from watcher.report.lookup import nearest_number
    from watcher.store.read import queue as questions

    store = reading(flags, db)
    job = _job(store, target)
    row = questions.job_launch(store, job)
    if row is None:
        near = nearest_number(job, questions.job_ids(store))
        raise NothingFound(
            f"there is no job {job}",
            hint=f"the nearest is {near}: ckptwatch logs {near}" if near else "ckptwatch queue list",
        )
    if row["folder"] is None and not follow:
        raise NothingFound(f"job {job} is {row['state']} and was never launched", hint="ckptwatch status")
    if as_json:
        print_json({**row, "log": _log_of(row)})
        return
    shown = _print_new(row, "")
    pause = pauses() if follow else None
    while pause is not None and row["state"] not in FINAL:
        pause(0.3)
        newer = questions.job_launch(store, job)
        assert newer is not None  # jobs are never deleted
        shown = _print_new(newer, shown if newer["launch"] == row["launch"] else "")
        row = newer
    if row["folder"] is not None and not shown:
        say(
            "the log is empty so far"
            if row["state"] not in FINAL
            else "the worker printed nothing, or its log was deleted"
        )
    if row["reason"]:
        say(f"job {job} is {row['state']}: {row['kind'] or 'last attempt'}: {row['reason']}")


def _job(store: Any, target: str) -> int:
    """The job of that number, or the one started last of the run or set of that name. Raises NothingFound."""
    from watcher.report.lookup import parse_targets
    from watcher.store.read.job_list import newest_launched
    from watcher.store.read.results import known_names

    chosen = parse_targets([target], (), (), *known_names(store))
    job = chosen.jobs[0] if chosen.jobs else newest_launched(store, chosen.runs, chosen.sets)
    if job is None:
        raise NothingFound(f"no job of {target} was ever launched", hint="ckptwatch queue list")
    return job


def _log_of(row: dict[str, Any]) -> str:
    from evalcore.launch_folder import LaunchFolder
    from watcher.launch.logs import read_log

    if row["folder"] is None:
        return ""
    try:
        return read_log(LaunchFolder(Path(row["folder"])).log)
    except OSError:
        return ""


def _print_new(row: dict[str, Any], shown: str) -> str:
    """Print what the log holds beyond `shown`; all of it where its middle was dropped meanwhile."""
    whole = _log_of(row)
    click.echo(whole[len(shown) :] if whole.startswith(shown) else whole, nl=False)
    return whole
