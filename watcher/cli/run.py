"""`ckptwatch run`: the daemon in the foreground, or one pass over the folder."""

from __future__ import annotations

import os
import shlex
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from watcher.cli.flags import as_settings, evaluation_flags
from watcher.cli.options import Globals, db_flag, db_option, examples, json_option, print_json, say, usable_database
from watcher.errors import ConfigError, NothingFound, SomeFailed, UsageError

if TYPE_CHECKING:
    from watcher.settings.schema import Settings


@click.command(
    "run",
    epilog=examples(
        "ckptwatch run --dir checkpoints --data val.npy",
        "ckptwatch run --once          # one pass, with ckptwatch.toml",
        "ckptwatch run --until pid:4711",
    ),
)
@click.option(
    "--dir",
    "folders",
    multiple=True,
    metavar="DIR",
    help="Folder with checkpoints; replaces the [[run]] sections of the settings file. Repeatable: one run for each.",
)
@click.option(
    "--include", multiple=True, metavar="GLOB", help="Which files and folders to evaluate, relative to DIR; repeatable."
)
@click.option("--exclude", multiple=True, metavar="GLOB", help="Which of them to leave out; repeatable.")
@evaluation_flags
@db_option
@click.option("--run", "run_name", metavar="NAME", help="Name of the run.  [default: from the folder's path]")
@click.option("--once", is_flag=True, help="Evaluate the existing files, then exit.")
@click.option("--again", is_flag=True, help="Evaluate even what has a result; the new value replaces it.")
@click.option(
    "--until", metavar="idle:SECONDS|pid:PID",
    help="Exit once all work is done and no new checkpoint was registered for SECONDS (counted from the newest one, or "
    "from the start), or the process PID has ended.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Show what would be evaluated; change nothing.")
@click.option(
    "--backfill", type=click.Choice(["all", "latest", "none"]), help="Which existing files to evaluate.  [default: all]"
)
@click.option(
    "--settle-s", type=float, metavar="S", help="Seconds without a change before a file is read.  [default: 2]"
)
@click.option(
    "--ready-marker", metavar="NAME", help="File whose presence marks a checkpoint as complete, e.g. {name}.done."
)
@json_option
@click.pass_obj
def command(
    flags: Globals, as_json: bool, once: bool, again: bool, until: str | None, dry_run: bool, **given: Any
) -> None:
    """Watch a folder and evaluate every checkpoint in it, exactly once."""
    from watcher.daemon import Daemon
    from watcher.log import Log
    from watcher.pipeline.run_end import end_of_run
    from watcher.state.folder import StateFolder, default_database
    from watcher.state.memory import keep_the_heap_small
    from watcher.store.write.requests import measure_again

    settings = _load_whole(flags, given)
    url = usable_database(default_database(settings.store.url, [run.dir for run in settings.run]))
    if dry_run:
        _show_plan(settings, url, as_json)
        return
    if once:
        _refuse_missing(settings)
    _refuse_missing_data(settings, url)
    end = end_of_run(once, until)
    state = StateFolder.of_database(url, settings.store.state_dir)
    log = Log(0 if flags.quiet else 1 + flags.verbose)
    keep_the_heap_small()
    daemon = Daemon.boot(settings, url, state, log, once=once, reload_settings=lambda: _load_whole(flags, given))
    settings = daemon.watching.settings
    if again:
        for run in settings.run:
            measure_again(daemon.tools.store, run.name)
    daemon.run(end)
    daemon.signals.ignore_stops()
    if daemon.signals.interrupted or (daemon.signals.stops and once):
        raise click.exceptions.Exit(130)
    if once:
        _verdict(settings, url, as_json)
    elif until is not None and not daemon.signals.stops:
        _tell_where_none(settings, url)


def load(flags: Globals, given: dict[str, Any]):
    """The settings: flags over environment over file."""
    from watcher.settings.load import load_settings
    from watcher.settings.paths import plain_path

    over = as_settings(given)
    measure = over.pop("measure", {})
    if given.get("db"):
        over.setdefault("store", {})["url"] = given["db"]
    names = {"backfill": "backfill", "settle_s": "settle_s", "ready_marker": "ready_marker", "run_name": "name"}
    run = {key: given[flag] for flag, key in names.items() if given.get(flag) is not None}
    run |= {key: given[key] for key in ("include", "exclude") if given.get(key)}
    folders = given.get("folders") or ()
    if len(folders) > 1 and "name" in run:
        raise UsageError(
            f"--run {run['name']} names one run, and there are {len(folders)} of --dir",
            hint="leave --run out: each run is named after its folder; or name them in [[run]] sections",
        )
    for folder in folders:
        if os.path.isfile(folder):
            parent = os.path.dirname(folder) or "."
            raise UsageError(
                f"--dir {folder} is a file", hint=f"--dir {parent}, or `ckptwatch eval {folder}` for it alone"
            )
    if folders:
        once_each = dict.fromkeys(plain_path(folder) if folder else "" for folder in folders)
        over["run"] = [{"dir": folder, **run} for folder in once_each]
    each: dict[str, dict[str, Any]] = {"run": {} if folders else run, "eval": measure}
    return load_settings(flags.settings_file(), over, each)


