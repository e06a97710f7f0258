"""`ckptwatch samples`: the stored texts of a run's checkpoints, prompt by prompt and step by step."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from watcher.cli.completing import complete_runs
from watcher.cli.options import Globals, database_url, db_flag, db_option, examples, json_option, reading
from watcher.errors import NothingFound

if TYPE_CHECKING:
    from watcher.store.engine import Store


@click.command(
    "samples",
    epilog=examples(
        "ckptwatch samples",
        "ckptwatch samples --run gpt --name stories --step 1000:2000",
        'ckptwatch samples --prompt "once upon" --limit 3 --json',
    ),
)
@click.option("--run", metavar="NAME", help="Only this run.", shell_complete=complete_runs)
@click.option("--name", metavar="NAME", help="Only this [[sample]] section.")
@click.option("--prompt", metavar="TEXT", help="Only prompts that contain this text.")
@click.option("--step", metavar="A:B", help="Only these steps: 1000, 1000:2000, 1000: or :2000.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Only the N newest steps of each prompt.")
@json_option
@db_option
@click.pass_obj
def command(
    flags: Globals, run: str | None, name: str | None, prompt: str | None, step: str | None, limit: int | None,
    as_json: bool, db: str | None,
) -> None:  # fmt: skip
    """Print the texts that checkpoints generated from the prompts of [[sample]].

    JSON has the columns of the view `sample_texts`. Control characters are escaped.
    """
    from watcher.report.format import strict
    from watcher.report.lookup import expect, parse_steps
    from watcher.store.read.results import known_names
    from watcher.store.read.samples import WantedTexts, texts

    steps = parse_steps(step) if step is not None else (None, None)
    url = database_url(flags, db)
    store = reading(flags, db)
    if run is not None and (known := known_names(store)[0]):
        expect("run", run, known)
    rows = texts(store, WantedTexts(run, name, steps, prompt, limit=limit))
    if not rows:
        raise NothingFound("no text is stored that matches", hint=_hint(store, url))
    if as_json:  # ASCII: the texts are what a model made up, and this may be a terminal
        click.echo(json.dumps(strict(rows), indent=2, allow_nan=False, default=str))
        return
    _print(rows)


def _hint(store: Store, url: str) -> str:
    from watcher.store.read.samples import SamplePages

    flag = db_flag(url)
    if not SamplePages(store).sections():
        return f"add a [[sample]] section with `prompts` to ckptwatch.toml; ckptwatch run {flag}"
    return f"ckptwatch samples {flag} prints all; ckptwatch queue list --failed {flag} shows what failed"


def _print(rows: list[dict[str, Any]]) -> None:
    from watcher.domain.checkpoint import printable
    from watcher.report.samples import lines_of, settings_words

    before = None
    for row in rows:
        prompt = (row["run"], row["name"], row["position"])
        if prompt != before:
            click.echo(
                ("" if before is None else "\n") + f"{printable(row['run'])}  {printable(row['name'])}  ", nl=False
            )
            click.echo(f"{settings_words(row)}\nprompt {row['position'] + 1}: {printable(row['prompt'])}")
        before = prompt
        step = "no step" if row["step"] is None else f"step {row['step']}"
        mean = f" ({printable(row['weights'])})" if row["weights"] else ""
        click.echo(f"  {step}{mean}, {row['tokens']} tokens" + (f"; {printable(row['note'])}" if row["note"] else ""))
        for line in lines_of(row["text"]):
            click.echo(f"    {line}")
