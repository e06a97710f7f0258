"""What the shell completes: job numbers, runs and eval sets of the database that the command line names.

An error while completing prints nothing: a shell cannot show it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
from click.shell_completion import CompletionItem

from watcher.cli.options import Globals, reading

JOBS_OFFERED = 200
Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


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
