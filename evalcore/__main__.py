"""The stand-alone command: `python -m evalcore`, or `torchrun ... -m evalcore`, with the flags of rosellm's eval.py.

Owns its flags, its lines and its exit status. The measuring is the code that the daemon's jobs run.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from typing import TYPE_CHECKING, Any

from evalcore.data_digest import FORMATS, TOKEN_DTYPES
from evalcore.tasks.spec import SCORINGS
from evalcore.worker.process_setup import die_with_parent, keep_freed_memory, share_the_cpu

if TYPE_CHECKING:
    from evalcore.loading.checkpoint import LoadedModel
    from evalcore.measure.evaluate import EvalResult
    from evalcore.measure.process_group import ProcessGroup
    from evalcore.messages import EvalSetSpec, ModelSpec
    from evalcore.tasks.evaluate_task import TaskResult

EXIT_USAGE, EXIT_NOT_FOUND, EXIT_FAILED, EXIT_ENVIRONMENT, EXIT_CHECKPOINT = 2, 4, 5, 7, 8


def main(arguments: list[str] | None = None) -> int:
    """Evaluate one checkpoint on one stream; print `avg_loss:` and `ppl:`, with --json one object as the last line."""
    share_the_cpu()
    keep_freed_memory()
    if "RANK" in os.environ:
        die_with_parent()
    options = parser().parse_args(arguments)
    if not options.data:
        missing = "--val-data" if options.data_mode == "text" else "--val-npy"
        return _fail(EXIT_USAGE, f"{missing} names no file", f"give {missing} FILE, or --data FILE")
    try:
        return _evaluate(options)
    except KeyboardInterrupt:
        return 130


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
    out.add_argument("--max-items", type=int, help="score only N items of a task")
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


def _evaluate(options: argparse.Namespace) -> int:
    from evalcore.measure.process_group import ProcessGroupBroken, start_process_group
    from evalcore.worker.failures import failure_of

    try:
        group = start_process_group(options.device, join_s=options.join_s)
    except (RuntimeError, ValueError) as error:
        hint = getattr(error, "hint", "give --device cpu, or check torchrun's environment: env | grep -E 'RANK|WORLD'")
        return _fail(EXIT_ENVIRONMENT, str(error), hint)
    try:
        return _measure(options, group)
    except ProcessGroupBroken as error:
        _fail(EXIT_ENVIRONMENT, str(error), "read the messages of the other ranks above")
        sys.stderr.flush()
        os._exit(EXIT_ENVIRONMENT)  # taking the group down in order would wait for the ranks that are gone
    except Exception as error:
        failure = failure_of(error, options.checkpoint_path)
        if failure[0] == "crash":
            raise
        return _report(failure, group)
    finally:
        group.close()


def _load_together(options: argparse.Namespace, group: ProcessGroup) -> tuple[LoadedModel | None, Any]:
    """The checkpoint, or any rank's failure, on every rank."""
    from evalcore.loading.checkpoint import load_checkpoint
    from evalcore.measure.scorer import linear_dtype
    from evalcore.worker.failures import failure_of, first_failure

    loaded, failure, unexpected = None, None, None
    try:
        loaded = load_checkpoint(
            options.checkpoint_path,
            spec=_model_spec(options),
            device=str(group.device),
            linear_dtype=linear_dtype([options.dtype], group.device),
        )
    except Exception as error:
        failure = failure_of(error, options.checkpoint_path)
        unexpected = error if failure[0] == "crash" else None
    failure = first_failure(group.gather(failure))
    if unexpected is not None:
        raise unexpected
    return loaded, failure


