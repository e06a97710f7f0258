"""`ckptwatch export`: send results to a file or tracker now, without the daemon."""

from __future__ import annotations

import os
import tempfile
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from watcher.cli.options import Globals, database_url, db_option, examples, json_option, print_json, say

BATCH = 1000


@click.command(
    "export",
    epilog=examples(
        "ckptwatch export csv",
        "ckptwatch export - | head",
        "ckptwatch export tensorboard --path runs --since 5000",
    ),
)
@click.argument("sink")
@click.option(
    "--since", metavar="T|STEP", help="Only results from this step on, or evaluated since this time (ISO 8601)."
)
@click.option("--run", help="Only this run.")
@click.option("--eval-set", "--set", "eval_set", metavar="NAME", help="Only this set.")
@click.option("--path", type=click.Path(path_type=Path), help="File or folder to write to.")
@click.option("--url", help="Tracking server or store.")
@click.option("--project", help="W&B or trackio project, MLflow experiment.")
@click.option("--entity", help="W&B entity.")
@click.option("--mode", type=click.Choice(["online", "offline"]), help="W&B mode.")
@json_option
@db_option
@click.pass_obj
def command(flags: Globals, sink: str, since: str | None, as_json: bool, db: str | None, **given: Any) -> None:
    """Send results to SINK: a [[sink]] of the settings by name, or jsonl, csv, parquet, tensorboard, mlflow, wandb,
    trackio or prometheus. Results that the sink already has are not sent again.

    `-` writes JSON lines to stdout, and so do jsonl and csv with --path -: all results then, whatever was sent before.
    """
    from watcher.settings.load import load_settings
    from watcher.sinks.delivery_folder import exclusive_delivery
    from watcher.sinks.protocol import send_missing
    from watcher.sinks.registry import make_sink
    from watcher.state.folder import StateFolder
    from watcher.store.migrate import open_for_reading
    from watcher.store.read.results import ResultFilter, result_rows

    settings = load_settings(flags.settings_file())
    url = database_url(flags, db)
    wanted = ResultFilter(run=given.pop("run"), eval_set=given.pop("eval_set"))
    if sink == "-" or os.fspath(given["path"] or "") == "-":
        _to_stdout("jsonl" if sink == "-" else sink, url, wanted, since)
        return
    section = _section(sink, settings.sink, given)
    with closing(open_for_reading(url)) as store:
        rows = _since(result_rows(store, wanted), since)
    state = StateFolder.of_database(url, settings.store.state_dir)
    with tempfile.TemporaryDirectory(prefix="ckptwatch-") as scratch:
        folder = state.root / "sinks" / sink
        if not os.access(state.root, os.W_OK):
            folder = Path(scratch)
        try:
            with exclusive_delivery(folder):
                made = make_sink(sink, section, folder)
                sent = sum(send_missing(made, rows[at : at + BATCH], unsure=True) for at in range(0, len(rows), BATCH))
        except BlockingIOError:
            from watcher.errors import LockHeld

            raise LockHeld(folder / "lock", "a delivery of the daemon") from None
    where = str(getattr(made, "path", None) or getattr(made, "folder", None) or section.url or section.kind)
    if as_json:
        print_json({"sink": sink, "results": len(rows), "sent": sent, "where": where})
    elif not flags.quiet:
        say(
            f"{sent} of {len(rows)} results sent to {where}"
            + ("" if sent == len(rows) else "; it already had the others")
        )


def _to_stdout(kind: str, url: str, wanted: Any, since: str | None) -> None:
    from watcher.errors import UsageError
    from watcher.report.tables import as_csv, as_jsonl
    from watcher.store.migrate import open_for_reading
    from watcher.store.read.results import RESULT_COLUMNS, result_rows

    if kind not in ("jsonl", "csv"):
        raise UsageError(f"{kind} is not written to stdout", hint="ckptwatch export jsonl --path -, or csv --path -")
    with closing(open_for_reading(url)) as store:
        rows = _since(result_rows(store, wanted), since)
    if rows or kind == "csv":
        click.echo(as_jsonl(rows) if kind == "jsonl" else as_csv(RESULT_COLUMNS, rows))


def _section(sink: str, sections: Any, given: dict[str, Any]) -> Any:
    """The settings' sink of that name, or one of that kind in the working folder; flags go over both."""
    from watcher.errors import UsageError
    from watcher.settings.outputs import SINK_KINDS, SinkSettings
    from watcher.sinks.registry import FILE_NAMES, named

    over = {key: value for key, value in given.items() if value is not None}
    known = named(sections)
    if sink in known:
        return known[sink].model_copy(update=over)
    if sink not in SINK_KINDS:
        import difflib

        names = list(dict.fromkeys([*known, *SINK_KINDS]))
        near = "".join(f"did you mean {name}? " for name in difflib.get_close_matches(sink, names, n=1))
        raise UsageError(
            f"there is no sink {sink!r}",
            hint=f"{near}known: {', '.join(names)}",
            tried="[[sink]] names",
        )
    if sink in FILE_NAMES or sink in ("tensorboard", "wandb"):
        over.setdefault("path", Path.cwd() / FILE_NAMES.get(sink, "" if sink == "wandb" else sink))
    return SinkSettings(kind=sink, **over)  # type: ignore[arg-type]


def _since(rows: list[dict[str, Any]], since: str | None) -> list[dict[str, Any]]:
    from watcher.domain.timestamps import iso
    from watcher.errors import UsageError

    if since is None:
        return rows
    if since.isdecimal():
        return [row for row in rows if row["step"] is not None and row["step"] >= int(since)]
    try:
        time = datetime.fromisoformat(since)
    except ValueError:
        raise UsageError(
            f"--since {since}: neither a step nor a time", hint="--since 5000, --since 2026-01-31T12:00Z"
        ) from None
    at = iso((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp())
    return [row for row in rows if row["evaluated_at"] >= at]
