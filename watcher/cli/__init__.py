"""The `ckptwatch` command: one file per verb or small group of verbs, each loaded only when it is called.

Owns the global flags, the exit statuses and how an error is shown; a verb loads, calls and prints.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import sys

import click

from watcher.cli.options import Globals, fail, on_database, say, with_config_option
from watcher.cli.summaries import SUMMARIES
from watcher.cli.unforeseen import as_error, refuse_deleted_folder
from watcher.errors import CkptwatchError

#: Words of a command line that needs no working folder.
ANYWHERE = {"version", "completion", "--version", "--help", "-h"}
COMPLETE = "_CKPTWATCH_COMPLETE"  # the shell's question, as click names it
#: Verbs that may run for days in one process: the collector keeps Python's own thresholds.
LONG_LIVED = {"run", "serve"}
GC_THRESHOLD = 50_000
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
    "model": "model",
    "data": "data",
    "queue": "queue",
    "logs": "logs",
    "doctor": "doctor",
    "config": "config",
    "db": "db",
    "export": "export",
    "prune": "prune",
    "sample": "sample",
    "samples": "samples",
    "average": "average",
    "serve": "serve",
    "service": "service",
    "demo": "demo",
    "version": "version",
    "completion": "completion",
}


class Verbs(click.Group):
    """Imports a verb's module on use; suggests the nearest verb for an unknown one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        if name not in LONG_LIVED:
            spare_collections()
        module = importlib.import_module(f"watcher.cli.{VERBS[name]}")
        return _completed(with_config_option(module.command))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of verbs in `--help`, from their summaries: to import every verb takes seconds on a slow disk."""
        room = formatter.width - 6 - max(map(len, VERBS))
        lines = [(verb, click.Command(verb, help=SUMMARIES[verb]).get_short_help_str(room)) for verb in VERBS]
        with formatter.section("Commands"):
            formatter.write_dl(lines)

    def resolve_command(self, ctx: click.Context, args: list[str]):
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            near = difflib.get_close_matches(args[0], VERBS, n=1, cutoff=0.5)
            if near:
                raise click.UsageError(f"no verb {args[0]!r}; did you mean `ckptwatch {near[0]}`?", ctx) from None
            raise error


@click.command(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Start with:  ckptwatch eval CKPT --data FILE    or    ckptwatch run --dir DIR --data FILE",
)
@click.version_option(None, package_name="ckptwatch", message="ckptwatch %(version)s", help="Print the version.")
@click.option("-c", "--config", "config_file", metavar="FILE", help="Settings file.  [default: ./ckptwatch.toml]")
@click.option("-v", "--verbose", count=True, help="Log more (-vv: everything).")
@click.option("-q", "--quiet", is_flag=True, help="Log only problems.")
@click.pass_context
def root(ctx: click.Context, config_file: str | None, verbose: int, quiet: bool) -> None:
    """Evaluate every checkpoint that a PyTorch trainer saves, exactly once, outside the training process."""
    ctx.obj = Globals(config_file, verbose, quiet)


def _completed(command: click.Command) -> click.Command:
    """The command, able to complete its parameters where a shell asks for it."""
    if COMPLETE not in os.environ:
        return command
    from watcher.cli.completing import with_completion

    return with_completion(command)


def spare_collections() -> None:
    """Collect cycles seldom, and not at the end: a fifth of a listing's time, as imports make objects that stay."""
    gc.set_threshold(GC_THRESHOLD)
    atexit.register(gc.freeze)  # the interpreter's last collection then has nothing to visit


def fill_closed_streams() -> None:
    """Where 0, 1 or 2 was closed, the next file opened would take its number and receive what is printed."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status (0 ok, 2 usage, and those of watcher.errors).

    A reader of stdout that leaves early, such as `head`, is no error. An exception that no verb foresaw ends with 1.
    """
    fill_closed_streams()
    given, stdout = sys.argv[1:] if arguments is None else arguments, sys.stdout
    try:
        if ANYWHERE.isdisjoint(given):
            refuse_deleted_folder()
        status = _completed(root).main(args=arguments, prog_name="ckptwatch", standalone_mode=False)
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
        fail(on_database(error, given))
        return error.exit_code
    except BrokenPipeError:
        return 0
    except SystemExit as ended:
        broken_pipe = sys.stdout is not stdout  # click wraps the streams then, and gives no other sign
        return 0 if broken_pipe else int(ended.code or 0)
    except Exception as error:
        shown = as_error(error)
        fail(shown)
        return shown.exit_code
    finally:
        _discard_output()


def _discard_output() -> None:
    """What a broken stdout or stderr did not take must not fail once more, with status 120, as the interpreter ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
            continue
        except (OSError, ValueError):
            pass
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        except (OSError, ValueError):
            pass
