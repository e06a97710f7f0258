"""`ckptwatch version`."""

from __future__ import annotations

import platform
from importlib import metadata

import click

from watcher.cli.options import json_option, print_json


@click.command("version", epilog="Example:  ckptwatch version --json")
@json_option
def command(as_json: bool) -> None:
    """Print the versions of ckptwatch, Python and the main libraries."""
    names = ("ckptwatch", "torch", "numpy", "tiktoken", "watchdog", "SQLAlchemy")
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for name in names:
        try:
            versions[name.lower()] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name.lower()] = None
    if as_json:
        print_json(versions)
        return
    for name, version in versions.items():
        click.echo(f"{name:<12} {version or 'not installed'}")
