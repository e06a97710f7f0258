"""Real checkpoint files in the formats that trainers write: made with torch.save, small enough for any test.

Every function writes one file (or folder) and returns its path. Weights are random but the same for the same seed.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import pickle
import struct
import sys
import types
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

ROSELLM = {
    "vocab_size": 64, "max_position_embeddings": 32, "n_layers": 2, "n_heads": 2, "d_model": 16, "d_ff": 48,
    "dropout": 0.1, "use_tensor_parallel": False, "use_activation_checkpoint": False, "activation": "gelu",
}  # fmt: skip
NANOGPT = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 32, "bias": True, "vocab_size": 64, "dropout": 0.0}


def rosellm_state(
    config: dict[str, Any] | None = None, *, seed: int = 0, tied: bool = False
) -> dict[str, torch.Tensor]:
    c = config or ROSELLM
    make = _Random(seed)
    width = c["d_model"]
    state = {
        "token_embedding.weight": make(c["vocab_size"], width),
        "position_embedding.weight": make(c["max_position_embeddings"], width),
    }
    for i in range(c["n_layers"]):
        state |= make.norm(f"blocks.{i}.ln1", width)
        state |= make.linear(f"blocks.{i}.attn.qkv_proj", width, 3 * width)
        state |= make.linear(f"blocks.{i}.attn.out_proj", width, width)
        state |= make.norm(f"blocks.{i}.ln2", width)
        state |= make.linear(f"blocks.{i}.mlp.fc1", width, c["d_ff"])
        state |= make.linear(f"blocks.{i}.mlp.fc2", c["d_ff"], width)
    state |= make.norm("ln_f", width)
    state["lm_head.weight"] = state["token_embedding.weight"] if tied else make(c["vocab_size"], width)
    return state


def nanogpt_state(args: dict[str, Any] | None = None, *, seed: int = 0) -> dict[str, torch.Tensor]:
    a = {**NANOGPT, **(args or {})}
    make = _Random(seed, bias=a["bias"])
    width = a["n_embd"]
    state = {
        "transformer.wte.weight": make(a["vocab_size"], width),
        "transformer.wpe.weight": make(a["block_size"], width),
    }
    for i in range(a["n_layer"]):
        block = f"transformer.h.{i}"
        state |= make.norm(f"{block}.ln_1", width)
        state |= make.linear(f"{block}.attn.c_attn", width, 3 * width)
        state |= make.linear(f"{block}.attn.c_proj", width, width)
        state |= make.norm(f"{block}.ln_2", width)
        state |= make.linear(f"{block}.mlp.c_fc", width, 4 * width)
        state |= make.linear(f"{block}.mlp.c_proj", 4 * width, width)
    state |= make.norm("transformer.ln_f", width)
    state["lm_head.weight"] = state["transformer.wte.weight"]
    return state


def save_rosellm(
    path: Path, *, step: int = 20, config: dict[str, Any] | None = None, seed: int = 0, tied: bool = False,
    optimizer: bool = True, prefix: str = "", legacy: bool = False, **more: Any,
) -> Path:  # fmt: skip
    """The seed trainer's format: model, optimizer, step, config, and whatever `more` adds or replaces."""
    config = {**ROSELLM, **(config or {})}
    state = rosellm_state(config, seed=seed, tied=tied)
    payload: dict[str, Any] = {
        "model": {prefix + name: tensor for name, tensor in state.items()},
        "optimizer": adam_state(state) if optimizer else {},
        "step": step,
        "config": config,
        **more,
    }
    torch.save(payload, path, _use_new_zipfile_serialization=not legacy)
    return path


def save_nanogpt(path: Path, *, step: int = 2000, prefix: str = "", seed: int = 0, **args: Any) -> Path:
    """nanoGPT's ckpt.pt: model_args, iter_num, a 0-d best_val_loss, the script's globals as config."""
    model_args = {**NANOGPT, **args}
    state = {prefix + name: tensor for name, tensor in nanogpt_state(model_args, seed=seed).items()}
    payload = {
        "model": state,
        "optimizer": adam_state(state),
        "model_args": model_args,
        "iter_num": step,
        "best_val_loss": torch.tensor(3.25),
        "config": {"out_dir": "out", "batch_size": 12, "n_layer": model_args["n_layer"], "device": "cuda"},
    }
    torch.save(payload, path)
    return path


