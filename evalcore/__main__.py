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

from evalcore.command_flags import eval_sets, model_spec, parser
from evalcore.tasks.suite_mean import above_chance, error_of_mean, mean_of
from evalcore.worker.process_setup import die_with_parent, keep_freed_memory, share_the_cpu, uncollected

if TYPE_CHECKING:
    from evalcore.loading.checkpoint import LoadedModel
    from evalcore.measure.evaluate import EvalResult
    from evalcore.measure.process_group import ProcessGroup
    from evalcore.tasks.evaluate_task import TaskResult

EXIT_USAGE, EXIT_NOT_FOUND, EXIT_FAILED, EXIT_ENVIRONMENT, EXIT_CHECKPOINT = 2, 4, 5, 7, 8


def main(arguments: list[str] | None = None) -> int:
    """Evaluate one checkpoint on one stream; print `avg_loss:` and `ppl:`, with --json one object as the last line."""
    share_the_cpu()
    keep_freed_memory()
    if "RANK" in os.environ:
        die_with_parent()
    options = parser().parse_args(arguments)
    if not options.data and options.suite is None:
        missing = "--val-data" if options.data_mode == "text" else "--val-npy"
        return _fail(EXIT_USAGE, f"{missing} names no file", f"give {missing} FILE, or --data FILE")
    if options.suite is not None and not os.path.isdir(options.suite):
        return _fail(EXIT_NOT_FOUND, f"there is no folder {options.suite}", "give --suite a folder with core.yaml")
    try:
        return _evaluate(options)
    except KeyboardInterrupt:
        return 130


def _evaluate(options: argparse.Namespace) -> int:
    with uncollected():
        import evalcore.worker.evaluate_item  # noqa: F401  # torch and all else that is imported further down
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
            spec=model_spec(options),
            device=str(group.device),
            linear_dtype=linear_dtype([options.dtype], group.device),
            wants_content=False,
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
    from evalcore.worker.own_tokenizer import folder_beside, with_own_tokenizer

    try:
        described = [with_own_tokenizer(one, folder_beside(options.checkpoint_path)) for one in eval_sets(options)]
    except ValueError as error:
        return _fail(EXIT_USAGE, str(error), None) if group.is_main else EXIT_USAGE
    opened = []
    for eval_set in described:
        data, failure = open_together(group, eval_set, options.cache_dir)
        if failure is not None or data is None:
            missing = not any(os.path.lexists(path) for path in eval_set.paths)
            return _report(failure, group, EXIT_NOT_FOUND if missing else EXIT_FAILED)
        opened.append(data)
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
    results, is_right = [], True
    for data in opened:
        result: EvalResult | TaskResult
        if isinstance(data, PreparedTask):
            result = evaluate_task(loaded.model, data, batch_size=options.batch_size, **settings)
            check = task_selfcheck(loaded.model, data, result, **settings) if options.selfcheck else None
        else:
            stream = {**settings, "stride": options.stride}
            result = evaluate(loaded.model, data, batch_size=options.batch_size, **stream)
            check = selfcheck(loaded.model, data, result, **stream) if options.selfcheck else None
        is_right = is_right and (check is None or check.ok)
        if group.is_main:
            results.append(_print(options, loaded, result, check.sentence if check else None))
    if group.is_main:
        _print_json(options, results)
    return 0 if is_right else EXIT_FAILED


def _print(
    options: argparse.Namespace, loaded: LoadedModel, result: EvalResult | TaskResult, check: str | None
) -> dict[str, Any]:
    """Print one result in lines; its fields."""
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
    behind = ("window_nats", "window_targets", "position_nats", "position_targets", "spikes", "item_scores")
    kept = {key: value for key, value in fields.items() if key not in behind}
    return {key: _plain(value) for key, value in kept.items()}


def _print_json(options: argparse.Namespace, results: list[dict[str, Any]]) -> None:
    """The mean of a suite, and one JSON object where it is asked for."""
    if options.suite is None:
        answer = results[0]
    else:
        for row in results:
            row["accuracy_centered"] = above_chance(row["accuracy"], row["random_baseline"])
        errors = [above_chance(row["accuracy_stderr"], row["random_baseline"], is_error=True) for row in results]
        mean, stderr = mean_of([row["accuracy_centered"] for row in results]), error_of_mean(errors)
        suite = os.path.basename(os.path.abspath(options.suite))
        answer = {"suite": suite, "value": mean, "stderr": stderr, "members": len(results), "tasks": results}
        print(f"suite: {suite}\naccuracy_centered: {mean}\naccuracy_centered_stderr: {stderr}")
    if options.json:
        print(json.dumps(answer, allow_nan=False))


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


if __name__ == "__main__":
    sys.exit(main())
