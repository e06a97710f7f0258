"""Run as rank 0 and rank 1 beside each other: writes DCP folders with torch's own dcp.save, and the dense twin of each.

FOLDER/nanogpt (FSDP2, nested), /torchtitan (flat keys, rows and columns of bfloat16), /lingua, /plain.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard, distribute_tensor

from tests.support import checkpoints as make

LLAMA = {"dim": 24, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "vocab_size": 61, "multiple_of": 8}


class Held(nn.Module):
    """A module tree with the parameters of a state dict, by their names."""

    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        super().__init__()
        for head in dict.fromkeys(name.partition(".")[0] for name in state):
            inner = {name[len(head) + 1 :]: t for name, t in state.items() if name.startswith(f"{head}.")}
            if inner:
                self.add_module(head, Held(inner))
            else:
                self.register_parameter(head, nn.Parameter(state[head].clone()))


def llama_state(dtype: torch.dtype = torch.float32, inner: str = "attention.") -> dict[str, torch.Tensor]:
    """Meta's names; torchtitan puts the projections under attention.qkv_linear. 61 rows do not divide by 2."""
    generator = torch.Generator().manual_seed(3)
    width, size, hidden = LLAMA["dim"], LLAMA["dim"] // LLAMA["n_heads"], 64

    def matrix(rows: int, columns: int) -> torch.Tensor:
        return (torch.randn(rows, columns, generator=generator) * 0.2).to(dtype)

    state = {"tok_embeddings.weight": matrix(61, width)}
    for i in range(LLAMA["n_layers"]):
        block = f"layers.{i}."
        state[f"{block}{inner}wq.weight"] = matrix(width, width)
        state[f"{block}{inner}wk.weight"] = matrix(2 * size, width)
        state[f"{block}{inner}wv.weight"] = matrix(2 * size, width)
        state[f"{block}attention.wo.weight"] = matrix(width, width)
        state[f"{block}feed_forward.w1.weight"] = matrix(hidden, width)
        state[f"{block}feed_forward.w2.weight"] = matrix(width, hidden)
        state[f"{block}feed_forward.w3.weight"] = matrix(hidden, width)
        state[f"{block}attention_norm.weight"] = 1 + matrix(1, width)[0]
        state[f"{block}ffn_norm.weight"] = 1 + matrix(1, width)[0]
    state["norm.weight"] = 1 + matrix(1, width)[0]
    state["lm_head.weight" if "qkv" in inner else "output.weight"] = matrix(61, width)
    return state


def main(folder: Path, rank: int) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    first = rank == 0

    state = make.nanogpt_state()
    held = Held(state)
    fully_shard(held, mesh=mesh)
    sharded = get_model_state_dict(held)
    moments = {f"{name}.exp_avg": t * 0 for name, t in sharded.items()}
    arguments = {"model_args": make.NANOGPT, "iter_num": 2000, "best_val_loss": torch.tensor(3.25)}
    dcp.save({"model": sharded, "optimizer": {"state": moments}, **arguments}, checkpoint_id=folder / "nanogpt")
    dcp.save({"model": state, **arguments}, checkpoint_id=folder / "plain")
    if first:
        make.save_nanogpt(folder / "nanogpt.pt")

    state = llama_state(torch.bfloat16, "attention.qkv_linear.")
    columns = {n: distribute_tensor(t, mesh, [Shard(1 if ".wo." in n or ".w2." in n else 0)]) for n, t in state.items()}
    optimizer = {"state": {"tok_embeddings.weight": {"exp_avg": columns["tok_embeddings.weight"] * 0}}}
    payload = {**columns, "optimizer": optimizer, "train_state": {"step": torch.tensor(20), "ntokens_seen": 640}}
    dcp.save(payload, checkpoint_id=folder / "torchtitan" / "step-20")

    state = llama_state()
    rows = {name: distribute_tensor(t, mesh, [Shard(0)]) for name, t in state.items()}
    lingua = folder / "lingua" / "0000000030"
    dcp.save({"model": rows, "optim": {"state": {"a": rows["norm.weight"]}}}, checkpoint_id=lingua)
    if first:
        torch.save(state, folder / "llama.pt")
        training = {
            "name": "debug",
            "steps": 1000,
            "data": {"seq_len": 32, "batch_size": 4, "tokenizer": {"name": "b"}},
        }
        model = {
            **LLAMA, "head_dim": None, "ffn_dim_multiplier": None, "norm_eps": 1e-5, "rope_theta": 10000.0,
            "init_base_std": None, "init_std_factor": "disabled", "max_seqlen": 48, "seed": 42, "weight_tying": False,
            "sliding_window": None,
        }  # fmt: skip
        (lingua / "params.json").write_text(json.dumps({**training, "model": model, "optim": {"lr": 3e-4}}))
        (lingua / "train_state_00000.json").write_text(json.dumps({"step": 30, "acc_step": 0}))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(Path(sys.argv[1]), int(sys.argv[2]))
