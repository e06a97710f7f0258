"""Flags of the stand-alone command, and the eval sets and model settings that they describe.

Owns names, defaults and which flags exclude each other. Never measures, never prints; imports no torch.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from typing import Any

from evalcore.data_digest import FORMATS, TOKEN_DTYPES
from evalcore.messages import EvalSetSpec, ModelSpec
from evalcore.tasks.bundle import read_bundle
from evalcore.tasks.sniffing import sniff_task
from evalcore.tasks.spec import SCORINGS, task_spec

_ONLY_FOR_A_TASK = ("scoring", "shots", "delimiter", "bos", "max_items")
_NOT_FOR_A_SUITE = ("task", "scoring", "shots", "delimiter", "bos", "stride", "max_tokens", "token_dtype")


def parser() -> argparse.ArgumentParser:
    """The flags; those of rosellm's eval.py keep their names, defaults and meaning."""
    out = _Parser(prog="python -m evalcore", description="Exact loss and perplexity of one checkpoint on one stream.")
    out.add_argument("--checkpoint-path", required=True, help="the .pt file")
    out.add_argument(
        "--data-mode", choices=["text", "fineweb_npy"], default="text", help="which of the two below to read"
    )
    out.add_argument("--val-data", nargs="*", default=[], help="text files (data mode text)")
    out.add_argument("--val-npy", nargs="*", default=[], help="token shards (data mode fineweb_npy)")
    out.add_argument("--data", nargs="*", default=None, help="files of any known format, instead of the three above")
    out.add_argument(
        "--tokenizer-name",
        "--tokenizer",
        help="tiktoken name, bytes, or a tokenizer file (default: gpt2 for text; token files have no default, and "
        "their bits per byte are null without one)",
    )
    out.add_argument("--token-dtype", choices=TOKEN_DTYPES, help="type of ids in token files without a header")
    out.add_argument("--format", choices=FORMATS, help="what the files are (default: by name and content)")
    out.add_argument("--text-field", default="text", help="field of JSON documents that holds the text")
    out.add_argument(
        "--task", metavar="NAME", help="the files hold items of this task: hellaswag, lambada, arc_easy, ..."
    )
    out.add_argument("--scoring", choices=SCORINGS, help="how a task is encoded and scored (default: as its files are)")
    out.add_argument("--shots", type=int, help="examples before each item of a task (scoring core)")
    out.add_argument("--delimiter", help="text between context and continuation of a task (default: a space)")
    out.add_argument(
        "--bos",
        action=argparse.BooleanOptionalAction,
        help="put the beginning-of-text token first in each item of a task (default: as the scoring does)",
    )
    out.add_argument("--suite", metavar="FOLDER", help="instead of data: the tasks of a folder with core.yaml")
    out.add_argument("--max-items", type=int, help="score only N items of each task")
    out.add_argument("--max-tokens", type=int, help="keep only the first N tokens")
    out.add_argument("--seq-len", type=_auto_or_number, help="window in tokens (default: the context, 1024 at most)")
    out.add_argument("--batch-size", type=_auto_or_number, help="windows per pass and rank (default: found by memory)")
    out.add_argument("--no-amp", action="store_true", help="float32 on CUDA too")
    out.add_argument("--bf16", action="store_true", help="bfloat16 (on CUDA it is the default)")
    out.add_argument("--seed", type=int, default=42, help="accepted and without effect: nothing is drawn at random")
    out.add_argument("--stride", type=int, help="tokens between windows (default: seq-len)")
    out.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    out.add_argument("--dtype", choices=["auto", "float32", "bfloat16", "float16"], default="auto")
    out.add_argument("--cache-dir", help="where tokenised text is kept")
    out.add_argument("--join-s", type=float, help="seconds to wait for other ranks (default: 300 in torchrun, else 60)")
    out.add_argument("--model-config", metavar="FILE", help="JSON: corrects the checkpoint's configuration")
    out.add_argument("--model-state", metavar="NAME", help="which state dict of the file: model, ema, ...")
    out.add_argument("--model-factory", metavar="PKG.MOD:FUNC", help="your own model: factory(config, state)")
    out.add_argument("--python-path", action="append", default=[], metavar="DIR", help="folder with the factory's code")
    out.add_argument("--json", action="store_true", help="one JSON object as the last line")
    out.add_argument("--selfcheck", action="store_true", help="evaluate again another way and compare")
    return out


