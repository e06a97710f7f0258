"""The `ckptwatch` command: one file per verb or small group of verbs, each loaded only when it is called.

Owns the global flags, the exit statuses and how an error is shown; a verb loads, calls and prints.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys

import click

from watcher.cli.options import Globals, fail, say
from watcher.errors import CkptwatchError, EnvironmentProblem

#: verb -> module in watcher.cli that holds a click command of that name
VERBS = {
    "init": "init",
    "run": "run",
    "eval": "evaluate",
    "status": "status",
    "results": "results",
    "plot": "plot",
    "compare": "compare",
    "inspect": "inspect",
    "data": "data",
    "queue": "queue",
    "logs": "logs",
    "doctor": "doctor",
    "config": "config",
    "db": "db",
    "export": "export",
    "prune": "prune",
    "serve": "serve",
    "service": "service",
    "demo": "demo",
    "version": "version",
    "completion": "completion",
}


class Verbs(click.Group):
    """Loads a verb's module when it is asked for; offers the nearest verb for an unknown one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        module = importlib.import_module(f"watcher.cli.{VERBS[name]}")
        return getattr(module, "command")  # noqa: B009

    def resolve_command(self, ctx: click.Context, args: list[str]):
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0], VERBS, n=1, cutoff=0.5)
            if near:
                raise click.UsageError(f"no verb {args[0]!r}; did you mean `ckptwatch {near[0]}`?", ctx) from None
            raise error


@click.command(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Start with:  ckptwatch eval CKPT --data FILE    or    ckptwatch run --dir DIR --data FILE",
)
@click.option("-c", "--config", "config_file", metavar="FILE", help="Settings file.  [default: ./ckptwatch.toml]")
@click.option("-v", "--verbose", count=True, help="Say more (-vv: everything).")
@click.option("-q", "--quiet", is_flag=True, help="Say only what went wrong.")
@click.pass_context
def root(ctx: click.Context, config_file: str | None, verbose: int, quiet: bool) -> None:
    """Evaluate every checkpoint that a PyTorch trainer saves, exactly once, beside the training."""
    ctx.obj = Globals(config_file, verbose, quiet)


def fill_closed_streams() -> None:
    """Where 0, 1 or 2 was closed, the next file opened would take its number, and words would go into that file."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115


def refuse_deleted_folder() -> None:
    """Every relative path, the default settings file and database among them, needs a working folder."""
    try:
        os.getcwd()
    except OSError as error:
        raise EnvironmentProblem(f"the working folder cannot be used: {error.strerror}", hint="cd ~") from None


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status (0 ok, 2 usage, and those of watcher.errors)."""
    fill_closed_streams()
    try:
        refuse_deleted_folder()
        status = root.main(args=arguments, prog_name="ckptwatch", standalone_mode=False)
        sys.stdout.flush()
        return int(status or 0)
    except click.exceptions.Abort:
        say("stopped")
        return 130
    except KeyboardInterrupt:
        return 130
    except click.ClickException as error:
        error.show(sys.stderr)
        return 2
    except CkptwatchError as error:
        fail(error)
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # a reader such as `head` has left
        return 0
