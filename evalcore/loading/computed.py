"""Tensors of a file that a model computes and does not learn: causal masks and rotary tables.

Owns the comparison with what the built-in model computes. A mask or a table that says otherwise belongs to another
model, and the file is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from evalcore.archive.meaning.state_dicts import is_derived
from evalcore.archive.pickle.values import TensorRef
from evalcore.loading.weights import Records, bytes_of, view_of
from evalcore.models.plan import CheckpointError

_MASKS = (".attn.bias", ".attention.bias", ".attn.mask", ".att.mask")
_FREQUENCIES = ".rotary_emb.inv_freq"
_TABLES = ("freqs_cos", "freqs_sin", "freqs_cis")
_READ_MAX_BYTES = 1 << 30
#: positions of a table that are compared: angles of far ones differ by more than rounding between implementations
_POSITIONS = 256
#: of values that may be stored in bfloat16
_TOLERANCE = 0.02


@runtime_checkable
class Rotating(Protocol):
    """A model with rotary positions."""

    def frequencies(self) -> list[Tensor]:
        """Angular frequencies (width / 2) of each kind of its layers, scaled, and of the unscaled base."""


def is_computed(name: str, tensor: TensorRef, model: nn.Module) -> bool:
    """Whether the tensor is a mask or a table that such a model may have; a vector named like a mask is a bias."""
    if name.endswith((_FREQUENCIES, *_TABLES)):
        return isinstance(model, Rotating)
    return is_derived(name) and not (name.endswith((".attn.bias", ".attention.bias")) and len(tensor.shape) == 1)


def demand_as_computed(records: Records, state: Mapping[str, TensorRef], used: set[str], model: nn.Module) -> int:
    """Read the masks and tables among the tensors that are not in `used`; the bytes read.

    Raises CheckpointError where one is not what the model computes, ArchiveError.
    """
    read_bytes, raw = 0, torch.empty(0, dtype=torch.uint8)
    held: str | None = None  # key of the storage in `raw`
    for name, ref in state.items():
        is_mask = name.endswith(_MASKS) and len(ref.shape) >= 2 and ref.shape[-1] == ref.shape[-2]
        is_table = name.endswith((_FREQUENCIES, *_TABLES)) and isinstance(model, Rotating)
        if name in used or not (is_mask or is_table) or not 0 < ref.storage.size_bytes <= _READ_MAX_BYTES:
            continue
        if ref.storage.key != held:  # the masks of all layers may be views of one storage
            raw, held = torch.empty(ref.storage.size_bytes, dtype=torch.uint8), ref.storage.key
            records.read(ref.storage, bytes_of(raw))
            read_bytes += raw.numel()
        values = view_of(raw, ref)
        if is_mask:
            _demand_causal(name, values)
        elif isinstance(model, Rotating):
            _demand_frequencies(name, values, model.frequencies())
    return read_bytes


def _demand_causal(name: str, mask: Tensor) -> None:
    """mask (..., T, T): either what may be seen is not zero, or what may not."""
    marked = mask.reshape(-1, *mask.shape[-2:]).ne(0)
    lower = torch.ones(marked.shape[-2:], dtype=torch.bool).tril()
    if all(torch.equal(one, lower) or torch.equal(one, ~lower) for one in marked):
        return
    one = ~marked[0] if not marked[0].diagonal().any() else marked[0]  # a token always sees itself
    width = int(one[-1].sum())
    what = "lets tokens see later ones" if one.triu(1).any() else f"lets the last token see {width} of {len(one)}"
    reason = f"{name} is no plain causal mask: it {what}, as in windowed or other attention"
    raise CheckpointError("unsupported", reason, "set model.factory to a function that builds the model")


def _demand_frequencies(name: str, table: Tensor, frequencies: list[Tensor]) -> None:
    """table: the frequencies themselves, or their cosines, sines or complex exponentials (T, width / 2)."""
    if name.endswith(_FREQUENCIES):
        value = table.float().flatten()
        fitting = [one for one in frequencies if one.shape == value.shape]
        # the frequencies of large bases lie among float16's subnormal numbers, which are this far apart
        step = 2.0**-24 if table.dtype == torch.float16 else 0.0
        is_right = any(torch.allclose(value, one, rtol=_TOLERANCE, atol=step) for one in fitting)
    else:
        value = table[:_POSITIONS]
        value = (value.imag if name.endswith("freqs_sin") else value.real) if value.is_complex() else value.float()
        of = torch.sin if name.endswith("freqs_sin") else torch.cos
        places = torch.arange(len(value), dtype=torch.float32)
        fitting = [one for one in frequencies if (len(value), *one.shape) == value.shape]
        is_right = any(torch.allclose(value, of(torch.outer(places, f)), atol=_TOLERANCE) for f in fitting)
    if fitting and not is_right:
        reason = f"{name} holds other rotary positions than the configuration gives{_base(name, table)}"
        hint = "correct rope_theta through [model] config or --model-config FILE, or set model.factory"
        raise CheckpointError("unsupported", reason, hint)


def _base(name: str, table: Tensor) -> str:
    """The base that inverse frequencies show, where they are those of one base."""
    values = table.double().flatten() if name.endswith(_FREQUENCIES) else torch.empty(0)
    if len(values) < 2 or values[0] != 1:
        return ""
    places = torch.arange(1, len(values)) / len(values)
    bases = values[1:] ** (-1 / places)
    return f": they fit rope_theta = {float(bases[-1]):.6g}" if torch.allclose(bases, bases[-1], rtol=0.05) else ""