class _Parser(argparse.ArgumentParser):
    def parse_args(self, *arguments: Any, **more: Any) -> Any:  # type: ignore[override]
        options = super().parse_args(*arguments, **more)
        if options.data is None:
            options.data = options.val_data if options.data_mode == "text" else options.val_npy
            options.format = options.format or ("text" if options.data_mode == "text" else "auto")
        if options.no_amp:
            options.dtype = "float32"
        elif options.bf16 and options.dtype == "auto":
            options.dtype = "bfloat16"
        return options


def eval_sets(options: argparse.Namespace) -> list[EvalSetSpec]:
    """The eval set that the flags describe, or one for each task of a suite. Raises ValueError with a sentence."""
    if options.suite is None:
        return [_eval_set(options)]
    given = [name for name in _NOT_FOR_A_SUITE if getattr(options, name) is not None]
    if options.data or given:
        flag = "--data" if options.data else f"--{given[0].replace('_', '-')}"
        raise ValueError(f"{flag} has no meaning with --suite: the bundle says it for each of its tasks")
    members = read_bundle(options.suite).tasks
    specs = [(member, replace(member.spec, max_items=options.max_items)) for member in members]
    return [
        EvalSetSpec(spec.name, (member.path,), tokenizer=options.tokenizer_name, task=spec) for member, spec in specs
    ]


def _eval_set(options: argparse.Namespace) -> EvalSetSpec:
    name = options.task
    if name is None and options.format in (None, "auto"):
        evidence = sniff_task(options.data[0])
        if evidence is not None and (evidence.task is None or evidence.also_text):
            kinds = " or ".join((*evidence.candidates, *(["text"] if evidence.also_text else [])))
            raise ValueError(
                f"{options.data[0]} may hold items of {kinds}; give --task NAME, or --format jsonl for text"
            )
        name = None if evidence is None else evidence.task
    if name is None:
        if unused := [flag for flag in _ONLY_FOR_A_TASK if getattr(options, flag) is not None]:
            raise ValueError(f"--{unused[0].replace('_', '-')} has no meaning here: {options.data[0]} holds no items")
        return EvalSetSpec(
            "data",
            tuple(options.data),
            options.format or "auto",
            options.tokenizer_name,
            max_tokens=options.max_tokens,
            text_field=options.text_field,
            token_dtype=options.token_dtype,
        )
    if options.stride is not None or options.max_tokens is not None:
        raise ValueError("--stride and --max-tokens are for a stream of tokens; a task has --max-items")
    fields = {flag: getattr(options, flag) for flag in _ONLY_FOR_A_TASK}
    return EvalSetSpec("data", tuple(options.data), tokenizer=options.tokenizer_name, task=task_spec(name, **fields))


def model_spec(options: argparse.Namespace) -> ModelSpec:
    """The model's settings. Raises CheckpointError where --model-config is no JSON object."""
    from evalcore.models.plan import CheckpointError

    config = None
    if options.model_config is not None:
        try:
            with open(options.model_config, encoding="utf-8") as file:
                config = json.load(file)
        except (OSError, ValueError, RecursionError) as error:
            raise CheckpointError(
                "unsupported", f"--model-config {options.model_config} cannot be read: {error}"
            ) from None
        if not isinstance(config, dict):
            raise CheckpointError("unsupported", f"--model-config {options.model_config} holds no JSON object")
    return ModelSpec(options.model_factory, config, options.model_state, tuple(options.python_path))


def json_object(text: str) -> dict[str, Any]:
    """The `type` of a flag that takes a JSON object: argparse refuses anything else in one line."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text[:40]} is no JSON object; write '{{\"n_head\": 12}}'")
    return value


def _auto_or_number(text: str) -> int | None:
    return None if text == "auto" else int(text)
