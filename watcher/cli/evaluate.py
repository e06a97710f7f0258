"""`ckptwatch eval`: evaluate given checkpoints now, print the numbers, store them in the database."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from watcher.cli.flags import evaluation_flags
from watcher.cli.options import Globals, db_flag, db_option, fail, json_option, print_json, say, usable_database
from watcher.cli.run import load
from watcher.cli.showing import ProgressLine
from watcher.domain.checkpoint import printable
from watcher.domain.metrics import headline
from watcher.domain.run_name import default_run_name
from watcher.errors import CheckpointUnreadable, CkptwatchError, ConfigError, LockHeld, NothingFound, SomeFailed
from watcher.store.engine import shown_url

if TYPE_CHECKING:
    from watcher.settings.schema import Settings

UNREADABLE_KINDS = {"corrupt", "unsafe", "unsupported", "shape"}


@click.command("eval", epilog="Example:  ckptwatch eval out/ckpt.pt --data val.bin")
@click.argument("checkpoints", nargs=-1, required=True, metavar="CKPT...")
@evaluation_flags
@db_option
@click.option("--run", "run_name", metavar="NAME", help="Name of the run.  [default: the folder's]")
@click.option("--selfcheck", is_flag=True, help="Evaluate twice, with different batch sizes, and compare.")
@click.option("--again", is_flag=True, help="Evaluate even what has a result; the new value replaces it.")
@json_option
@click.pass_obj
def command(
    flags: Globals, checkpoints: tuple[str, ...], as_json: bool, selfcheck: bool, again: bool, **given: Any
) -> None:
    """Evaluate checkpoints now: loss, perplexity, bits per byte, and the gap to the best of the run.

    A checkpoint that has a result is not evaluated again; the value from the table is printed, and --again evaluates
    it anew. Of several checkpoints, one that cannot be evaluated does not stop the others; the exit status is then 5.
    """
    from watcher.domain.timestamps import iso
    from watcher.log import Log
    from watcher.pipeline.evaluate_once import evaluate_files, read_all
    from watcher.pipeline.ownership import own_database
    from watcher.pipeline.watching import make_launcher
    from watcher.state.folder import StateFolder, default_database
    from watcher.store.read import results

    files, unreadable = read_all(list(checkpoints))
    if not files:
        raise unreadable[0]
    for problem in unreadable:
        fail(problem)
    settings = load(flags, given)
    if not settings.measures:
        raise ConfigError("no validation data", hint="ckptwatch eval CKPT --data FILE")
    _refuse_missing_data(settings)
    if selfcheck:
        settings = settings.model_copy(update={"launch": settings.launch.model_copy(update={"selfcheck": True})})
    folder = Path(os.path.commonpath([os.path.dirname(item.path) for item in files]))
    run_name = given.get("run_name") or default_run_name(os.fspath(folder))
    url = usable_database(default_database(settings.store.url, folder))
    state = StateFolder.of_database(url, settings.store.state_dir)
    log = Log(flags.verbose if flags.verbose else -1)
    with tempfile.TemporaryDirectory(prefix="ckptwatch-") as aside:
        try:
            owned, kept = own_database(url, state, "eval"), url
        except LockHeld as held:
            say(f"another process ({held.holder}) holds {url}: results are printed, not stored")
            kept, url = "", os.path.join(aside, "aside.db")
            owned = own_database(url, StateFolder.beside(url), "eval")
        line, began_at = ProgressLine(), iso(time.time())
        try:
            launcher = make_launcher(settings)
            done = evaluate_files(owned.store, owned.state, settings, files, run_name, log, launcher, line, again=again)
            rows, failed = results.of_checkpoints(owned.store, done.checkpoint_ids, done.set_ids)
            others = {row["id"]: results.lowest_elsewhere(owned.store, row) for row in rows}
        finally:
            line.end()
            owned.close()
    if as_json:
        print_json(rows)
    else:
        _print(rows, others, kept, began_at)
    for name in done.beside:
        say(f"{name}: run {done.run} measures it otherwise; this value is stored beside its curve, not in it")
    _raise_for(failed, rows, unreadable)


def _refuse_missing_data(settings: Settings) -> None:
    """A path of the command line that does not exist is `nothing found`, as for the checkpoint itself."""
    from watcher.settings.eval_sets import data_files

    for section in settings.eval:
        try:
            data_files(section)
        except ConfigError as error:
            cause = error.cause.removeprefix(f"[[eval]] {section.name}: ")
            raise NothingFound(cause, hint="check --data: `ckptwatch data sniff PATH` shows what a file is") from None


def _print(rows: list[dict[str, Any]], others: dict[int, dict[str, Any] | None], kept: str, began_at: str) -> None:
    """began_at: a result from before is not of this call."""
    from watcher.report.format import ago

    for row in rows:
        step = f"step {row['step']}" if row["step"] is not None else "no step"
        click.echo(f"{printable(row['checkpoint'])}  {step}  on {row['eval_set']}")
        if row["accuracy"] is not None:
            click.echo(f"  {_accuracy(row)}")
        error = f" ± {row['loss_stderr']:.4f}" if row["loss_stderr"] is not None else ""
        loss = f"{row['loss']:.4f}{error}" if row["loss"] is not None else "not finite"
        ppl = f"{row['ppl']:.3f}" if row["ppl"] is not None else "-"
        bits = f"{row['bits_per_byte']:.4f}" if row["bits_per_byte"] is not None else "-"
        if row["task"] is None:
            click.echo(f"  loss {loss} nats per token    ppl {ppl}    bits per byte {bits}")
            text = f" ({row['bytes']:,} bytes of text)" if row["bytes"] is not None else ""
            amount = f"{row['tokens']} tokens{text} in windows of {row['seq_len']}"
        else:
            click.echo(f"  gold answers: loss {loss} nats per token    bits per byte {bits}")
            amount = f"{row['items']} items of {row['task']}, at most {row['seq_len']} tokens each"
        click.echo(
            f"  {amount}, {row['dtype']} on {row['device']}, "
            f"{row['eval_seconds']:.1f} s, {row['tokens_per_second']:.0f} tokens/s"
        )
        if row["evaluated_at"] < began_at:
            when = ago(row["evaluated_at"], time.time())
            click.echo(f"  from the table: evaluated {when}; --again evaluates it anew")
        if row["logged_val_loss"] is not None and row["task"] is None:
            click.echo(f"  logged by the trainer: {row['logged_val_loss']:.4f}")
        metric = headline(row)
        value = metric.value_of(row)
        if (other := others.get(row["id"])) and value is not None:
            gap = value - (metric.value_of(other) or 0.0)
            word = "above" if gap > 0 else "below"
            where = f"{printable(other['checkpoint'])}, step {other['step']}"
            click.echo(f"  {metric.key} {abs(gap):.4f} {word} the best of {row['run']} so far ({where})")
        if row["note"]:
            click.echo(f"  note: {row['note']}")
    if kept and rows:
        say(f"stored in {shown_url(kept)}:  ckptwatch results {db_flag(kept)}")


def _accuracy(row: dict[str, Any]) -> str:
    """`accuracy 0.2859 ± 0.0045    normalised 0.2955    by chance 0.2500`."""
    parts = [f"accuracy {row['accuracy']:.4f}"]
    if row["accuracy_stderr"] is not None:
        parts[0] += f" ± {row['accuracy_stderr']:.4f}"
    if row["accuracy_norm"] is not None:
        parts.append(f"length-normalised {row['accuracy_norm']:.4f}")
    if row["random_baseline"] is not None:
        parts.append(f"by chance {row['random_baseline']:.4f}")
    return "    ".join(parts)


def _raise_for(failed: list[dict[str, Any]], rows: list[dict[str, Any]], unreadable: list[CkptwatchError]) -> None:
    """One failure is an error of its own; where nothing succeeded, unreadable checkpoints have their own status."""
    if not failed and not unreadable:
        return
    if not failed:
        raise SomeFailed(f"{len(unreadable)} of the checkpoints could not be evaluated", hint=unreadable[0].hint)
    first = failed[0]
    cause = f"{printable(first['checkpoint'])} on {first['eval_set']}: {first['kind']}: {first['reason']}"
    if len(failed) > 1:
        cause += f" (and {len(failed) - 1} more)"
    kinds = {failure["kind"] for failure in failed}
    error = CheckpointUnreadable if kinds <= UNREADABLE_KINDS and not rows else SomeFailed
    raise error(cause, hint=first["hint"] or "ckptwatch inspect CKPT shows what the file contains")
