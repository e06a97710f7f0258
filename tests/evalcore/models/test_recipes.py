"""The factories of docs/how-to/other-trainers.md, run as the page shows them on small files of those layouts."""

from __future__ import annotations

import argparse
import io
import re
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from transformers import LlamaConfig, LlamaForCausalLM

from evalcore.archive import summarise
from evalcore.archive.meaning.folder_kinds import kind_at
from evalcore.loading.checkpoint import CheckpointError, load_checkpoint
from evalcore.messages import ModelSpec

PAGE = Path(__file__).resolve().parents[3] / "docs/how-to/other-trainers.md"
#: Stands in for the trainer's classes: last position only without return_logits, as modded-nanogpt's forward.
MODDED = """from dataclasses import dataclass
import torch

@dataclass
class GPTConfig:
    vocab_size: int = 50304
    n_embd: int = 768

class GPT(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embed = torch.nn.Embedding(config.vocab_size, config.n_embd)
        self.lm_head = torch.nn.Linear(config.n_embd, config.vocab_size, bias=False)

    def forward(self, idx, targets=None, return_logits=True):
        logits = self.lm_head(self.embed(idx) if targets is not None else self.embed(idx)[:, -1:])
        return (logits if return_logits else None), None
"""
PLAIN = """import torch

def build_plain(config, state):
    model = torch.nn.Sequential()
    model.add_module("embed", torch.nn.Embedding(*state["embed.weight"].shape))
    model.add_module("head", torch.nn.Linear(*reversed(state["head.weight"].shape), bias=False))
    model.load_state_dict(state)
    return model
"""
#: Stands in for the package: a configuration, and a class whose state has the sLSTM's weights in the plain layout.
XLSTM = """from dataclasses import dataclass
import torch

@dataclass
class xLSTMLMModelConfig:
    vocab_size: int
    context_length: int
    slstm_block: dict

class xLSTMLMModel(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        assert config.slstm_block["slstm"]["backend"] == "vanilla"
        self.config, self.slstm_cell = config, torch.nn.Module()
        self.slstm_cell._recurrent_kernel_ = torch.nn.Parameter(torch.empty(2, 12, 3))
        self.slstm_cell._bias_ = torch.nn.Parameter(torch.empty(24))
        self.lm_head = torch.nn.Embedding(config.vocab_size, config.vocab_size)

    def forward(self, tokens):
        return self.lm_head(tokens)
"""
DACITE = """def from_dict(kind, values):
    return kind(**{name: values[name] for name in kind.__dataclass_fields__})
"""
TOKENS = torch.tensor([[1, 5, 2]])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The page's Python blocks as the files that their first line names; modules are forgotten afterwards."""
    for body in re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        (tmp_path / re.match(r"# src/(\w+\.py)", body)[1]).write_text(body)
    (tmp_path / "modded.py").write_text(MODDED)
    (tmp_path / "mymodel.py").write_text(PLAIN)
    (tmp_path / "xlstm").mkdir()
    (tmp_path / "xlstm" / "__init__.py").touch()
    (tmp_path / "xlstm" / "xlstm_lm_model.py").write_text(XLSTM)
    (tmp_path / "dacite.py").write_text(DACITE)
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in (sys.modules[name].__file__ or ""):
            del sys.modules[name]


def test_the_recipe_for_modded_nanogpt_gives_logits_of_every_position(folder):
    embed, head = torch.randn(7, 4), torch.randn(7, 4)
    model = {"_orig_mod.embed.weight": embed, "_orig_mod.lm_head.weight": head}
    torch.save({"step": 1750, "code": "import torch\n", "model": model, "optimizers": [{}]}, folder / "a.pt")
    spec = ModelSpec("modded_factory:build", python_path=(str(folder),))
    loaded = load_checkpoint(folder / "a.pt", spec=spec)
    assert (loaded.step, loaded.context_length, loaded.vocab_size) == (1750, 1024, 7)
    torch.testing.assert_close(loaded.model.logits(TOKENS), embed[TOKENS] @ head.T)


def test_the_recipe_for_lora_merges_the_adapters(folder):
    embed, base, down, up = torch.randn(7, 4), torch.randn(7, 4), torch.randn(2, 4), torch.randn(7, 2)
    state = {"embed.weight": embed, "head.base_layer.weight": base}
    state |= {"head.lora_A.default.weight": down, "head.lora_B.default.weight": up}
    torch.save({"model": state, "step": 30}, folder / "a.pt")
    loaded = load_checkpoint(folder / "a.pt", spec=ModelSpec("lora_factory:build", python_path=(str(folder),)))
    torch.testing.assert_close(loaded.model.logits(TOKENS), embed[TOKENS] @ (base + 16 / 2 * up @ down).T)


