"""The model's configuration in a file beside the checkpoint, and whether other files beside it agree.

Owns the choice among several. A second file that differs in what tensors do not show is always noted or refused.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from evalcore.archive.errors import shown
from evalcore.archive.meaning.config import FoundConfig, config_in, values_digest
from evalcore.archive.meaning.fields import SIZES, architecture_in, size_values, sizes_in
from evalcore.archive.meaning.sidecars import OF_THE_MODEL, Sidecar

_LISTED = 3


def config_beside(sidecars: list[Sidecar]) -> FoundConfig | None:
    """The model's configuration in the first of the files that has one.

    Its `conflict` says where a second file of the folder has other heads or another architecture, its `notes` where a
    second file differs otherwise, or where the first is the checkpoint's own (meta_N.json) and so has precedence.
    """
    found = [(sidecar, config) for sidecar in sidecars if (config := config_in({"config": sidecar.values}, alone=True))]
    if not found:
        return None
    (sidecar, first), others = found[0], found[1:]
    first = replace(first, values={**_training_length(sidecar.values, first.values), **first.values})
    own = sidecar.name not in OF_THE_MODEL
    notes: list[str] = []
    conflict: str | None = None
    decides: tuple[str, ...] = ()
    for other, config in others:
        hidden, seen = _differences(first, config)
        if hidden and not own and conflict is None:
            conflict = f"{_listed(hidden)} ({sidecar.name}, {other.name})"
            decides = tuple(hidden)
        elif hidden or seen:
            what = _listed({**hidden, **seen})
            notes.append(f"{sidecar.name} is used, {other.name} differs: {what}")
    digest = values_digest(first.values)
    return replace(
        first, source=f"sidecar:{sidecar.name}", sidecar=(sidecar.name, digest), notes=(*first.notes, *notes),
        conflict=first.conflict or conflict, decides=first.decides or decides,
    )  # fmt: skip


def _training_length(whole: dict[str, Any], model: dict[str, Any]) -> dict[str, Any]:
    """OLMo-core keeps the length of its training sequences outside the model, which has no bound of its own."""
    if not {"block", "lm_head"} <= model.keys() or "context" in sizes_in(model):
        return {}
    for part, name in (("train_module", "max_sequence_length"), ("dataset", "sequence_length")):
        values = whole.get(part)
        if isinstance(values, dict) and type(values.get(name)) is int:
            return {"max_sequence_length": values[name]}
    return {}


def _differences(a: FoundConfig, b: FoundConfig) -> tuple[dict[str, str], dict[str, str]]:
    """(what tensors do not show, what they do show): name of the field -> both values as text."""
    hidden: dict[str, str] = {}
    seen: dict[str, str] = {}
    sizes, theirs = size_values(a.values), size_values(b.values)
    if len(theirs) < 3:  # no configuration of a whole model
        return hidden, seen
    for size in sizes.keys() & theirs.keys():
        if sizes[size] != theirs[size]:
            name = next(name for name in SIZES[size] if a.values.get(name) is not None)
            (hidden if size == "heads" else seen)[name] = f"{sizes[size]} and {theirs[size]}"
    ours, other = architecture_in(a.values), architecture_in(b.values)
    for name in ours.keys() & other.keys():
        if ours[name] != other[name]:
            hidden[name] = f"{ours[name]} and {other[name]}"
    return dict(sorted(hidden.items())), dict(sorted(seen.items()))


def _listed(differences: dict[str, str]) -> str:
    items = [f"{shown(name, 40)} = {shown(values, 80)}" for name, values in differences.items()]
    return ", ".join(items[:_LISTED]) + (f" and {len(items) - _LISTED} more" if len(items) > _LISTED else "")
