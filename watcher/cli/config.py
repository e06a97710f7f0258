"""`ckptwatch config`: print the effective settings, validate a file, print every key."""

from __future__ import annotations

import click

from watcher.cli.options import Globals, examples, json_option, print_json, say
from watcher.errors import ConfigError


@click.group("config", epilog="Example:  ckptwatch config validate")
def command() -> None:
    """Settings: show, validate, schema."""


@command.command("show", epilog="Example:  ckptwatch -c my.toml config show")
@json_option
@click.pass_obj
def show(flags: Globals, as_json: bool) -> None:
    """Print the effective settings: file, then CKPTWATCH_* variables, with defaults; secrets masked."""
    from watcher.settings.load import load_settings
    from watcher.settings.masking import shown
    from watcher.settings.template import as_toml

    data = shown(load_settings(flags.settings_file()))
    if as_json:
        print_json(data)
    else:
        click.echo(as_toml(data), nl=False)


@command.command("validate", epilog="Example:  ckptwatch -c my.toml config validate")
@click.argument("file", required=False)
@json_option
@click.pass_obj
def validate(flags: Globals, file: str | None, as_json: bool) -> None:
    """Check the settings file and print every problem; exit status 3 if there is one."""
    from pathlib import Path

    from watcher.settings.load import load_settings
    from watcher.settings.schema import DEFAULT_FILE

    where = Path(file) if file is not None else flags.settings_file() or Path(DEFAULT_FILE)
    try:
        settings = load_settings(where)
    except ConfigError as error:
        if as_json:
            print_json({"file": str(where), "valid": False, "problems": error.cause.splitlines()[1:] or [error.cause]})
        raise
    absent = [
        f"[[run]] {run.name}: the folder {run.dir} does not exist yet" for run in settings.run if not run.dir.is_dir()
    ]
    if not settings.run:
        absent.append("no [[run]]: nothing is watched")
    if not settings.measures:
        absent.append("no [[eval]]: nothing is evaluated")
    if as_json:
        print_json({"file": str(where), "valid": True, "problems": [], "warnings": absent})
        return
    for words in absent:
        say(f"note: {words}")
    say(f"{where}: {len(settings.run)} run(s), {len(settings.measures)} eval set(s), no problems")


@command.command(
    "schema",
    epilog=examples("ckptwatch config schema > ckptwatch.schema.json", "ckptwatch config schema --toml > full.toml"),
)
@click.option("--toml", "as_toml_", is_flag=True, help="As a commented TOML file with every key and its default.")
@click.option("--json", "as_json", is_flag=True, help="As a JSON schema (the default).")
def schema_(as_toml_: bool, as_json: bool) -> None:
    """Print every key with its description and default."""
    from watcher.settings.template import full_toml, schema

    if as_toml_ and not as_json:
        click.echo(full_toml(), nl=False)
    else:
        print_json(schema())
