"""minimind's files: half-precision state dicts without a configuration, which the shapes give but for constants.

Source: jingyaogong/minimind model/model_minimind.py. Norms of queries and keys show the width of a head, and so the
number of heads. The constants, which archive/meaning/family.py assumes with a note, are also those of Qwen3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evalcore.models import hf_llama
from evalcore.models.facts import Facts, Proof
from evalcore.models.plan import CheckpointError, Plan, Shaped, matrix_shape
from evalcore.models.values import flag

FACTS = Facts(
    "minimind",
    "transformers' names of Llama with `self_attn.q_norm` over each head, and no model_type",
    "none in the file: sizes from the shapes",
    "`step` in `*_resume.pth`, else the file name's",
    "grouped keys, norms of queries and keys, tied or separate head; rope_theta 1e6, rms_norm_eps 1e-6 and 32,768"
    " positions are assumed, with a note; experts are refused",
    (Proof("jingyaogong/minimind", "d65ef2c", "8 and 6 heads, half precision", 2.7e-9),),
)


def plan(config: Mapping[str, Any], state: Mapping[str, Shaped]) -> Plan:
    """config: MiniMindConfig's fields, where there are any; they are checked against the shapes."""
    if flag(config, "use_moe", False):
        hint = "set model.factory to a function that builds the model"
        raise CheckpointError("unsupported", "a minimind model with experts (use_moe)", hint)
    prefix = "" if "embed_tokens.weight" in state else "model."
    first = f"{prefix}layers.0"
    rows, width = matrix_shape(state, f"{prefix}embed_tokens.weight")
    norm = state.get(f"{first}.self_attn.q_norm.weight")
    head_width = norm.shape[0] if norm is not None and len(norm.shape) == 1 else 0
    queries, keys = (matrix_shape(state, f"{first}.self_attn.{n}_proj.weight")[0] for n in "qk")
    if not head_width or queries % head_width or keys % head_width:
        raise CheckpointError("shape", f"heads of {head_width} elements do not fit {queries} rows of queries")
    shown = {
        "vocab_size": rows, "hidden_size": width, "head_dim": head_width, "num_attention_heads": queries // head_width,
        "num_key_value_heads": keys // head_width,
        "intermediate_size": matrix_shape(state, f"{first}.mlp.gate_proj.weight")[0],
        "num_hidden_layers": len({key.split(".layers.")[-1].split(".")[0] for key in state if "layers." in key}),
    }  # fmt: skip
    for name, value in shown.items():
        if config.get(name) not in (None, value):
            reason = f"config.{name} is {config[name]}; by the shapes it is {value}"
            raise CheckpointError("shape", reason, "check that the configuration belongs to this checkpoint")
    scaling = {"rope_scaling": None} if not flag(config, "inference_rope_scaling", False) else {}
    return hf_llama.plan({**config, **shown, **scaling}, state, family="minimind")