def composer_states(folder):
    """Composer's file, and what it saves with FSDP's shards; the embedding and the head."""
    embed, head = torch.randn(7, 4), torch.randn(7, 4)
    model = {"model.embed.weight": embed, "model.head.weight": head}
    timestamp = {"Timestamp": {"iteration": 0, "epoch": 1, "batch": 320, "sample": 2560, "batch_in_epoch": 320}}
    rest = {"optimizers": {"AdamW": {}}, "timestamp": timestamp, "integrations": {}, "metadata": {}, "schedulers": {}}
    torch.save({"state": {"model": model, **rest}, "rng": []}, folder / "latest-rank0.pt")
    whole = {"state": {"model": model, "timestamp": timestamp}}
    dcp.save(whole, checkpoint_id=str(folder / "latest"), no_dist=True)
    return embed, head


@pytest.mark.parametrize("name", ["latest-rank0.pt", "latest"])
def test_the_recipe_for_composer_takes_off_the_wrapper(folder, name):
    embed, head = composer_states(folder)
    loaded = load_checkpoint(folder / name, spec=ModelSpec("composer_factory:build", python_path=(str(folder),)))
    assert loaded.step == 320
    torch.testing.assert_close(loaded.model.logits(TOKENS), embed[TOKENS] @ head.T)


MEGATRON = {
    "num_layers": 2, "hidden_size": 24, "ffn_hidden_size": 40, "num_attention_heads": 4, "num_query_groups": 2,
    "group_query_attention": True, "kv_channels": 8, "seq_length": 16, "norm_epsilon": 1e-6, "rotary_base": 50_000,
    "untie_embeddings_and_output_weights": True, "swiglu": True, "normalization": "RMSNorm", "add_bias_linear": False,
    "position_embedding_type": "rope", "tensor_model_parallel_size": 1, "pipeline_model_parallel_size": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def llama():
    torch.manual_seed(3)
    shape = LlamaConfig(
        vocab_size=11, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, rms_norm_eps=1e-6, max_position_embeddings=16, tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 50_000.0},
    )  # fmt: skip
    model = LlamaForCausalLM(shape).eval()
    for name, weight in model.named_parameters():
        torch.nn.init.normal_(weight, 1.0 if "norm" in name else 0.0, 0.3)
    return model


def save_megatron(folder, model, engine=True, more=(), **changed):
    """One rank of Megatron core. engine: Transformer Engine's modules, where a norm belongs to the layer behind it.

    more: further entries of the state dict.
    """
    theirs, ours = model.state_dict(), {}
    ours["embedding.word_embeddings.weight"] = theirs["model.embed_tokens.weight"]
    ours["decoder.final_layernorm.weight"] = theirs["model.norm.weight"]
    ours["output_layer.weight"] = theirs["lm_head.weight"]
    norms = ("self_attention.linear_qkv.layer_norm_weight", "mlp.linear_fc1.layer_norm_weight")
    before_attention, before_mlp = norms if engine else ("input_layernorm.weight", "pre_mlp_layernorm.weight")
    for layer in range(2):
        a, b = f"decoder.layers.{layer}", f"model.layers.{layer}"
        q, k, v = (theirs[f"{b}.self_attn.{which}_proj.weight"] for which in "qkv")
        rows = [q[0:8], q[8:16], k[0:8], v[0:8], q[16:24], q[24:32], k[8:16], v[8:16]]  # 2 groups of 2 queries
        ours[f"{a}.self_attention.linear_qkv.weight"] = torch.cat(rows)
        ours[f"{a}.self_attention.linear_proj.weight"] = theirs[f"{b}.self_attn.o_proj.weight"]
        gate, up = theirs[f"{b}.mlp.gate_proj.weight"], theirs[f"{b}.mlp.up_proj.weight"]
        ours[f"{a}.mlp.linear_fc1.weight"] = torch.cat([gate, up])
        ours[f"{a}.mlp.linear_fc2.weight"] = theirs[f"{b}.mlp.down_proj.weight"]
        ours[f"{a}.mlp.linear_fc1._extra_state"] = None
        ours[f"{a}.{before_attention}"] = theirs[f"{b}.input_layernorm.weight"]
        ours[f"{a}.{before_mlp}"] = theirs[f"{b}.post_attention_layernorm.weight"]
    ours |= dict(more)
    rank = folder / "iter_0000100" / "mp_rank_00"
    rank.mkdir(parents=True)
    whole = {"args": argparse.Namespace(**{**MEGATRON, **changed}), "checkpoint_version": 3.0, "iteration": 100}
    torch.save({**whole, "model": ours, "optimizer": {}, "rng_state": []}, rank / "model_optim_rng.pt")
    return rank.parent


