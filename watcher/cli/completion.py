"""`ckptwatch completion`: shell completion of verbs and flags."""

from __future__ import annotations

import os

import click
from click.shell_completion import get_completion_class

from watcher.errors import UsageError

_HOW = {
    "bash": 'eval "$(ckptwatch completion bash)"',
    "zsh": 'eval "$(ckptwatch completion zsh)"',
    "fish": "ckptwatch completion fish > ~/.config/fish/completions/ckptwatch.fish",
}


@click.command("completion", epilog=f"Example, in ~/.bashrc:  {_HOW['bash']}")
@click.argument("shell", type=click.Choice(sorted(_HOW)), required=False)
@click.pass_context
def command(ctx: click.Context, shell: str | None) -> None:
    """Print the completion script for a shell.

    The default is the shell in $SHELL.
    """
    name = shell or os.path.basename(os.environ.get("SHELL", ""))
    kind = get_completion_class(name)
    if kind is None:
        raise UsageError(f"no completion for the shell {name!r}", hint="ckptwatch completion bash|zsh|fish")
    root = ctx.find_root().command
    click.echo(kind(root, {}, "ckptwatch", "_CKPTWATCH_COMPLETE").source())