def save_build_nanogpt(path: Path, *, step: int = 5000, seed: int = 0, legacy: bool = False, **args: Any) -> Path:
    """build-nanogpt's log/model_05000.pt: its config is a pickled object of a class of `__main__`."""
    fields = {"block_size": 32, "vocab_size": 64, "n_layer": 2, "n_head": 2, "n_embd": 16, **args}
    with class_in("__main__", "GPTConfig", fields) as config:
        payload = {"model": nanogpt_state({**fields, "bias": True}, seed=seed), "config": config, "step": step}
        torch.save({**payload, "val_loss": 3.5}, path, _use_new_zipfile_serialization=not legacy)
    return path


def save_bare(path: Path, state: dict[str, Any] | None = None) -> Path:
    """A state dict alone."""
    torch.save(state if state is not None else nanogpt_state(), path)
    return path


def save_nanochat(folder: Path, *, step: int = 700, vocab_size: int = 64, whole: bool = False) -> Path:
    """nanochat's model_000700.pt with the meta_000700.json that it writes after it; without its MLP unless whole."""
    make = _Random(0, bias=False)
    ends = {name: make(vocab_size, 16) for name in ("transformer.wte", "lm_head")}
    state = {f"_orig_mod.{name}.weight": tensor for name, tensor in ends.items()}
    for name in ("c_q", "c_k", "c_v", "c_proj"):
        state[f"_orig_mod.transformer.h.0.attn.{name}.weight"] = make(16, 16)
    if whole:
        state["_orig_mod.transformer.h.0.mlp.c_fc.weight"] = make(64, 16)
        state["_orig_mod.transformer.h.0.mlp.c_proj.weight"] = make(16, 64)
    path = folder / f"model_{step:06d}.pt"
    torch.save(state, path)
    config = {"sequence_len": 32, "vocab_size": vocab_size, "n_layer": 1, "n_head": 2, "n_kv_head": 2, "n_embd": 16}
    meta = {"step": step, "val_bpb": 1.01, "model_config": config}
    (folder / f"meta_{step:06d}.json").write_text(json.dumps(meta))
    return path


def save_lightning(path: Path, *, step: int = 1000) -> Path:
    """A Lightning .ckpt: weights under the attribute's prefix, hyper-parameters, loops, optimizer states."""
    state = {f"model.{name}": tensor for name, tensor in nanogpt_state().items()}
    payload = {
        "epoch": 3, "global_step": step, "pytorch-lightning_version": "2.5.0", "state_dict": state,
        "loops": {"fit_loop": {"state_dict": {}}}, "callbacks": {}, "optimizer_states": [adam_state(state)],
        "lr_schedulers": [], "hyper_parameters": dict(NANOGPT),
    }  # fmt: skip
    torch.save(payload, path)
    return path


def save_litgpt(folder: Path, *, step: int = 40) -> Path:
    """litgpt's lit_model.pth with its model_config.yaml."""
    make = _Random(0)
    state = {"lm_head.weight": make(64, 16), "transformer.wte.weight": make(64, 16)}
    state |= make.linear("transformer.h.0.attn.qkv", 16, 48)
    path = folder / "lit_model.pth"
    payload = {"model": state, "optimizer": {}, "train_dataloader": {}, "iter_num": 4 * step, "step_count": step}
    torch.save(payload, path)
    (folder / "model_config.yaml").write_text(
        "name: tiny\nblock_size: 32\nn_layer: 1\nn_embd: 16\npadded_vocab_size: 64\n"
    )
    return path


def save_deepspeed(path: Path, *, step: int = 30) -> Path:
    state = nanogpt_state()
    payload = {
        "module": state, "buffer_names": [], "optimizer": None, "param_shapes": [], "global_steps": step,
        "dp_world_size": 2, "mp_world_size": 1, "ds_config": {"zero_optimization": {"stage": 3}}, "ds_version": "0.16",
    }  # fmt: skip
    torch.save(payload, path)
    return path


def save_megatron(path: Path, *, step: int = 30) -> Path:
    """Megatron's model_optim_rng.pt: its arguments are an argparse.Namespace."""
    weight = {"word_embeddings": {"weight": torch.zeros(64, 16)}}
    payload = {
        "args": argparse.Namespace(num_layers=2, hidden_size=16), "checkpoint_version": 3.0, "iteration": step,
        "model": {"language_model": {"embedding": weight}}, "rng_state": [{"np_rng_state": None}],
    }  # fmt: skip
    torch.save(payload, path)
    return path


