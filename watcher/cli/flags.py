"""The evaluation flags that `run` and `eval` share, and how they become settings."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Sequence
from typing import Any

import click

from evalcore.data_digest import FORMATS, TOKEN_DTYPES
from evalcore.tasks.spec import SCORINGS
from watcher.settings.paths import plain_path
from watcher.settings.tasks import evidence_of_task

_COMMON_FLAGS = ("seq_len", "tokenizer", "dtype")
_STREAM_FLAGS = ("stride", "max_tokens", "token_dtype", "format", "text_field")
_TASK_FLAGS = ("task", "scoring", "shots", "delimiter", "bos", "max_items")
#: Files that --task leaves alone where there are several: they hold tokens or plain text.
_NO_ITEMS = (".bin", ".npy", ".txt")
_FOLDER = click.Path(exists=True, file_okay=False)
_FLAGS = (
    click.option(
        "--data",
        "data",
        multiple=True,
        metavar="[NAME=]PATH",
        help="Validation data (.npy .bin .txt .jsonl), or the items of a task, and the set's name in the results "
        "(by default the file's); repeatable.",
    ),
    click.option(
        "--one-set", is_flag=True, help="All --data files are one set, in this order: the shards of one text."
    ),
    click.option(
        "--task", metavar="NAME", help="Task whose items the data files hold, e.g. hellaswag.  [default: recognised]"
    ),
    click.option(
        "--suite", "suite", multiple=True, metavar="FOLDER", help="Folder of tasks with core.yaml; repeatable."
    ),
    click.option("--scoring", type=click.Choice(SCORINGS), help="Rules of the tasks.  [default: the task's own]"),
    click.option("--shots", type=click.IntRange(0), metavar="N", help="Solved items before each item of a task."),
    click.option(
        "--delimiter", metavar="TEXT", help="Text between context and continuation of a task.  [default: a space]"
    ),
    click.option(
        "--bos/--no-bos",
        default=None,
        help="Beginning-of-text token first in each item of a task.  [default: as the scoring does]",
    ),
    click.option("--max-items", type=click.IntRange(1), metavar="N", help="Score only N items of each task."),
    click.option("--seq-len", type=click.IntRange(1), metavar="N", help="Tokens per window, or of the longest item."),
    click.option("--stride", type=click.IntRange(1), metavar="N", help="Tokens between windows.  [default: seq-len]"),
    click.option("--max-tokens", type=click.IntRange(2), metavar="N", help="Use only the first N tokens of each set."),
    click.option(
        "--tokenizer", metavar="NAME|FILE|bytes", help="Tokenizer of text data, and for bits per byte of token files."
    ),
    click.option("--token-dtype", type=click.Choice(TOKEN_DTYPES), help="Type of ids in token files without a header."),
    click.option("--format", type=click.Choice(FORMATS), help="What the data files are.  [default: auto]"),
    click.option("--text-field", metavar="NAME", help="Field of JSON documents that holds the text.  [default: text]"),
    click.option("--device", type=click.Choice(["cpu", "cuda", "auto"]), help="Device.  [default: auto]"),
    click.option(
        "--nproc", type=click.IntRange(1), metavar="N", help="Number of processes: one per GPU, or CPU ranks."
    ),
    click.option(
        "--dtype",
        type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
        help="auto: float32 on CPU, bfloat16 on CUDA.",
    ),
    click.option("--batch-size", metavar="N|auto", help="Windows per forward pass.  [default: auto]"),
    click.option("--model-factory", metavar="PKG.MOD:FUNC", help="Custom model: factory(config, state)."),
    click.option(
        "--python-path",
        multiple=True,
        type=_FOLDER,
        metavar="DIR",
        help="Folder to import the factory from; repeatable.",
    ),
    click.option(
        "--model-config", metavar="FILE", help="Corrects or replaces the checkpoint's configuration (JSON, TOML)."
    ),
    click.option("--model-state", metavar="NAME", help="State dict to evaluate: model, ema, ..."),
)


def evaluation_flags(command: Callable) -> Callable:
    for flag in reversed(_FLAGS):
        command = flag(command)
    return command


def as_settings(flags: dict[str, Any]) -> dict[str, Any]:
    """The flags as nested settings: [[eval]] for each --data, [launch], [model]; options not given are left out."""
    launch = {name: flags[name] for name in ("device", "nproc") if flags.get(name) is not None}
    if (batch_size := flags.get("batch_size")) is not None:
        if batch_size != "auto" and not (batch_size.isdecimal() and int(batch_size) > 0):
            raise click.BadParameter(f"{batch_size!r} is neither a number nor auto", param_hint="--batch-size")
        launch["batch_size"] = batch_size if batch_size == "auto" else int(batch_size)
    model = {
        name: flags[f"model_{name}"]
        for name in ("factory", "config", "state")
        if flags.get(f"model_{name}") is not None
    }
    if flags.get("python_path"):
        model["python_path"] = [plain_path(folder) for folder in flags["python_path"]]
    out: dict[str, Any] = {"launch": launch, "model": model}
    out = {key: value for key, value in out.items() if value}
    if flags["data"] or flags.get("suite"):
        return out | _sets(flags)
    _refuse_unused(flags, _TASK_FLAGS, "belongs to --data or --suite, or into the [[eval]] sections of the file")
    if measure := _given(flags, (*_COMMON_FLAGS, *_STREAM_FLAGS)):
        out["measure"] = measure  # laid over the file's own sets by the caller
    return out


def _sets(flags: dict[str, Any]) -> dict[str, Any]:
    """[[eval]] and [[suite]]: a flag goes to the sets that it has a meaning for, and is refused where there is none."""
    common, suites = _given(flags, _COMMON_FLAGS), flags.get("suite") or ()
    named = [_name_and_path(given) for given in flags["data"]]
    of_kind = {True: _given(flags, _TASK_FLAGS), False: _given(flags, _STREAM_FLAGS)}
    is_task = {path: _holds_items(path, flags, alone=len(named) == 1) for _, path in named}
    if True not in is_task.values():
        unused = [name for name in _TASK_FLAGS if not (suites and name == "max_items")]
        _refuse_unused(flags, unused, "has no meaning here: no --data file holds items of a task that is recognised")
    if False not in is_task.values():
        _refuse_unused(flags, _STREAM_FLAGS, "has no meaning for a task; --max-items limits its items")
    limits = _given(flags, ("max_items",))
    parts = [named] if named and flags.get("one_set") else [[one] for one in named]
    return {
        "eval": [{**_name_of_set(part), **common, **of_kind[is_task[part[0][1]]]} for part in parts],
        "suite": [{"data": plain_path(folder), **common, **limits} for folder in suites],
    }


def _name_and_path(given: str) -> tuple[str, str]:
    """NAME=PATH of --data; the name is empty where there is none, or where a file of that whole name exists."""
    name, equals, path = given.partition("=")
    if not (name and equals and path) or "/" in name or os.path.exists(given) or glob.glob(given):
        return "", given
    return name, os.path.expanduser(path)  # after `NAME=` not every shell does it


def _name_of_set(part: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """`data`, and `name` where one was given. Raises UsageError where the files of one set have several."""
    names = sorted({name for name, _ in part if name})
    if len(names) > 1:
        raise click.UsageError(f"--one-set has one name, and --data gives it {len(names)}: {', '.join(names)}")
    return {"data": [path for _, path in part], **({"name": names[0]} if names else {})}


def _holds_items(path: str, flags: dict[str, Any], *, alone: bool) -> bool:
    """Whether --data names the items of a task: recognised, or said by --task, which leaves token files alone."""
    if flags.get("task") is not None:
        return alone or not path.endswith(_NO_ITEMS)
    explicit = (flags.get("format") or "auto") != "auto" or (flags.get("text_field") or "text") != "text"
    first = next(iter(sorted(glob.glob(path))), path) if glob.has_magic(path) and not os.path.exists(path) else path
    return evidence_of_task(first, explicit_text=explicit) is not None


def _given(flags: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: flags[name] for name in names if flags.get(name) is not None}


def _refuse_unused(flags: dict[str, Any], names: Sequence[str], why: str) -> None:
    for name in _given(flags, names):
        raise click.UsageError(f"--{name.replace('_', '-')} {why}")