def _measure(options: argparse.Namespace, group: ProcessGroup) -> int:
    from evalcore.measure.evaluate import evaluate
    from evalcore.measure.selfcheck import selfcheck
    from evalcore.tasks.evaluate_task import evaluate_task
    from evalcore.tasks.prepare import PreparedTask
    from evalcore.tasks.selfcheck import task_selfcheck
    from evalcore.worker.evaluate_item import open_together

    try:
        eval_set = _eval_set(options)
    except ValueError as error:
        return _fail(EXIT_USAGE, str(error), None) if group.is_main else EXIT_USAGE
    data, failure = open_together(group, eval_set, options.cache_dir)
    if failure is not None or data is None:
        missing = not any(os.path.lexists(path) for path in options.data)
        return _report(failure, group, EXIT_NOT_FOUND if missing else EXIT_FAILED)
    loaded, failure = _load_together(options, group)
    if failure is not None or loaded is None:
        return _report(failure, group)
    settings: dict[str, Any] = {
        "seq_len": options.seq_len,
        "dtype": options.dtype,
        "context_length": loaded.context_length,
        "vocab_size": loaded.vocab_size,
        "group": group,
    }
    result: EvalResult | TaskResult
    if isinstance(data, PreparedTask):
        result = evaluate_task(loaded.model, data, batch_size=options.batch_size, **settings)
        check = task_selfcheck(loaded.model, data, result, **settings) if options.selfcheck else None
    else:
        settings["stride"] = options.stride
        result = evaluate(loaded.model, data, batch_size=options.batch_size, **settings)
        check = selfcheck(loaded.model, data, result, **settings) if options.selfcheck else None
    if group.is_main:
        _print(options, loaded, result, check.sentence if check else None)
    return EXIT_FAILED if check is not None and not check.ok else 0


def _eval_set(options: argparse.Namespace) -> EvalSetSpec:
    """The eval set that the flags describe. Raises ValueError for a task that cannot be measured."""
    from evalcore.messages import EvalSetSpec
    from evalcore.tasks.sniffing import sniff_task
    from evalcore.tasks.spec import task_spec

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
    fields = {"scoring": options.scoring, "shots": options.shots, "max_items": options.max_items}
    return EvalSetSpec("data", tuple(options.data), tokenizer=options.tokenizer_name, task=task_spec(name, **fields))


def _model_spec(options: argparse.Namespace) -> ModelSpec:
    """The model's settings. Raises CheckpointError where --model-config is no JSON object."""
    from evalcore.messages import ModelSpec
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


def _print(
    options: argparse.Namespace, loaded: LoadedModel, result: EvalResult | TaskResult, check: str | None
) -> None:
    fields = vars(result) | {"step": loaded.step, "checkpoint": options.checkpoint_path}
    windows = len(fields.get("window_nats", ()))
    logged = loaded.contradiction(result.loss, result.loss_stderr, windows) if "task" not in fields else None
    fields["note"] = "; ".join(filter(None, (*loaded.notes, result.note, check, logged))) or None
    shown = [
        "task",
        "items",
        "accuracy",
        "accuracy_norm",
        "accuracy_stderr",
        "ppl_item",
        "tokens",
        "bits_per_byte",
        "note",
    ]
    for name in shown:
        if fields.get(name) is not None:
            print(f"{name}: {fields[name]}")
    print(f"avg_loss: {result.loss}")
    if "task" not in fields:
        print(f"ppl: {'inf' if result.ppl is None else result.ppl}")
    if options.json:
        kept = {key: value for key, value in fields.items() if not key.startswith("window_") and key != "item_scores"}
        print(json.dumps({key: _plain(value) for key, value in kept.items()}, allow_nan=False))


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _report(failure: Any, group: ProcessGroup, status: int | None = None) -> int:
    """Print the failure once; the exit status follows from its kind: data, memory 5; gone 4; the checkpoint's own 8."""
    kind, reason, hint = failure
    if status is None:
        status = {
            "vanished": EXIT_NOT_FOUND,
            "data": EXIT_FAILED,
            "oom": EXIT_FAILED,
            "protocol": EXIT_ENVIRONMENT,
        }.get(kind, EXIT_CHECKPOINT)
    return _fail(status, f"{kind}: {reason}", hint) if group.is_main else status


def _fail(status: int, reason: str, hint: str | None) -> int:
    print(f"evalcore: {reason}" + (f"\n  hint: {hint}" if hint else ""), file=sys.stderr)
    return status


def _auto_or_number(text: str) -> int | None:
    return None if text == "auto" else int(text)


if __name__ == "__main__":
    sys.exit(main())
