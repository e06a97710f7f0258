"""`ckptwatch queue`: list queued, running and failed jobs; retry, cancel, bump, pause, resume."""

from __future__ import annotations

import time
from typing import Any

import click

from watcher.cli.completing import complete_jobs, complete_runs, complete_sets
from watcher.cli.options import (
    Globals,
    database_url,
    db_flag,
    db_option,
    examples,
    json_option,
    print_json,
    reading,
    say,
)
from watcher.errors import LockHeld, NothingFound


@click.group("queue", epilog=examples("ckptwatch queue list --failed", "ckptwatch queue retry 12"))
def command() -> None:
    """List and change jobs: list, retry, cancel, bump, pause, resume."""


@command.command("list", epilog="Example:  ckptwatch queue list --json")
@click.option("--failed", is_flag=True, help="List failed jobs and rejected files instead.")
@json_option
@db_option
@click.pass_obj
def list_(flags: Globals, failed: bool, as_json: bool, db: str | None) -> None:
    """List queued and running jobs, next first.

    The first column is the job's number, which retry, cancel, bump and `ckptwatch logs` take. Kind and reason of a
    queued job are those of its last attempt.
    """
    from watcher.store.read import job_list

    store = reading(flags, db)
    rows = job_list.failed(store, time.time()) if failed else job_list.waiting_or_running(store, time.time())
    if as_json:
        print_json(rows)
    elif rows:
        _show(rows)
    else:
        say("no failures" if failed else "the queue is empty")


def _show(rows: list[dict[str, Any]]) -> None:
    from watcher.cli.showing import print_table
    from watcher.report.columns import Column, text_column
    from watcher.report.format import NONE, clock, duration, integer, text

    def reason(row: dict[str, Any]) -> str:
        due = f"not before {clock(row['not_before'])}" if row.get("not_before") else None
        return "; ".join(filter(None, (due, row["reason"] and text(row["reason"])))) or NONE

    columns = [
        Column("job", lambda row: str(row["job"]) if row["job"] is not None else NONE, True),
        text_column("run"),
        Column("step", lambda row: integer(row["step"]), True),
        text_column("eval_set", "set"),
        text_column("state"),
        Column("age", lambda row: duration(row["age_s"]), True),
        text_column("kind"),
        text_column("checkpoint", optional=True),
        Column("reason", reason, sentence=True),
        *([text_column("hint", sentence=True)] if any(row["hint"] for row in rows) else []),
    ]
    print_table(columns, rows)


def _verb(name: str, about: str) -> None:
    states = {"bump": ("queued",), "cancel": ("queued", "running"), "retry": ("failed", "cancelled")}[name]

    @command.command(name, epilog=examples(f"ckptwatch queue {name} 12", f"ckptwatch queue {name} --run exp1"))
    @click.argument("jobs", nargs=-1, metavar="[JOB|RUN|SET]...", shell_complete=complete_jobs(*states))
    @click.option("--run", "runs", multiple=True, metavar="NAME", help="All jobs of this run; repeatable.",
                  shell_complete=complete_runs)  # fmt: skip
    @click.option("--eval-set", "sets", multiple=True, metavar="NAME", help="All jobs on this eval set; repeatable.",
                  shell_complete=complete_sets)  # fmt: skip
    @click.option("--all", "every", is_flag=True, help="All jobs in a state that allows it.")
    @db_option
    @click.pass_obj
    def verb(
        flags: Globals, jobs: tuple[str, ...], runs: tuple[str, ...], sets: tuple[str, ...], every: bool, db: str | None
    ) -> None:
        if not (jobs or runs or sets or every):
            raise click.UsageError("give job numbers (see `ckptwatch queue list`), a run, an eval set, or --all")
        _order(flags, db, name, (jobs, runs, sets), every)

    verb.help = (
        f"{about}\n\nA job is given by its number; the name of a run or eval set stands for all its jobs that are "
        f"{' or '.join(states)}. A run together with a set means the run's jobs on that set."
    )


for _name, _about in (
    ("retry", "Queue failed or cancelled jobs again."),
    ("cancel", "Cancel queued or running jobs."),
    ("bump", "Evaluate these jobs next."),
):
    _verb(_name, _about)


@command.command("pause", epilog="Example:  ckptwatch queue pause")
@db_option
@click.pass_obj
def pause(flags: Globals, db: str | None) -> None:
    """Stop starting jobs; running ones finish."""
    _order(flags, db, "pause", ((), (), ()), False)


@command.command("resume", epilog="Example:  ckptwatch queue resume")
@db_option
@click.pass_obj
def resume(flags: Globals, db: str | None) -> None:
    """Start jobs again after `pause`."""
    _order(flags, db, "resume", ((), (), ()), False)


_FOR = {"bump": "queued jobs", "cancel": "queued or running jobs", "retry": "failed or cancelled jobs"}
Given = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]


def _chosen(store: Any, action: str, given: Given, every: bool, hint: str) -> tuple[tuple[int, ...], str]:
    """Numbers of the jobs that the order is for, and what they are called. Raises NothingFound, UsageError."""
    from watcher.report.lookup import parse_targets
    from watcher.store.read.job_list import jobs_of
    from watcher.store.read.queue import job_launch
    from watcher.store.read.results import known_names
    from watcher.store.write.requests import changeable

    possible = set(changeable(store, action))
    if every:
        return tuple(sorted(possible)), ""
    targets = parse_targets(*given, *known_names(store))
    if refused := [job for job in targets.jobs if job not in possible]:
        row = job_launch(store, refused[0])
        cause = f"the state of job {refused[0]} is {row['state']}: {action} is for {_FOR[action]}" if row else ""
        raise NothingFound(cause or f"there is no job {refused[0]}", hint=hint)
    named = jobs_of(store, targets.runs, targets.sets) if targets.runs or targets.sets else []
    chosen = {*targets.jobs, *(job for job in named if job in possible)}
    return tuple(sorted(chosen)), f" of {' and '.join((*targets.runs, *targets.sets))}" if named else ""


def _order(flags: Globals, db: str | None, action: str, given: Given, every: bool) -> None:
    """Send the order to the daemon, or apply it if none runs."""
    from watcher.cli.showing import state_folder
    from watcher.pipeline.orders import apply_order
    from watcher.pipeline.ownership import own_database
    from watcher.state.commands import Order, send
    from watcher.state.lock import DAEMON, holder, is_held
    from watcher.store.migrate import open_for_reading

    url = database_url(flags, db)
    state = state_folder(flags, db)
    store = open_for_reading(url)
    for_jobs = action in _FOR
    hint = f"ckptwatch queue list{' --failed' * (action == 'retry')} {db_flag(url)}"
    try:
        chosen, whose = _chosen(store, action, given, every, hint) if for_jobs else ((), "")
    finally:
        store.close()
    if for_jobs and not chosen:
        say(f"{action}: there are no {_FOR[action]}{whose}")
        return
    try:
        owned = own_database(url, state, "queue")
    except LockHeld:
        who = holder(state.lock)
        if not is_held(state.lock) or who.verb != DAEMON:
            raise  # no daemon reads this inbox: another verb has the lock, or a daemon with another state folder
        send(state.inbox, Order(action, chosen))
        say(f"{action}: sent to the daemon (pid {who.pid})" + (f", {len(chosen)} job(s)" if chosen else ""))
        return
    try:
        changed = apply_order(owned.store, state, Order(action, chosen))
    finally:
        owned.close()
    say(f"{action}: {changed} job(s) changed" if chosen else f"{action}: done")