def save_modded_nanogpt(path: Path, *, step: int = 1750) -> Path:
    state = {"_orig_mod.embed.weight": torch.zeros(64, 16), "_orig_mod.blocks.0.attn.qkvo_w": torch.zeros(4, 16, 16)}
    torch.save({"step": step, "code": "import torch\n", "model": state, "optimizers": [{}]}, path)
    return path


def save_torchscript(path: Path) -> Path:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(torch.nn.Linear(4, 4), torch.zeros(1, 4)), str(path))
    return path


def save_hf_state(path: Path, config: dict[str, Any], state: dict[str, torch.Tensor], *, step: int = 500) -> Path:
    """A Hugging Face model's state dict and config in one .pt."""
    torch.save({"model": state, "config": config, "step": step}, path)
    return path


def save_hostile(path: Path, marker: Path, *, where: str = "extra", form: str = "zip") -> Path:
    """A checkpoint that would touch `marker` if it were unpickled. where: a payload key, model included; form: zip,
    legacy, or raw (a bare pickle)."""
    command = _Command(f"touch {marker}")
    if form == "raw":
        path.write_bytes(pickle.dumps({"model": command}, protocol=2))
        return path
    payload: dict[str, Any] = {"model": rosellm_state(), "step": 20, "config": dict(ROSELLM)}
    if where == "model":
        payload["model"]["blocks.0.ln1.weight"] = command
    else:
        payload[where] = command
    torch.save(payload, path, _use_new_zipfile_serialization=form == "zip")
    return path


def save_llmc_weights(path: Path) -> Path:
    header = struct.pack("<256i", 20240803, 3, 32, 64, 2, 2, 16, 64, *([0] * 248))
    path.write_bytes(header + bytes(64))
    return path


def write_zip(path: Path, entries: dict[str, bytes], *, compression: int = zipfile.ZIP_STORED) -> Path:
    """A zip made by hand, entry names given in full."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def write_pickle_in_zip(path: Path, data: bytes, records: dict[str, bytes] | None = None) -> Path:
    """An archive as torch.save lays it out around a pickle made by hand."""
    entries = {"archive/data.pkl": data, "archive/byteorder": b"little", "archive/version": b"3\n"}
    entries |= {f"archive/data/{key}": content for key, content in (records or {}).items()}
    return write_zip(path, entries)


def adam_state(state: dict[str, torch.Tensor]) -> dict[str, Any]:
    """What AdamW keeps: two moments and a step for each tensor, so that a file is two thirds optimizer."""
    moments = {
        i: {"step": torch.tensor(20.0), "exp_avg": torch.zeros_like(t), "exp_avg_sq": torch.ones_like(t)}
        for i, t in enumerate({id(t): t for t in state.values()}.values())
    }
    return {"state": moments, "param_groups": [{"lr": 3e-4, "betas": (0.9, 0.95), "params": list(moments)}]}


@contextlib.contextmanager
def class_in(module: str, name: str, fields: dict[str, Any]) -> Iterator[Any]:
    """An instance of a dataclass that lives in `module` only as long as the file is written."""
    made = sys.modules.setdefault(module, types.ModuleType(module))
    cls = dataclasses.make_dataclass(name, [(key, type(value), value) for key, value in fields.items()])
    cls.__module__ = module
    before = getattr(made, name, None)
    setattr(made, name, cls)
    try:
        yield cls()
    finally:
        if before is None:
            delattr(made, name)
        else:
            setattr(made, name, before)


class _Command:
    """Pickles as a call of os.system."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


class _Random:
    """Weights of a sensible size from one seed."""

    def __init__(self, seed: int, *, bias: bool = True) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.bias = bias

    def __call__(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=self.generator) * 0.2

    def linear(self, name: str, inputs: int, outputs: int) -> dict[str, torch.Tensor]:
        made = {f"{name}.weight": self(outputs, inputs)}
        return made | ({f"{name}.bias": self(outputs)} if self.bias else {})

    def norm(self, name: str, width: int) -> dict[str, torch.Tensor]:
        made = {f"{name}.weight": 1 + self(width)}
        return made | ({f"{name}.bias": self(width)} if self.bias else {})
