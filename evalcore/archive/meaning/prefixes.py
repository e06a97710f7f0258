"""Models inside a state dict: an attribute's prefix (`model.`, `model.gpt.`), a second copy (EMA), metrics beside them.

Owns which tensors belong to which model. A tensor that may be a part of the model is never dropped.
"""

from __future__ import annotations

import re

from evalcore.archive.meaning.state_dicts import MODEL_KEYS, State
from evalcore.archive.pickle.values import TensorRef

#: the token embedding of every family that is known: what stands before it is the prefix
_EMBEDDING = re.compile(
    r"^((?:[^.]+\.)*?)"
    r"(?:transformer\.wte|model\.embed_tokens|token_embedding|tok_embeddings|tok_emb|embed_tokens|wte)\.weight$"
)
_COPY = re.compile(
    r"(?:^|[^a-z])(?:ema|shadow|swa|avg|average|averaged|teacher|target|reference|ref|old|frozen|momentum|velocity|"
    r"grads?|gradients?|init|initial|prev|previous|polyak|draft|exp_avg(?:_sq)?)(?:$|[^a-z])",
    re.IGNORECASE,
)
#: tensors with the names and shapes of weights that are none; a momentum encoder (MoCo) and a DeltaNet are models
_NO_WEIGHTS = re.compile(
    r"(?:^|[^a-z])(?:grads?|gradients?|momentum(?![_.-]?(?:encoder|model|net))|velocity|exp_avg(?:_sq)?|fisher|hessian|"
    r"deltas?(?![_.-]?net)|diffs?|task_vectors?|masks?)(?:$|[^a-z])",
    re.IGNORECASE,
)
#: counters and sums of metrics: no model multiplies by them
_METRIC = re.compile(
    r"(?:^|[._])(?:metrics?|acc|accuracy|loss|ppl|perplexity|total|count|counts|n_averaged|num_\w+|correct|confmat|auroc|"
    r"f1|bpb|criterion|mean_value|sum|steps?)(?:$|[._])",
    re.IGNORECASE,
)


def models_in(states: dict[str, State]) -> dict[str, State]:
    """The states, each model under a prefix as a state of its own: `state_dict`, then `state_dict.ema_model`."""
    separated: dict[str, State] = {}
    for name, state in states.items():
        separated.update(_separated(name, state))
    return separated


def likeliest_first(states: dict[str, State]) -> dict[str, State]:
    """The usual names first, copies (EMA) last; between names that say nothing, models that are known first."""

    def order(name: str) -> tuple[bool, bool, bool]:
        usual = name.rpartition(".")[2] in MODEL_KEYS
        return is_copy(name), not usual, not usual and not has_known_names(states[name])

    return {name: states[name] for name in sorted(states, key=order)}


def is_copy(name: str) -> bool:
    """Whether a state dict's name says that it is no trained model itself: an average, a teacher, a reference."""
    return bool(_COPY.search(name))


def holds_no_weights(name: str) -> bool:
    """Whether a state dict's name says that its tensors are no weights: gradients, moments, differences."""
    return bool(_NO_WEIGHTS.search(name))


def has_known_names(state: State) -> bool:
    return any(_EMBEDDING.match(key) for key in state.tensors)


def _separated(name: str, state: State) -> dict[str, State]:
    prefixes = {match[1] for key in state.tensors if (match := _EMBEDDING.match(key))}
    # `model.transformer.wte` within `model.`: the longer prefix is a part of the shorter one's model
    prefixes = {p for p in prefixes if not any(p != q and q and p.startswith(q) for q in prefixes)}
    if not prefixes or prefixes == {""}:
        return {name: state}
    parts = {
        prefix: {key[len(prefix) :]: tensor for key, tensor in state.tensors.items() if key.startswith(prefix)}
        for prefix in prefixes
        if prefix
    }
    rest = {key: tensor for key, tensor in state.tensors.items() if not key.startswith(tuple(p for p in prefixes if p))}
    if "" in prefixes:
        parts[""] = rest
        rest = {}
    ordered = sorted(parts, key=lambda prefix: (bool(_COPY.search(prefix)), prefix))
    kept, aside = _split_rest(rest)
    out: dict[str, State] = {}
    for prefix in ordered:
        first = prefix == ordered[0]
        is_usual = first and not _COPY.search(prefix)
        label = name if is_usual else ".".join(filter(None, (name, prefix.rstrip("."))))
        tensors = {**parts[prefix], **kept} if first else parts[prefix]
        whole = state.tensors if first and len(tensors) < len(state.tensors) else None
        out[label] = State(label, tensors, state.others, aside if first else (), whole)
    return out


def _split_rest(rest: dict[str, TensorRef]) -> tuple[dict[str, TensorRef], tuple[str, ...]]:
    """What stands beside the models: (what may belong to the first, the names of metrics that are left aside)."""
    with_matrices = {key.partition(".")[0] for key, tensor in rest.items() if len(tensor.shape) > 1}
    aside = tuple(
        key
        for key, tensor in rest.items()
        if key.partition(".")[0] not in with_matrices and (_METRIC.search(key) or _is_counter(tensor))
    )
    return {key: tensor for key, tensor in rest.items() if key not in aside}, aside


def _is_counter(tensor: TensorRef) -> bool:
    """Whether it is one whole number or truth value, such as `initted` of an averaged model: no learned parameter."""
    return tensor.numel == 1 and not tensor.dtype.startswith(("float", "bfloat", "complex"))