@pytest.mark.parametrize("engine", [True, False])
def test_the_recipe_for_megatron_builds_llama_from_the_folder_of_one_rank(folder, llama, engine):
    path = save_megatron(folder, llama, engine)
    loaded = load_checkpoint(path, spec=ModelSpec("megatron_factory:build", python_path=(str(folder),)))
    assert (loaded.step, loaded.context_length, loaded.vocab_size) == (100, 16, 11)
    with torch.inference_mode():
        torch.testing.assert_close(loaded.model.logits(TOKENS), llama(TOKENS).logits)


def test_the_recipe_for_megatron_leaves_out_the_state_of_transformer_engine_in_every_form(folder, llama):
    """Transformer Engine gives None, a BytesIO, or a tensor of bytes, empty without 8 bit."""
    layer = "decoder.layers.0"
    more = {
        f"{layer}.self_attention.linear_qkv._extra_state": torch.empty(0, dtype=torch.uint8),
        f"{layer}.self_attention.linear_proj._extra_state": torch.arange(6, dtype=torch.uint8),
        f"{layer}.mlp.linear_fc2._extra_state": io.BytesIO(b"scales"),
        "decoder.final_layernorm._extra_state": torch.empty(0, dtype=torch.uint8),
        "output_layer._extra_state": None,
    }
    path = save_megatron(folder, llama, more=more)
    loaded = load_checkpoint(path, spec=ModelSpec("megatron_factory:build", python_path=(str(folder),)))
    with torch.inference_mode():
        torch.testing.assert_close(loaded.model.logits(TOKENS), llama(TOKENS).logits)


@pytest.mark.parametrize("name", ["embedding.position_embeddings.weight", "mtp.layers.0.eh_proj.weight"])
def test_the_recipe_for_megatron_refuses_a_name_that_it_does_not_know(folder, llama, name):
    path = save_megatron(folder, llama, more={name: torch.zeros(4, 24)})
    with pytest.raises(CheckpointError, match=f"{re.escape(name)} has no place in this model"):
        load_checkpoint(path, spec=ModelSpec("megatron_factory:build", python_path=(str(folder),)))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"tensor_model_parallel_size": 2}, "tensor_model_parallel_size is 2"),
        ({"qk_layernorm": True}, "qk_layernorm is True"),
        ({"normalization": "LayerNorm"}, "normalization is 'LayerNorm'"),
    ],
)
def test_the_recipe_for_megatron_refuses_what_it_does_not_compute(folder, llama, changed, words):
    path = save_megatron(folder, llama, **changed)
    with pytest.raises(CheckpointError, match=re.escape(words)):
        load_checkpoint(path, spec=ModelSpec("megatron_factory:build", python_path=(str(folder),)))


def test_a_megatron_folder_without_a_factory_of_several_ranks_or_unfinished_is_refused(tmp_path, llama):
    path = save_megatron(tmp_path, llama)
    assert kind_at(str(path)).main == "mp_rank_00/model_optim_rng.pt"
    with pytest.raises(CheckpointError, match="layout of the weights needs a factory"):
        load_checkpoint(path)
    (path / "mp_rank_01").mkdir()
    assert kind_at(str(path)).name == "refused"
    (tmp_path / "iter_0000200" / "mp_rank_00").mkdir(parents=True)
    assert "model_optim_rng.pt is not there yet" in kind_at(str(tmp_path / "iter_0000200")).missing


def test_a_megatron_file_of_one_rank_is_answered_by_the_factory_of_the_page(folder, llama):
    path = save_megatron(folder, llama)
    with pytest.raises(CheckpointError, match="needs a factory") as caught:
        load_checkpoint(path / "mp_rank_00" / "model_optim_rng.pt")
    assert (
        "src/megatron_factory.py, and add --model-factory megatron_factory:build --python-path src" in caught.value.hint
    )
    given = ModelSpec(
        "megatron_factory:build", python_path=(str(folder),)
    )  # the page's file of that name, from `folder`
    assert load_checkpoint(path / "mp_rank_00" / "model_optim_rng.pt", spec=given).step == 100


