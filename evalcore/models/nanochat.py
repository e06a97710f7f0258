"""nanochat's GPT: queries and keys normed after their rotation, squared ReLU, capped logits, additions by version.

Sources: karpathy/nanochat nanochat/gpt.py, at the commits that VERSIONS names. Which version a file has is decided by
its keys; constants of the forward pass stand in neither keys nor meta_N.json, so each version owns its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evalcore.models.attention import Branches, attend
from evalcore.models.decoder import Table, block_names
from evalcore.models.facts import Facts, Proof
from evalcore.models.linear import squared_relu
from evalcore.models.llama import capped
from evalcore.models.plan import (
    CheckpointError,
    From,
    Plan,
    Shaped,
    demand_layers,
    demand_shape,
    heads_of,
    matrix_shape,
)
from evalcore.models.rotary import Rotary, rotate_halves
from evalcore.models.values import number, unknown_notes, whole

_EMBEDDING, _HEAD = "transformer.wte.weight", "lm_head.weight"
_KNOWN = (
    "sequence_len", "vocab_size", "n_layer", "n_head", "n_kv_head", "n_embd", "window_pattern", "logit_cap", "family",
)  # fmt: skip
_PADDED_TO = 64
_EPSILON = torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class Version:
    """Constants of one span of nanochat's history.

    gate: factor on the sigmoid of a value gate. sharpness: factor on queries and keys. short: a short window's length
    is the sequence length divided by it, rounded up to `rounded_to`. rough_tables: rotary tables rounded to bfloat16.
    """

    name: str
    theta: float = 1e4
    sharpness: float = 1.0
    gate: float = 2.0
    short: int = 2
    rounded_to: int = 1
    rough_tables: bool = True
    cap: float | None = 15.0


FIRST = Version("3a5e0bc (2025-10-13), without residual lambdas")
LAMBDAS = Version("aa530cd (2026-01-11), with residual lambdas")
VALUES = Version("e85db6b (2026-01-16), with value embeddings and gates of 32 channels", cap=None)
TUNED = Version(
    "6ed7d1d (2026-03-09), with gates of 12 channels", 1e5, 1.15, 3.0, 3, 128, rough_tables=False
)  # fmt: skip
SMEARED = Version("a825e63 (2026-03-14), with smear and backout", 1e5, 1.2, 3.0, 4, 128, rough_tables=False)


@dataclass(frozen=True)
class NanochatShape:
    """rows: of the embedding, padded. windows: keys that each layer sees. values: layers with value embeddings.

    gate_channels: how many elements of a layer's input its gate reads. lambdas, smear: whether the file has them.
    """

    rows: int
    vocab_size: int
    positions: int
    layers: int
    heads: int
    kv_heads: int
    width: int
    windows: tuple[int, ...]
    values: tuple[int, ...]
    gate_channels: int
    lambdas: bool
    smear: bool
    logit_cap: float
    version: Version


class NanochatBlock(nn.Module):
    def __init__(self, shape: NanochatShape, layer: int) -> None:
        super().__init__()
        self.shape, self.window = shape, shape.windows[layer]
        self.head_width = shape.width // shape.heads
        keys = shape.kv_heads * self.head_width
        self.q = nn.Linear(shape.width, shape.width, bias=False)
        self.k, self.v = (nn.Linear(shape.width, keys, bias=False) for _ in range(2))
        self.out = nn.Linear(shape.width, shape.width, bias=False)
        self.up = nn.Linear(shape.width, 4 * shape.width, bias=False)
        self.down = nn.Linear(4 * shape.width, shape.width, bias=False)
        if layer in shape.values:
            self.values = Table(shape.rows, keys)
            self.gate = nn.Linear(shape.gate_channels, shape.kv_heads, bias=False)

    def forward(
        self, x: Tensor, tokens: Tensor, tables: tuple[Tensor, Tensor], branches: Branches | None = None
    ) -> Tensor:
        x = x + self.attention(normed(x), tokens, tables, branches)
        return x + self.down(squared_relu(self.up(normed(x))))

    def attention(self, x: Tensor, tokens: Tensor, tables: tuple[Tensor, Tensor], branches: Branches | None) -> Tensor:
        """x (B, T, D), its tokens (B, T) -> (B, T, D)."""
        version = self.shape.version
        q, k, v = (f(x).unflatten(-1, (-1, self.head_width)) for f in (self.q, self.k, self.v))  # (B, T, H, Dh)
        if hasattr(self, "values"):
            gate = version.gate * torch.sigmoid(self.gate(x[..., : self.shape.gate_channels]))  # (B, T, Hk)
            v = (v + gate[..., None] * self.values(tokens).unflatten(-1, (-1, self.head_width))).to(v.dtype)
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        # it turns by the negative angle
        q, k = (normed(rotate_halves(t, tables[0], -tables[1])) * version.sharpness for t in (q, k))
        return self.out(attend(q, k, v, window=self.window, branches=branches).transpose(1, 2).flatten(-2))


class Nanochat(nn.Module):
    """tokens (B, T) -> hidden states (B, T, D); the head's weight stands apart, its logits bounded by `logit_cap`."""

    stateless = True
    takes_branches = True

    def __init__(self, shape: NanochatShape) -> None:
        super().__init__()
        self.shape = shape
        self.vocab_size, self.context_length, self.logit_cap = shape.vocab_size, shape.positions, shape.logit_cap
        self.tokens = Table(shape.rows, shape.width)
        self.blocks = nn.ModuleList(NanochatBlock(shape, layer) for layer in range(shape.layers))
        self.output = nn.Linear(shape.width, shape.rows, bias=False)
        self._rotary = Rotary({"type": "default", "theta": shape.version.theta}, shape.width // shape.heads)
        if shape.lambdas:
            self.resid, self.first = (nn.Parameter(torch.empty(shape.layers)) for _ in range(2))
        if shape.smear:
            self.smear_gate = nn.Linear(24, 1, bias=False)
            self.smear, self.backout = (nn.Parameter(torch.empty(1)) for _ in range(2))

    def frequencies(self) -> list[Tensor]:
        """Angular frequencies of its rotary positions, see Rotary."""
        return self._rotary.frequencies()

    def hidden(self, tokens: Tensor, positions: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Final normed hidden states (B, T, D) of tokens (B, T). positions, mask: as in `Branches`."""
        shape, branches = self.shape, Branches.of(positions, mask)
        cos, sin = self._rotary.tables(tokens.shape[1], tokens.device)
        if shape.version.rough_tables:
            cos, sin = cos.bfloat16().float(), sin.bfloat16().float()
        tables = (cos, sin) if branches is None else branches.turned((cos, sin))
        x = normed(self.tokens(tokens))
        if shape.smear:
            x = self._smeared(x, branches)
        first = middle = x
        for layer, block in enumerate(self.blocks):
            if shape.lambdas:
                x = self.resid[layer] * x + self.first[layer] * first
            x = block(x, tokens, tables, branches)
            if layer == shape.layers // 2:
                middle = x
        return normed(x - self.backout * middle if shape.smear else x)

    def _smeared(self, x: Tensor, branches: Branches | None) -> Tensor:
        """x (B, T, D), a gated share of the token before added to each but the first."""
        gate = self.smear * torch.sigmoid(self.smear_gate(x[..., :24]))  # (B, T, 1)
        if branches is None:
            return torch.cat((x[:, :1], x[:, 1:] + gate[:, 1:] * x[:, :-1]), dim=1)
        before = x.gather(1, branches.previous()[..., None].expand_as(x))
        return torch.where((branches.positions > 0)[..., None], x + gate * before, x)

    def head(self) -> tuple[Tensor, None]:
        """(weight (V, D), None): the rows that pad the vocabulary are no part of it."""
        return self.output.weight[: self.vocab_size], None

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B, T, V)."""
        return capped(F.linear(self.hidden(tokens), *self.head()), self.logit_cap)


def normed(x: Tensor) -> Tensor:
    """RMS norm without parameters, in float32."""
    return F.rms_norm(x.float(), (x.shape[-1],), None, _EPSILON).to(x.dtype)


FACTS = Facts(
    "nanochat",
    "`transformer.h.N.attn.c_q`; the version by `resid_lambdas`, `value_embeds`, channels of `ve_gate`, `smear_lambda`",
    "`model_config` in `meta_N.json` beside `model_N.pt`",
    "`step` in `meta_N.json`",
    "every version from 3a5e0bc (2025-10-13) to 92d63d4, the vocabulary without its padding; between 1076f97 and"
    " 6ed7d1d rotary tables are those of bfloat16 training (1.0e-5 off a float32 run of that week)",
    (
        Proof("karpathy/nanochat", "3a5e0bc", "without residual lambdas", 1.9e-9),
        Proof("karpathy/nanochat", "f1bf69d", "padded vocabulary", 3.4e-10),
        Proof("karpathy/nanochat", "aa530cd", "residual lambdas", 2.8e-10),
        Proof("karpathy/nanochat", "e85db6b", "value embeddings, logit_cap = 15", 4.7e-10),
        Proof("karpathy/nanochat", "aba30cb", "value embeddings, logit_cap = 20", 8.6e-11),
        Proof("karpathy/nanochat", "6ed7d1d", "gates of 12 channels", 2.6e-9),
        Proof("karpathy/nanochat", "92d63d4", "smear and backout, short windows", 1.8e-9),
    ),
    asked="`logit_cap`, 15 or 20, for files with gates of 32 channels",
)


def plan(config: Mapping[str, Any], state: Mapping[str, Shaped]) -> Plan:
    """config: `model_config` of meta_N.json; logit_cap where it was given."""
    notes = unknown_notes("nanochat", config, _KNOWN, closed=True)
    version = version_of(state)
    if _HEAD in state and state[_HEAD] == state.get(_EMBEDDING):
        reason = "the head is the token embedding, and nanochat's is separate: modded-nanogpt has nanochat's names, too"
        raise CheckpointError("unsupported", reason, "set model.factory to a function that builds the model")
    rows, width = matrix_shape(state, _EMBEDDING)
    layers, heads = whole(config, "n_layer", high=1 << 16), whole(config, "n_head")
    kv_heads, vocab_size = whole(config, "n_kv_head"), whole(config, "vocab_size", high=1 << 28)
    sequence = whole(config, "sequence_len", high=1 << 28)
    demand_shape(_EMBEDDING, (rows, width), (rows, whole(config, "n_embd")))
    heads_of(width, heads, "n_embd", "n_head")
    if heads % kv_heads:
        raise CheckpointError("shape", f"config.n_kv_head = {kv_heads} does not divide config.n_head = {heads}")
    if rows not in (vocab_size, -(-vocab_size // _PADDED_TO) * _PADDED_TO):
        reason = f"{_EMBEDDING} has {rows} rows; vocab_size is {vocab_size} in the configuration, padded to 64"
        raise CheckpointError("shape", reason, "check that meta_N.json belongs to this checkpoint")
    demand_layers("n_layer", layers, state, r"transformer\.h\.(\d+)\.")
    gates = [i for i in range(layers) if f"transformer.h.{i}.attn.ve_gate.weight" in state]
    shape = NanochatShape(
        rows=rows, vocab_size=vocab_size, positions=sequence, layers=layers, heads=heads, kv_heads=kv_heads,
        width=width, windows=_windows(config, sequence, layers, version), values=tuple(gates),
        gate_channels=state[f"transformer.h.{gates[0]}.attn.ve_gate.weight"].shape[-1] if gates else 0,
        lambdas="resid_lambdas" in state, smear="smear_lambda" in state,
        logit_cap=_logit_cap(config, version), version=version,
    )  # fmt: skip
    notes.insert(0, f"nanochat as of {version.name}")
    weights = {ours: From(theirs) for ours, theirs in _names(shape).items()}
    return Plan("nanochat", partial(Nanochat, shape), weights, sequence, vocab_size, notes)


def version_of(state: Mapping[str, Shaped]) -> Version:
    """The version that has these keys. Raises CheckpointError for keys of a branch that no version kept."""
    for name in ("v0_lambdas", "bigram_lambdas"):
        if name in state:
            reason = f"the file has {name}, of an experiment that nanochat did not keep"
            raise CheckpointError("unsupported", reason, "set model.factory to a function that builds the model")
    gates = {state[key].shape[-1] for key in state if key.endswith(".attn.ve_gate.weight") and state[key].shape}
    if "smear_lambda" in state:
        return SMEARED
    if gates:
        return TUNED if gates == {12} else VALUES
    return LAMBDAS if "resid_lambdas" in state else FIRST


def _logit_cap(config: Mapping[str, Any], version: Version) -> float:
    if version.cap is None and config.get("logit_cap") is None:
        reason = (
            "nanochat's bound on logits is 15 before aba30cb (2026-03-02) and 20 from there to 6ed7d1d (2026-03-09):"
            " the file has the keys of both"
        )
        raise CheckpointError("unsupported", reason, "say logit_cap = 15 or logit_cap = 20 in [model] config")
    return number(config, "logit_cap", version.cap or 0.0)


def _windows(config: Mapping[str, Any], sequence: int, layers: int, version: Version) -> tuple[int, ...]:
    """Keys that each layer sees: the pattern repeated over the layers, the last one always long."""
    pattern = str(config.get("window_pattern") or "L").upper()
    if set(pattern) - set("SL"):
        reason = f"config.window_pattern is {pattern[:40]!r}; nanochat knows S (short) and L (long)"
        raise CheckpointError("unsupported", reason, "set model.factory to a function that builds the model")
    if version is FIRST and set(pattern) != {"L"}:
        reason = "the configuration has a window_pattern and the file no resid_lambdas: no version of nanochat is so"
        raise CheckpointError("unsupported", reason, "set model.factory to a function that builds the model")
    if version.rounded_to == 1:
        short = sequence // version.short
    else:
        short = -(-sequence // version.short // version.rounded_to) * version.rounded_to
    # a window of n means the position itself and n before it
    by_letter = {"S": short + 1, "L": sequence + 1}
    return (*(by_letter[pattern[i % len(pattern)]] for i in range(layers - 1)), by_letter["L"])


def _names(shape: NanochatShape) -> dict[str, str]:
    block = {
        "q": "attn.c_q", "k": "attn.c_k", "v": "attn.c_v", "out": "attn.c_proj", "up": "mlp.c_fc", "down": "mlp.c_proj",
    }  # fmt: skip
    block = {f"blocks.{{layer}}.{a}.weight": f"transformer.h.{{layer}}.{b}.weight" for a, b in block.items()}
    names = {"tokens.weight": _EMBEDDING, "output.weight": _HEAD, **block_names(shape.layers, block)}
    for layer in shape.values:
        names[f"blocks.{layer}.values.weight"] = f"value_embeds.{layer}.weight"
        names[f"blocks.{layer}.gate.weight"] = f"transformer.h.{layer}.attn.ve_gate.weight"
    if shape.lambdas:
        names |= {"resid": "resid_lambdas", "first": "x0_lambdas"}
    if shape.smear:
        names |= {"smear_gate.weight": "smear_gate.weight", "smear": "smear_lambda", "backout": "backout_lambda"}
    return names
