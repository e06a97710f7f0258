"""`ckptwatch status`: daemon, queue, running jobs and their progress, last results; the exit status is the health."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import click

from watcher.cli.options import Globals, database_url, db_flag, db_option, examples, json_option, print_json

COLOURS = {"ok": "green", "starting": "green", "degraded": "yellow", "paused": "yellow"}


@click.command(
    "status",
    epilog=examples("ckptwatch status --watch", "ckptwatch status >/dev/null || systemctl restart ckptwatch"),
)
@click.option("--watch", is_flag=True, help="Refresh until Ctrl-C.")
@click.option("--interval", "interval_s", type=click.FloatRange(0.1), default=2.0, show_default=True, metavar="S",
              help="Seconds between refreshes.")  # fmt: skip
@json_option
@db_option
@click.pass_obj
def command(flags: Globals, watch: bool, interval_s: float, as_json: bool, db: str | None) -> int:
    """Show the health of the daemon, its queue and its running jobs.

    Exit status: 0 healthy, 10 no daemon, 11 stalled, 12 degraded, paused or not readable.
    The reasons are printed.
    """
    from watcher.cli.ctrl_c import pauses
    from watcher.report.format import json_text

    pause = pauses() if watch else None
    while True:
        facts = gather(flags, db, time.time())
        if as_json and not watch:
            print_json(facts)
        elif as_json:
            click.echo(json_text(facts))
        else:
            if watch and _clears():
                click.clear()
            _show(facts, f" {db_flag(database_url(flags, db))}" if db is not None else "")
        if pause is None:
            return facts["exit_code"]
        pause(interval_s)


def gather(flags: Globals, db: str | None, now_s: float) -> dict[str, Any]:
    """The object of `status --json`."""
    from watcher.cli.showing import state_folder
    from watcher.pipeline.overview import overview
    from watcher.settings.names import DEFAULT_DEVICE, any_settings

    device, file = DEFAULT_DEVICE, flags.settings_file()
    if any_settings(file):
        from watcher.settings.load import load_settings

        device = load_settings(file).launch.device
    return overview(database_url(flags, db), state_folder(flags, db), device, now_s)


def _clears() -> bool:
    import sys

    return sys.stdout.isatty()


def _show(facts: dict[str, Any], of_database: str) -> None:
    """of_database: the flag for commands that people copy; empty for the database that they would use anyway."""
    from watcher.cli.showing import painted
    from watcher.domain.checkpoint import printable
    from watcher.domain.passed_by import passed_by
    from watcher.report.progress import words as progress_words

    who = f", pid {facts['pid']}" if facts["pid"] else ""
    click.echo(f"daemon     {painted(facts['state'], COLOURS.get(facts['state'], 'red'))}{who}")
    for reason in facts["reasons"]:
        click.echo(f"           {printable(reason)}")
    for name, words in _subjects(facts, of_database):
        click.echo(f"{name:<10} {words}")
    for work in facts["work"]:
        click.echo(f"working    {progress_words(work, time.time())}")
    for run in facts["runs"]:
        click.echo(f"watching   {printable(run['name'])}: {printable(run['dir'])}{_scan_words(run)}")
        for words in passed_by(run.get("ignored") or {}):
            click.echo(f"           {words}")
    if facts["running"]:
        click.echo()
        _show_running(facts["running"])
    if facts["last_results"]:
        click.echo()
        _show_last_results(facts["last_results"], with_run=len(facts["runs"]) > 1)
    if facts["suites"]:
        from watcher.report.suites import suite_words
        from watcher.store.read.suites import SuiteScore

        for score in facts["suites"]:
            click.echo(f"suite      {printable(score['run'])}: {suite_words(SuiteScore(**score))}")


def _subjects(facts: dict[str, Any], of_database: str) -> Iterator[tuple[str, str]]:
    """(label, sentence) of each line on the queue as a whole; an empty label continues the line before."""
    from watcher.domain.checkpoint import printable
    from watcher.report.format import duration, size

    yield "jobs", _counts(facts["queue"])
    if facts["samples"]:
        yield "samples", _counts(facts["samples"])
    if facts["lag_s"] is not None:
        yield "lag", f"the oldest job has been queued for {duration(facts['lag_s'])}"
    if facts["eta_s"] is not None:
        yield "queue", f"empty in about {duration(facts['eta_s'])}"
    if facts["failures"]:
        yield "failures", f"{facts['failures']}: ckptwatch queue list --failed{of_database}"
        newest = facts["newest_failure"]
        on = f" on {newest['eval_set']}" if newest["eval_set"] is not None else ""
        yield (
            "",
            f"newest: {printable(newest['checkpoint'] + on)}: {newest['kind']}: {printable(newest['reason'] or '')}",
        )
        if newest["hint"]:
            yield "", f"next: {printable(newest['hint'])}"
    if facts["devices"]:
        yield (
            "devices",
            "; ".join(
                f"GPU {gpu['index']} {size(gpu['free_bytes'])} of {size(gpu['total_bytes'])} free"
                for gpu in facts["devices"]
            ),
        )
    for mean in facts["averages"]:
        yield mean["spec"], f"{printable(mean['run'])}: {mean['reason']}"
    yield "database", facts["database"]


def _show_running(rows: list[dict[str, Any]]) -> None:
    from watcher.cli.showing import print_table
    from watcher.report.columns import Column, text_column
    from watcher.report.format import duration, integer
    from watcher.report.progress import bar

    columns = [
        text_column("run"),
        Column("step", lambda row: integer(row["step"]), True),
        text_column("eval_set", "set"),
        text_column("phase"),
        Column("progress", lambda row: " ".join(filter(None, (bar(row["share"], 12), row["progress"]))) or "-"),
        Column("left", lambda row: duration(row["eta_s"]), True),
        text_column("device"),
    ]
    print_table(columns, rows)


def _show_last_results(rows: list[dict[str, Any]], *, with_run: bool) -> None:
    from watcher.cli.showing import print_footnotes, print_table
    from watcher.report.columns import Column, result_columns
    from watcher.report.format import duration

    when = Column("age", lambda row: duration(_age_s(row["evaluated_at"])), True, optional=True)
    lag = Column("after saving", lambda row: duration(_between_s(row)), True, optional=True)
    shown = [column for column in result_columns(rows, with_run=with_run) if column.head not in ("seconds", "tokens")]
    print_table([when, lag, *shown], rows)
    print_footnotes(rows)


def _counts(by_state: dict[str, int]) -> str:
    order = ("queued", "running", "succeeded", "failed", "cancelled")
    return ", ".join(f"{by_state.get(state, 0)} {state}" for state in order)


def _scan_words(run: dict[str, Any]) -> str:
    parts = []
    if run.get("matching") is not None:  # a file that came since then is not in the number
        took = f" ({run['scan_seconds'] * 1000:.0f} ms)" if run.get("scan_seconds") is not None else ""
        parts.append(f"{run['matching']} file(s) at the last full scan{took}")
    if run.get("settling"):
        parts.append(f"{run['settling']} settling")
    if run.get("ignored"):
        parts.append(f"{sum(run['ignored'].values())} ignored")
    return f": {', '.join(parts)}" if parts else ""


def _age_s(at: str) -> float:
    from watcher.domain.timestamps import seconds

    return time.time() - seconds(at)


def _between_s(row: dict[str, Any]) -> float | None:
    """None for a value that was taken from a copy of the file: it was measured before this one was saved."""
    from watcher.domain.timestamps import seconds

    between_s = seconds(row["evaluated_at"]) - seconds(row["saved_at"])
    return between_s if between_s >= 0 else None
