"""The command line: every verb's own --help, in the order of watcher.cli.VERBS."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import click

from docs.from_code.markdown import NotInTheCode, generated
from watcher.cli import VERBS, root

WIDTH = 100  # of the help texts, whatever terminal this is generated in


def page() -> str:
    """Every verb with its help. Raises where a verb of VERBS has no module."""
    about = """
    The `--help` text of every verb. Data is printed on stdout, messages on stderr. Every verb that prints rows has
    `--json`; `NO_COLOR` is honoured. For exit statuses see [Exit codes](exit-codes.md).

    Flags override environment variables (`CKPTWATCH_DB`, `CKPTWATCH_LAUNCH_DEVICE`, ...), which override the
    [settings file](config.md).
    """
    if absent := [
        f"watcher/cli/{module}.py" for module in VERBS.values() if find_spec(f"watcher.cli.{module}") is None
    ]:
        raise NotInTheCode(f"verbs of watcher.cli.VERBS without a module: {', '.join(absent)}")
    parts = [generated("Command line", "watcher/cli", about), _section("ckptwatch", root, None, 2)]
    for words, command in verbs():
        parent = click.Context(root, info_name="ckptwatch")
        if " " in words:
            parent = click.Context(click.Group(words.split()[0]), info_name=words.split()[0], parent=parent)
        parts.append(_section(f"ckptwatch {words}", command, parent, 2 + words.count(" ")))
    return "\n".join(parts)


def verbs() -> Iterator[tuple[str, click.Command]]:
    """`results`, `queue`, `queue list`, ...: every verb and what is below it."""
    for verb in VERBS:
        command = root.get_command(click.Context(root), verb)
        assert command is not None  # VERBS is what get_command looks in
        yield verb, command
        if isinstance(command, click.Group):
            yield from ((f"{verb} {name}", inner) for name, inner in command.commands.items())


def _section(title: str, command: click.Command, parent: click.Context | None, depth: int) -> str:
    context = click.Context(
        command,
        info_name=title.split()[-1],
        parent=parent,
        terminal_width=WIDTH,
        max_content_width=WIDTH,
        help_option_names=["-h", "--help"],
    )
    return f"{'#' * depth} {title}\n\n```console\n{command.get_help(context).rstrip()}\n```\n"
