"""From a plan to a filled model: every name, shape and dtype is checked on meta before anything is allocated."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TypeGuard

import torch
from torch import nn

from evalcore.archive.pickle.values import TensorRef
from evalcore.loading.computed import demand_as_computed, is_computed
from evalcore.loading.model import LoadedModel
from evalcore.loading.weights import Records, Target, fill
from evalcore.models.decoder import allocated, on_meta
from evalcore.models.linear import linear_layers
from evalcore.models.plan import CheckpointError, Plan

_FLOATS = ("float32", "float16", "bfloat16", "float64", "float8_e4m3fn", "float8_e5m2")


def build_and_fill(
    plan: Plan,
    state: Mapping[str, TensorRef],
    records: Records,
    device: str,
    reuse: LoadedModel | None,
    file_bytes: int,
    linear_dtype: torch.dtype = torch.float32,
) -> tuple[nn.Module, int]:
    """Check every shape against a model on meta, then allocate (or take over `reuse`) and fill; bytes read.

    linear_dtype: of the weights of linear layers but the head's; all else is float32.
    """
    meta_model = on_meta(plan.build)
    expected = dict(meta_model.named_parameters())
    check_against(plan, {name: tuple(p.shape) for name, p in expected.items()}, state, meta_model)
    needed = {source.key: state[source.key] for source in plan.weights.values()}
    _demand_floats(needed)
    demand_size(needed, file_bytes)
    lower(meta_model, linear_dtype)
    model = reuse.model if _refillable(reuse, plan, device, meta_model) else allocated(meta_model, device)
    targets = [
        Target(state[plan.weights[name].key], parameter, plan.weights[name].transposed)
        for name, parameter in model.named_parameters()
    ]
    read_bytes = fill(records, targets) + demand_as_computed(records, state, needed.keys() | {plan.tied_head}, model)
    _demand_tied(plan, model)
    return model, read_bytes


def _demand_tied(plan: Plan, model: nn.Module) -> None:
    """Raise CheckpointError where the configuration says that the head is the embedding, and the file's differs."""
    if plan.says_tied is None or torch.equal(model.output.weight, model.tokens.weight):  # type: ignore[union-attr, arg-type]
        return
    reason = f"config.{plan.says_tied} is true, but {plan.tied_head} differs from the token embedding"
    hint = f"say {plan.says_tied} = false in [model] config to evaluate with the file's head, or set model.factory"
    raise CheckpointError("unsupported", reason, hint)


def lower(meta_model: nn.Module, dtype: torch.dtype) -> None:
    """Give the weights of linear layers the dtype, a weight that several layers share once."""
    lowered: dict[int, nn.Parameter] = {}
    for layer in linear_layers(meta_model) if dtype != torch.float32 else ():
        weight = layer.weight
        if id(weight) not in lowered:
            lowered[id(weight)] = nn.Parameter(torch.empty(weight.shape, dtype=dtype, device="meta"))
        layer.weight = lowered[id(weight)]


def _refillable(reuse: LoadedModel | None, plan: Plan, device: str, meta_model: nn.Module) -> TypeGuard[LoadedModel]:
    """Builds are partials of a class and its frozen sizes: equal ones make interchangeable models."""
    before = reuse.plan.build if reuse is not None and reuse.plan is not None else None
    if reuse is None or not isinstance(before, partial) or not isinstance(plan.build, partial):
        return False
    same = (before.func, before.args) == (plan.build.func, plan.build.args)
    same = same and [p.dtype for p in reuse.model.parameters()] == [p.dtype for p in meta_model.parameters()]
    return same and next(reuse.model.parameters()).device.type == torch.device(device).type


def check_against(
    plan: Plan, expected: dict[str, tuple[int, ...]], state: Mapping[str, TensorRef], model: nn.Module
) -> None:
    """Names and shapes of the file against the model's. Raises CheckpointError `shape` listing up to five of each."""
    missing = [source.key for source in plan.weights.values() if source.key not in state]
    used = {source.key for source in plan.weights.values()} | {plan.tied_head}
    extra = [key for key in state if key not in used and not is_computed(key, state[key], model)]
    wrong = []
    for name, source in plan.weights.items():
        if source.key in state:
            shape = tuple(state[source.key].shape)
            needed = expected[name][::-1] if source.transposed else expected[name]
            if shape != needed:
                wrong.append(f"{source.key} {list(shape)} instead of {list(needed)}")
    problems = [(missing, "missing"), (extra, "unknown"), (wrong, "of the wrong shape")]
    faults = [
        f"{len(names)} {what}: {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}"
        for names, what in problems
        if names
    ]
    if faults:
        reason = f"the state dict does not fit a {plan.family} model of its configuration; " + "; ".join(faults)
        hint = "check that the configuration belongs to this checkpoint"
        if extra:
            hint += f"; a model with parts that {plan.family} does not have needs model.factory"
        raise CheckpointError("shape", reason, hint)


def _demand_floats(state: Mapping[str, TensorRef]) -> None:
    for name, tensor in state.items():
        if tensor.dtype not in _FLOATS:
            hint = "give the checkpoint before quantisation, or model.factory"
            raise CheckpointError(
                "unsupported", f"{name} holds {tensor.dtype} values, not floating-point weights", hint
            )


def demand_size(state: Mapping[str, TensorRef], file_bytes: int) -> None:
    """No allocation beyond what the file can hold: a stride of 0 makes any size out of one number."""
    unique = {(t.storage.key, t.offset, t.shape, t.stride): t for t in state.values()}
    described = sum(tensor.size_bytes for tensor in unique.values())
    if described > 4 * file_bytes + (64 << 20):
        reason = f"its tensors describe {described} bytes, and the file has {file_bytes}"
        raise CheckpointError("shape", reason, "save the tensors themselves, not views expanded from a single number")