def _load_whole(flags: Globals, given: dict[str, Any]) -> Settings:
    """The settings, at the start and at a reload. Raises ConfigError where they name no folder or no data."""
    settings = load(flags, given)
    if not settings.run:
        raise ConfigError(
            "no folder to watch", hint="ckptwatch run --dir DIR --data FILE, or write a file with `ckptwatch init DIR`"
        )
    if not settings.measures:
        raise ConfigError("no validation data", hint="add --data FILE, or an [[eval]] section to ckptwatch.toml")
    return settings


def _refuse_missing(settings) -> None:
    for run in settings.run:
        if not run.dir.is_dir():
            raise ConfigError(
                f"there is no folder {run.dir}", hint="check --dir; without --once the daemon waits for it to appear"
            )


def _refuse_missing_data(settings, url: str) -> None:
    """Before a first start makes a database and a state folder that nothing would be written to."""
    from watcher.domain.database import sqlite_file
    from watcher.settings.eval_sets import data_files

    if (file := sqlite_file(url)) is not None and not os.path.exists(file):
        for section in settings.eval:
            data_files(section)


def _verdict(settings, url: str, as_json: bool) -> None:
    """The end of a single pass: rows on stdout, and the exit status."""
    from watcher.store.engine import shown_url
    from watcher.store.migrate import open_for_reading
    from watcher.store.read import queue
    from watcher.store.read.results import ResultFilter, count_standing, result_rows

    names = [run.name for run in settings.run]
    with closing(open_for_reading(url)) as store:
        rows = [row for name in names if as_json for row in result_rows(store, ResultFilter(name, standing=True))]
        count = count_standing(store, names)
        failures = queue.failures(store, names)
        seen = queue.seen(store, names)
    if as_json:
        print_json(rows)
    if failures:
        raise SomeFailed(
            f"{len(failures)} evaluation(s) or file(s) failed: {failures[0]['checkpoint']}: {failures[0]['reason']}",
            hint=f"ckptwatch queue list --failed {db_flag(url)}",
        )
    if not seen:
        raise _none_there(settings)
    say(f"{count} result(s) in {shown_url(url)}:  ckptwatch results {db_flag(url)}")


def _tell_where_none(settings, url: str) -> None:
    """After --until: that no checkpoint came, which the exit status 0 of a good end does not tell."""
    from watcher.store.migrate import open_for_reading
    from watcher.store.read import queue

    with closing(open_for_reading(url)) as store:
        seen = queue.seen(store, [run.name for run in settings.run])
    if not seen:
        none = _none_there(settings)
        say(f"nothing was evaluated: {none.cause}\n  next:  {none.hint}")


def _none_there(settings) -> NothingFound:
    from watcher.domain.checkpoint import NamePattern
    from watcher.domain.passed_by import passed_by
    from watcher.setup.discover import count_ignored

    where = ", ".join(str(run.dir) for run in settings.run)
    ignored = [
        count_ignored(run.dir, NamePattern(run.include, run.exclude)) for run in settings.run if run.dir.is_dir()
    ]
    others = "".join(f"; {words}" for counts in ignored for words in passed_by(counts))
    return NothingFound(f"there is no checkpoint in {where}{others}", hint=_hint_where_none(settings))


def _hint_where_none(settings) -> str:
    from evalcore.archive import kind_at
    from watcher.setup.discover import trainings_below

    for run in settings.run:
        if not run.dir.is_dir():
            return f"check --dir: there is no folder {run.dir}"
        if (kind := kind_at(str(run.dir))) is not None:
            return f"{run.dir} is itself a {kind.label} checkpoint: ckptwatch eval {run.dir} --data FILE"
    for run in settings.run:
        if inside := trainings_below(run.dir, run.include):
            flags = " ".join(f"--dir {shlex.quote(os.fspath(one.dir))}" for one in inside[:4])
            return f"a run for each folder: {flags}" + (" ..." if len(inside) > 4 else "")
    return "--include GLOB selects files and folders by name, e.g. --include '*.bin' or --include '**/*.pt'"


def _show_plan(settings, url: str, as_json: bool) -> None:
    from watcher.cli.showing import ProgressLine
    from watcher.domain.checkpoint import printable
    from watcher.pipeline.dry_run import NEW, dry_run

    with ProgressLine() as line:
        rows = dry_run(settings, url, line)
    if as_json:
        print_json(rows)
        return
    for row in rows:
        click.echo(f"{row['run']}  {printable(row['checkpoint'] or '-')}  {row['plan']}")
    sets = ", ".join(settings.measures)
    new = sum(row["plan"] == NEW for row in rows)
    say(f"{new} new file(s) on {len(settings.measures)} set(s): {sets}; nothing was changed")
    if not any(row["checkpoint"] for row in rows):
        say(f"  next:  {_hint_where_none(settings)}")
