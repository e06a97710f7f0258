"""How far training was, as the checkpoint's own keys tell: step, logged loss, tokens seen. Never reads file names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from evalcore.archive.pickle.values import InertObject

_STEP_KEYS = (
    "step", "iter_num", "iteration", "global_step", "global_steps", "step_count", "train_state.step",
    "meta.step", "trainer_state.global_step", "steps_run", "train_step", "it", "extra.step",
    "current_step", "current_iter", "cur_step", "cur_iter", "iter_idx", "training_step", "optimizer_step", "opt_step",
    "update_step", "state.step", "state.global_step", "train_state.global_step", "training_state.step",
    "training_state.global_step", "progress.step", "metadata.step", "info.step", "trainer.global_step",
    "extra.iter_num", "meta.iter_num", "checkpoint.step", "checkpoint.global_step", "checkpoint.iter_num",
)  # fmt: skip
#: hold the step in some trainers and the planned number of steps in others: used where there is no other key
_PLANNED_KEYS = ("iter", "steps", "num_steps")
#: name one count in a payload: two that differ contradict each other
_ONE_COUNT = (
    "step", "global_step", "global_steps", "iteration", "iter_num", "training_step", "train_step", "current_step",
)  # fmt: skip
_FIRST_FOR = {
    "litgpt": "step_count", "nanogpt": "iter_num", "lightning": "global_step", "megatron": "iteration",
    "composer": "state.timestamp.Timestamp.batch",
}  # fmt: skip
_LOSS_KEYS = ("val_loss", "valid_loss", "validation_loss", "eval_loss", "logged_val_loss", "extra.val_loss")
_TOKEN_KEYS = (
    "tokens_seen", "total_tokens", "num_tokens", "tokens_processed", "consumed_tokens", "tokens", "extra.tokens_seen",
)  # fmt: skip
#: what a best loss is before the first validation (nanoGPT: 1e9); a mean of nats per token is far below
_MAX_LOSS = 1e6
Resolve = Callable[[Any], Any]


def step_in(values: Any, trainer: str | None, resolve: Resolve, *, planned: bool = True) -> tuple[int, str] | None:
    """(step, key) by the first of the usual keys that holds a whole number at or above 0.

    resolve: tensor or array of one element -> number. planned: whether keys count that often hold a planned total.
    """
    first = _FIRST_FOR.get(trainer or "")
    for key in ((first,) if first else ()) + _STEP_KEYS + (_PLANNED_KEYS if planned else ()):
        number = _whole(resolve(_at(values, key)))
        if number is not None:
            return number, key
    return None


def contradictions_in(values: Any, trainer: str | None, resolve: Resolve) -> list[str]:
    """A sentence for a count of the payload that differs from the one that is taken for the step."""
    taken = step_in(values, trainer, resolve, planned=False)
    if taken is None or taken[1] not in _ONE_COUNT or not isinstance(values, dict):
        return []
    others = {key: number for key in _ONE_COUNT if (number := _whole(resolve(values.get(key)))) is not None}
    differing = [f"{key} = {number}" for key, number in others.items() if number != taken[0]]
    return [f"step {taken[0]} by {taken[1]}, but the file also has {', '.join(differing)}"] if differing else []


def logged_val_loss_in(values: Any, trainer: str | None, resolve: Resolve) -> float | None:
    """The validation loss that the trainer wrote into the file; nanoGPT's is its best so far."""
    for key in _LOSS_KEYS + (("best_val_loss",) if trainer in ("nanogpt", "llama2c") else ()):
        value = resolve(_at(values, key))
        if type(value) in (int, float) and (value != value or abs(value) < _MAX_LOSS):
            return float(value)
    return None


def tokens_seen_in(values: Any, resolve: Resolve) -> int | None:
    """Tokens trained on, where the file says so."""
    for key in _TOKEN_KEYS:
        number = _whole(resolve(_at(values, key)))
        if number is not None:
            return number
    return None


def _at(values: Any, dotted: str) -> Any:
    for key in dotted.split("."):
        if isinstance(values, InertObject):
            values = values.fields()
        values = values.get(key) if isinstance(values, dict) else None
    return values


def _whole(value: Any) -> int | None:
    if isinstance(value, str) and len(value) < 20 and value.isascii() and value.isdecimal():
        value = int(value)
    if type(value) is float and value.is_integer() and abs(value) < 1 << 53:
        value = int(value)
    return value if type(value) is int and 0 <= value < 1 << 63 else None
