"""`ckptwatch queue`: list queued, running and failed jobs; retry, cancel, bump, pause, resume."""

from __future__ import annotations

import click

from watcher.cli.options import Globals, database_url, db_flag, db_option, examples, json_option, print_json, say
from watcher.domain.checkpoint import printable
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
    """List queued and running jobs, next first."""
    from watcher.store.migrate import open_for_reading
    from watcher.store.read import queue

    store = open_for_reading(database_url(flags, db))
    rows = queue.failed(store) if failed else queue.queued(store)
    store.close()
    if as_json:
        print_json(rows)
        return
    for row in rows:
        name = printable(row["checkpoint"])
        if failed:
            job = row["job"] if row["job"] is not None else "-"
            reason = f"{row['kind']}: {printable(row['reason'] or '')}"
            click.echo(f"{job:>6}  {row['run']}  {name}  {row['eval_set'] or '-'}  {reason}")
        else:
            due = f"  not before {row['not_before']}" if row["not_before"] else ""
            step = row["step"] if row["step"] is not None else "-"
            click.echo(f"{row['job']:>6}  {row['state']:<8}  {row['run']}  {name}  step {step}  {row['eval_set']}{due}")
    if not rows:
        say("no failures" if failed else "the queue is empty")


def _verb(name: str, about: str) -> None:
    @command.command(name, help=about, epilog=f"Example:  ckptwatch queue {name} 12")
    @click.argument("jobs", nargs=-1, type=int)
    @click.option("--all", "every", is_flag=True, help="All jobs in a state that allows it.")
    @db_option
    @click.pass_obj
    def verb(flags: Globals, jobs: tuple[int, ...], every: bool, db: str | None) -> None:
        if not jobs and not every:
            raise click.UsageError("give job numbers (see `ckptwatch queue list`) or --all")
        _order(flags, db, name, jobs, every)


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
    _order(flags, db, "pause", (), False)


@command.command("resume", epilog="Example:  ckptwatch queue resume")
@db_option
@click.pass_obj
def resume(flags: Globals, db: str | None) -> None:
    """Start jobs again after `pause`."""
    _order(flags, db, "resume", (), False)


_FOR = {"bump": "queued jobs", "cancel": "queued or running jobs", "retry": "failed or cancelled jobs"}


def _order(flags: Globals, db: str | None, action: str, jobs: tuple[int, ...], every: bool) -> None:
    """Send the order to the daemon, or apply it if none runs."""
    from watcher.cli.showing import state_folder
    from watcher.pipeline.orders import apply_order
    from watcher.pipeline.ownership import own_database
    from watcher.state.commands import Order, send
    from watcher.state.lock import DAEMON, holder, is_held
    from watcher.store.migrate import open_for_reading
    from watcher.store.read.queue import job_launch
    from watcher.store.write.requests import changeable

    url = database_url(flags, db)
    state = state_folder(flags, db)
    store = open_for_reading(url)
    try:
        possible = set(changeable(store, action))
        chosen = tuple(sorted(possible)) if every else jobs
        if refused := [job for job in chosen if job not in possible]:
            row = job_launch(store, refused[0])
            cause = f"the state of job {refused[0]} is {row['state']}: {action} is for {_FOR[action]}" if row else ""
            raise NothingFound(
                cause or f"there is no job {refused[0]}",
                hint=f"ckptwatch queue list{' --failed' * (action == 'retry')} {db_flag(url)}",
            )
    finally:
        store.close()
    if every and not chosen:
        say(f"{action}: there are no {_FOR[action]}")
        return
    try:
        owned = own_database(url, state, "queue")
    except LockHeld:
        who = holder(state.lock)
        if not is_held(state.lock) or who.verb != DAEMON:
            raise  # no daemon reads this inbox: another verb has the lock, or a daemon with another state folder
        send(state.inbox, Order(action, chosen))
        say(f"{action}: sent to the daemon (pid {who.pid})")
        return
    try:
        changed = apply_order(owned.store, state, Order(action, chosen))
    finally:
        owned.close()
    say(f"{action}: {changed} job(s) changed" if chosen else f"{action}: done")
