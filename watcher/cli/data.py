"""`ckptwatch data`: format, tokens and problems of validation files."""

from __future__ import annotations

import glob
from collections.abc import Callable
from typing import Any

import click

from evalcore.data_digest import FORMATS, TOKEN_DTYPES
from watcher.cli.options import Globals, db_option, json_option, print_json
from watcher.errors import CheckpointUnreadable, NothingFound

_FLAGS = (
    click.argument("paths", nargs=-1, required=True, metavar="PATH..."),
    click.option("--tokenizer", metavar="NAME|FILE|bytes", help="For text.  [default of stats: gpt2]"),
    click.option("--seq-len", type=click.IntRange(1), metavar="N", help="Tokens per window.  [default: 1024]"),
    click.option("--token-dtype", type=click.Choice(TOKEN_DTYPES), help="Type of ids in token files without a header."),
    click.option("--format", type=click.Choice(FORMATS), help="What the files are.  [default: auto]"),
    click.option("--text-field", metavar="NAME", help="Field of JSON documents that holds the text.  [default: text]"),
    json_option,
    db_option,
    click.pass_obj,
)


def _flags(command: Callable) -> Callable:
    for flag in reversed(_FLAGS):
        command = flag(command)
    return command


@click.group("data", epilog="Example:  ckptwatch data sniff val.bin")
def command() -> None:
    """Describe validation data: sniff, stats."""


@command.command("sniff", epilog="Example:  ckptwatch data sniff data/*.npy --json")
@_flags
def sniff(flags: Globals, paths: tuple[str, ...], as_json: bool, db: str | None, **options: Any) -> None:
    """Describe files: format, token type, tokens and ids of token files, and problems. Does not tokenise text."""
    _show(_ask(flags, db, "sniff", paths, options), as_json)


@command.command("stats", epilog="Example:  ckptwatch data stats val.txt --tokenizer gpt2 --seq-len 256")
@_flags
def stats(flags: Globals, paths: tuple[str, ...], as_json: bool, db: str | None, **options: Any) -> None:
    """Count: tokens, targets, windows, documents, bytes of text. Tokenises text, which may take a while.

    Exit status 8 where a file cannot be evaluated on.
    """
    files = _ask(flags, db, "stats", paths, options)
    _show(files, as_json)
    if unusable := [file for file in files if file["tokens"] is None]:
        reason = unusable[0]["problems"][0] if unusable[0]["problems"] else unusable[0]["label"]
        raise CheckpointUnreadable(
            f"{unusable[0]['path']} cannot be evaluated on: {reason}", hint="ckptwatch data sniff"
        )


def _ask(flags: Globals, db: str | None, action: str, paths: tuple[str, ...], given: dict[str, Any]) -> list[dict]:
    from watcher.cli.showing import ProgressLine, state_folder
    from watcher.launch.datafiles import run_data_command
    from watcher.settings.load import load_settings

    names: list[str] = []
    for path in paths:
        names += sorted(glob.glob(path, recursive=True)) or [path] if glob.has_magic(path) else [path]
    options = [
        word for key, value in given.items() if value is not None for word in (f"--{key.replace('_', '-')}", str(value))
    ]
    cache = state_folder(flags, db).token_cache
    if cache.is_dir():
        options += ["--cache-dir", str(cache)]
    python = load_settings(flags.settings_file()).launch.python
    with ProgressLine() as line:
        files = list(run_data_command(action, names, options, str(python) if python else None, line))
    if absent := [file for file in files if file["kind"] == "missing"]:
        raise NothingFound(absent[0]["label"], hint="check the path")
    return files


def _show(files: list[dict[str, Any]], as_json: bool) -> None:
    from watcher.domain.checkpoint import printable
    from watcher.report.format import size
    from watcher.report.tables import as_facts

    if as_json:
        print_json(files)
        return
    for file in files:
        facts: dict[str, Any] = {"what": file["label"], "size": size(file["bytes"])}
        if file["tokens"] is not None:
            facts["tokens"] = f"{file['tokens']:,}" + (
                f" by {file['tokenizer']}" if file["kind"] in ("text", "jsonl", "json", "parquet", "arrow") else ""
            )
            facts["ids"] = f"{file['smallest_id']} to {file['largest_id']}"
        elif file["kind"] in ("text", "jsonl", "json", "parquet", "arrow"):
            facts["tokens"] = "not counted: give --tokenizer, or run `ckptwatch data stats`"
        for key, name in (("windows", "windows"), ("documents", "documents"), ("vocab_size", "vocabulary")):
            if file.get(key) is not None:
                facts[name] = f"{file[key]:,}"
        if file.get("windows") is not None:
            facts["windows"] += f" of {file['seq_len']:,} tokens (--seq-len)"
        if file.get("bytes_per_token"):
            facts["bytes/token"] = f"{file['bytes_per_token']:.3f}"
        click.echo(printable(file["path"]))
        click.echo(as_facts({key: printable(str(value)) for key, value in facts.items()}, "  "))
        for problem in file["problems"]:
            click.echo(f"  problem: {printable(problem)}")
