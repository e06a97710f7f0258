"""`ckptwatch run`: the daemon in the foreground, or one pass over the folder."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from evalcore.progress import Progress
from watcher.cli.flags import as_settings, evaluation_flags
from watcher.cli.options import Globals, db_flag, db_option, examples, json_option, print_json, say, usable_database
from watcher.errors import ConfigError, NothingFound, SomeFailed

#: What --dry-run says of a version that the database does not know, and of one that it does.
NEW, KNOWN = "would be evaluated", "registered before: only sets that are new or changed"


@click.command(
    "run",
    epilog=examples(
        "ckptwatch run --dir checkpoints --data val.npy",
        "ckptwatch run --once          # one pass, by ckptwatch.toml",
        "ckptwatch run --until pid:4711",
    ),
)
@click.option("--dir", "folder", metavar="DIR", help="The folder with the checkpoints; the file's runs are left aside.")
@evaluation_flags
@db_option
@click.option("--run", "run_name", metavar="NAME", help="Name of the run.  [default: the folder's]")
@click.option("--once", is_flag=True, help="Evaluate what is there, then end.")
@click.option("--until", metavar="idle:SECONDS|pid:PID", help="End with the training.")
@click.option("--dry-run", is_flag=True, help="Show what would be evaluated; change nothing.")
@click.option("--backfill", type=click.Choice(["all", "latest", "none"]), help="Which of the files already there.")
@click.option("--settle-s", type=float, metavar="S", help="Quiet time before a file is read.")
@click.option("--ready-marker", metavar="NAME", help="File that says a checkpoint is complete, e.g. {name}.done.")
@json_option
@click.pass_obj
def command(flags: Globals, as_json: bool, once: bool, until: str | None, dry_run: bool, **given: Any) -> None:
    """Watch a folder and evaluate every checkpoint in it, exactly once."""
    from watcher.daemon import Daemon
    from watcher.log import Log
    from watcher.state.folder import StateFolder, default_database

    settings = load(flags, given)
    if not settings.run:
        raise ConfigError(
            "no folder to watch", hint="ckptwatch run --dir DIR --data FILE, or write a file with `ckptwatch init DIR`"
        )
    if not settings.eval:
        raise ConfigError("no validation data", hint="add --data FILE, or an [[eval]] section to ckptwatch.toml")
    if dry_run:
        _show_plan(settings, as_json)
        return
    if once:
        _refuse_missing(settings)
    url = usable_database(default_database(settings.store.url, [run.dir for run in settings.run]))
    state = StateFolder.of_database(url, settings.store.state_dir)
    log = Log(0 if flags.quiet else 1 + flags.verbose)
    daemon = Daemon.boot(settings, url, state, log, once=once, reload_settings=lambda: load(flags, given))
    daemon.run(_finished(once, until))
    if daemon.signals.interrupted or (daemon.signals.stops and once):
        raise click.exceptions.Exit(130)
    if once:
        _verdict(settings, url, as_json)


def load(flags: Globals, given: dict[str, Any]):
    """The settings of the file, the environment and the flags, in rising order."""
    from watcher.settings.load import load_settings

    over = as_settings(given)
    measure = over.pop("measure", {})
    if given.get("db"):
        over.setdefault("store", {})["url"] = given["db"]
    names = {"backfill": "backfill", "settle_s": "settle_s", "ready_marker": "ready_marker", "run_name": "name"}
    run = {key: given[flag] for flag, key in names.items() if given.get(flag) is not None}
    if (folder := given.get("folder")) is not None:
        over["run"] = [{"dir": os.path.abspath(folder) if folder else "", **run}]
    each: dict[str, dict[str, Any]] = {"run": {} if folder is not None else run, "eval": measure}
    return load_settings(flags.settings_file(), over, each)


def _finished(once: bool, until: str | None) -> Callable[[Any], bool]:
    if once:
        return lambda daemon: daemon.settled_down()
    if until is None:
        return lambda daemon: False
    what, _, number = until.partition(":")
    if what not in ("idle", "pid") or not number.isdigit():
        raise click.BadParameter(f"{until!r} is neither idle:SECONDS nor pid:PID", param_hint="--until")
    if what == "idle":
        return lambda daemon: daemon.idle_s() >= int(number) and daemon.settled_down()
    ended_s: list[float] = []

    def training_is_over(daemon: Any) -> bool:
        if not has_ended(number):
            return False
        if not ended_s:  # look at the folder once more, now that nobody writes
            ended_s.append(time.monotonic())
            daemon.scan_soon()
        return daemon.scanned_since(ended_s[0]) and daemon.settled_down()

    return training_is_over


def has_ended(pid: str) -> bool:
    """Is the process gone, or dead and merely not waited for by its parent (a notebook, say)?"""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return status.rpartition(")")[2].split()[0] in ("Z", "X")


def _refuse_missing(settings) -> None:
    for run in settings.run:
        if not run.dir.is_dir():
            raise ConfigError(
                f"there is no folder {run.dir}", hint="check --dir; without --once the daemon waits for it to appear"
            )


def _verdict(settings, url: str, as_json: bool) -> None:
    """How a single pass ended: rows on stdout, and the exit status."""
    from watcher.domain.checkpoint import HUGGING_FACE
    from watcher.setup.discover import look_at
    from watcher.store.engine import shown_url
    from watcher.store.migrate import open_for_reading
    from watcher.store.read import verdicts

    store = open_for_reading(url)
    names = [run.name for run in settings.run]
    rows = verdicts.standing_results(store, names)
    failures = verdicts.failures(store, names)
    seen = verdicts.seen(store, names)
    store.close()
    if as_json:
        print_json(rows)
    if failures:
        raise SomeFailed(
            f"{len(failures)} verdict(s) are failures: {failures[0]['checkpoint']}: {failures[0]['reason']}",
            hint=f"ckptwatch queue list --failed {db_flag(url)}",
        )
    if not seen:
        where = ", ".join(str(run.dir) for run in settings.run)
        hint = "which names count: `include` in [[run]]"
        if any(HUGGING_FACE in look_at(run.dir).ignored for run in settings.run):
            hint = "what lies there is Hugging Face's, which is not watched: ckptwatch eval FOLDER --data FILE"
        raise NothingFound(f"there is no checkpoint in {where}", hint=hint)
    say(f"{len(rows)} result(s) in {shown_url(url)}:  ckptwatch results {db_flag(url)}")


def _show_plan(settings, as_json: bool) -> None:
    """What a start would do, from one look at the folders; writes nothing."""
    import threading

    from watcher.cli.showing import ProgressLine
    from watcher.detect.events import FolderWatch
    from watcher.detect.observation import Irregular
    from watcher.domain.checkpoint import NamePattern, printable, step_from_name

    rows = []
    seen = _registered(settings)
    for run in settings.run:
        watch = FolderWatch(os.fspath(run.dir), NamePattern(run.include, run.exclude), run.scan_s, threading.Event())
        with ProgressLine() as line:
            report = watch.scan(partial(_tell_scan, line, run.name, time.time()))
        if report.error:
            raise ConfigError(f"run {run.name}: {report.error}")
        for path, found in sorted(report.observations):
            known = (run.name, path, found) in seen
            verdict = found.reason if isinstance(found, Irregular) else KNOWN if known else NEW
            rows.append({"run": run.name, "checkpoint": path, "step": step_from_name(path).value, "plan": verdict})
        for reason, number in report.ignored.items():
            rows.append({"run": run.name, "checkpoint": None, "step": None, "plan": f"{number} ignored: {reason}"})
    if as_json:
        print_json(rows)
        return
    for row in rows:
        click.echo(f"{row['run']}  {printable(row['checkpoint'] or '-')}  {row['plan']}")
    sets = ", ".join(entry.name for entry in settings.eval)
    new = sum(row["plan"] == NEW for row in rows)
    say(f"{new} new file(s) on {len(settings.eval)} set(s): {sets}; nothing was changed")


def _tell_scan(line: Any, run: str, since: float, entries: int) -> None:
    line(Progress("scanning", entries, 0, "files", run, since=since, at=time.time()))


def _registered(settings) -> set[tuple[str, str, Any]]:
    """(run, path, fingerprint) of every version that the database knows; none where there is no database yet."""
    from watcher.state.folder import default_database
    from watcher.store.migrate import open_for_reading
    from watcher.store.write import checkpoints

    try:
        store = open_for_reading(default_database(settings.store.url, [run.dir for run in settings.run]))
    except NothingFound:
        return set()
    try:
        return {
            (run.name, path, found)
            for run in settings.run
            for path, found in checkpoints.known_versions(store, run.name)
        }
    finally:
        store.close()