def test_a_part_of_a_megatron_model_is_named_by_the_argument_that_divides_it(tmp_path, llama):
    path = save_megatron(tmp_path, llama, pipeline_model_parallel_size=2)
    with pytest.raises(CheckpointError, match=r"one rank's part .* pipeline_model_parallel_size is 2") as caught:
        load_checkpoint(path)
    assert "--ckpt-convert-format torch_dist --ckpt-convert-save DIR" in caught.value.hint


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("spec", [None, ModelSpec("megatron_factory:build", python_path=("src",))])
def test_megatrons_torch_dist_is_named_with_the_same_words_by_inspect_and_at_evaluation(tmp_path, whole, spec):
    """Both layers in one tensor, the state of each layer's modules and the arguments as objects. whole: with the
    metadata.json that Megatron writes last."""
    path = tmp_path / "iter_0000100"
    part = "decoder.layers.mlp.linear_fc1"
    state = {f"{part}.weight": torch.randn(2, 80, 24), "embedding.word_embeddings.weight": torch.randn(11, 24)}
    state |= {f"{part}._extra_state/shard_{layer}_2": [io.BytesIO(b"")] for layer in range(2)}
    state["common_state/shard_0_1"] = [{"args": argparse.Namespace(**MEGATRON), "iteration": 100}]
    dcp.save(state, checkpoint_id=str(path), no_dist=True, planner=dcp.DefaultSavePlanner(flatten_state_dict=False))
    if whole:
        (path / "metadata.json").write_text('{"sharded_backend": "torch_dist", "sharded_backend_version": 1}')
    with pytest.raises(CheckpointError, match="Megatron checkpoint of the sharded format torch_dist") as caught:
        load_checkpoint(path, spec=spec)
    assert (
        caught.value.kind == "unsupported"
        and "--ckpt-convert-format torch --ckpt-convert-save DIR" in caught.value.hint
    )
    summary = summarise(str(path))
    assert summary.family == "megatron" and f"{caught.value.reason}; {caught.value.hint}" in summary.note


def test_an_older_sharded_format_of_megatron_is_named(tmp_path):
    (tmp_path / "metadata.json").write_text('{"sharded_backend": "zarr", "sharded_backend_version": 1}')
    torch.save({"args": argparse.Namespace(**MEGATRON), "iteration": 100}, tmp_path / "common.pt")
    with pytest.raises(CheckpointError, match="Megatron checkpoint of the sharded format zarr"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("backend", ["cuda", "vanilla", None])
def test_the_recipe_for_xlstm_gives_the_plain_class_its_own_layout(folder, backend):
    """gates[head][gate][out][in]; the CUDA kernels store (head, in, gate and out), the plain class (head, gate and out,
    in); biases (head, gate, out) and (gate, head, out)."""
    gates, bias, table = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3), torch.randn(9, 9)
    plain = torch.stack([gates[head].reshape(12, 3) for head in range(2)])
    kernels = torch.stack([torch.cat([gates[head, gate].T for gate in range(4)], 1) for head in range(2)])
    cuda = backend != "vanilla"
    state = {"slstm_cell._recurrent_kernel_": kernels if cuda else plain, "lm_head.weight": table}
    state["slstm_cell._bias_"] = bias.flatten() if cuda else torch.cat([bias[:, gate].flatten() for gate in range(4)])
    slstm = {"num_heads": 2} | ({"backend": backend} if backend else {})
    config = {"vocab_size": 9, "context_length": 64, "slstm_block": {"slstm": slstm}}
    torch.save({"model": state, "config": config, "step": 5}, folder / "a.pt")
    loaded = load_checkpoint(folder / "a.pt", spec=ModelSpec("xlstm_factory:build", python_path=(str(folder),)))
    assert (loaded.step, loaded.context_length) == (5, 64)
    own = loaded.model.inner.state_dict()
    assert torch.equal(own["slstm_cell._recurrent_kernel_"], plain)
    assert torch.equal(own["slstm_cell._bias_"].view(4, 2, 3).transpose(0, 1), bias)
    torch.testing.assert_close(loaded.model.logits(TOKENS), table[TOKENS])
