"""The evaluation flags that `run` and `eval` share, and how they become settings."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import click

from evalcore.data_digest import FORMATS, TOKEN_DTYPES

_FOLDER = click.Path(exists=True, file_okay=False)
_FLAGS = (
    click.option(
        "--data", "data", multiple=True, metavar="PATH", help="Validation data: .npy .bin .txt .jsonl; repeatable."
    ),
    click.option("--seq-len", type=click.IntRange(1), metavar="N", help="Tokens per window."),
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
    names = ("seq_len", "stride", "max_tokens", "tokenizer", "dtype", "token_dtype", "format", "text_field")
    measure = {name: flags[name] for name in names if flags.get(name) is not None}
    launch = {name: flags[name] for name in ("device", "nproc") if flags.get(name) is not None}
    if (batch_size := flags.get("batch_size")) is not None:
        if batch_size != "auto" and not (batch_size.isdigit() and int(batch_size) > 0):
            raise click.BadParameter(f"{batch_size!r} is neither a number nor auto", param_hint="--batch-size")
        launch["batch_size"] = batch_size if batch_size == "auto" else int(batch_size)
    model = {
        name: flags[f"model_{name}"]
        for name in ("factory", "config", "state")
        if flags.get(f"model_{name}") is not None
    }
    if flags.get("python_path"):
        model["python_path"] = [os.path.abspath(folder) for folder in flags["python_path"]]
    out: dict[str, Any] = {"launch": launch, "model": model}
    if flags["data"]:
        out["eval"] = [{"data": [path], **measure} for path in flags["data"]]
    elif measure:
        out["measure"] = measure  # laid over the file's own sets by the caller
    return {key: value for key, value in out.items() if value}
