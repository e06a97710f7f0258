"""What the shell completes: paths; jobs, runs, eval sets and columns of the database that the command line names.

An error while completing prints nothing: a shell cannot show it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import click
from click.shell_completion import CompletionItem

from watcher.cli.options import Globals, reading

JOBS_OFFERED = 200
_PATH = re.compile(r"\b(FILE|DIR|FOLDER|CKPT|PATH|P)\b")
Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


class _Text(click.ParamType):
    """Any text, with a completer of its own."""

    name = "text"

    def __init__(self, complete: Completer) -> None:
        self._complete = complete

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return self._complete(ctx, param, incomplete)


def with_completion(command: click.Command) -> click.Command:
    """The verb, and each verb below it: parameters without a completer get one by their name or metavar."""
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        with_completion(below)
    for parameter in command.params:
        if parameter.type is click.STRING and (complete := _completer_of(parameter)) is not None:
            parameter.type = _Text(complete)
    return command


def _completer_of(parameter: click.Parameter) -> Completer | None:
    if _PATH.search(parameter.metavar or "") or parameter.name == "file":
        return complete_paths
    names = {"--run": complete_runs, "--eval-set": complete_sets, "--sort": complete_columns}
    return next((names[flag] for flag in parameter.opts if flag in names), None)


def complete_paths(ctx: click.Context, param: click.Parameter, start: str) -> list[CompletionItem]:
    return [CompletionItem(start, type="file")]  # the shell completes it itself


def complete_columns(ctx: click.Context, param: click.Parameter, start: str) -> list[CompletionItem]:
    from watcher.store.read.results import RESULT_COLUMNS

    return [CompletionItem(name) for name in RESULT_COLUMNS if name.startswith(start)]


def complete_jobs(*states: str) -> Completer:
    """Numbers of jobs in these states, each with its run, step, set and kind; then runs and sets."""

    def complete(ctx: click.Context, param: click.Parameter, start: str) -> list[CompletionItem]:
        def ask(store: Any) -> list[CompletionItem]:
            from watcher.store.read.job_list import described

            rows = described(store, states, JOBS_OFFERED)
            numbers = [CompletionItem(str(row["job"]), help=_about(row)) for row in rows]
            return [*numbers, *_names(store, 0), *_names(store, 1)]

        return _completed(ctx, start, ask)

    return complete


def complete_runs(ctx: click.Context, param: click.Parameter, start: str) -> list[CompletionItem]:
    return _completed(ctx, start, lambda store: _names(store, 0))


def complete_sets(ctx: click.Context, param: click.Parameter, start: str) -> list[CompletionItem]:
    return _completed(ctx, start, lambda store: _names(store, 1))


def _names(store: Any, which: int) -> list[CompletionItem]:
    from watcher.store.read.results import known_names

    return [CompletionItem(name, help=("run", "eval set")[which]) for name in known_names(store)[which]]


def _completed(ctx: click.Context, start: str, ask: Callable[[Any], list[CompletionItem]]) -> list[CompletionItem]:
    try:
        settings_file = ctx.params.get("config_file") or ctx.find_root().params.get("config_file")
        store = reading(Globals(settings_file), ctx.params.get("db"))
        try:
            return [item for item in ask(store) if item.value.startswith(start)]
        finally:
            store.close()
    except Exception:
        return []


def _about(row: dict[str, Any]) -> str:
    step = f"step {row['step']}" if row["step"] is not None else row["checkpoint"]
    return ", ".join(filter(None, (row["run"], step, row["eval_set"], row["kind"])))
