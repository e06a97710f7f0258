"""Llama's relatives by transformers' names, minimind and OLMo: each against transformers' own forward pass."""

import json
import logging

import pytest
import torch
import torch.distributed.checkpoint as dcp
import transformers

from evalcore.archive import summarise
from evalcore.loading.checkpoint import CheckpointError, load_checkpoint
from evalcore.messages import ModelSpec
from evalcore.models import hf_llama
from evalcore.models.hf_relatives import windows_of
from evalcore.models.hf_rope import rope_of
from evalcore.models.plan import NeedsTransformers
from evalcore.models.values import activation

logging.getLogger("transformers").setLevel(logging.ERROR)

TOKENS = torch.randint(3, 90, (2, 40), generator=torch.Generator().manual_seed(0))
SIZES = {
    "vocab_size": 90, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 16}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
LOCAL = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
}
KINDS = {
    "llama with llama3 rope": ("llama", {"rope_parameters": LLAMA3, "attention_bias": True, "mlp_bias": True}),
    "llama with yarn": ("llama", {"rope_parameters": YARN}),
    "llama with yarn, all fields": ("llama", {"rope_parameters": YARN | {
        "beta_fast": 16, "beta_slow": 2, "mscale": 1.5, "mscale_all_dim": 0.7, "truncate": False}}),
    "llama with dynamic rope": ("llama", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4}}),
    "mistral": ("mistral", {"sliding_window": 9, "head_dim": 16}),
    "qwen2": ("qwen2", {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1}),
    "qwen2, tied": ("qwen2", {"tie_word_embeddings": True}),
    "qwen3": ("qwen3", {"head_dim": 16}),
    "smollm3": ("smollm3", {"no_rope_layer_interval": 2}),
    "smollm3 with windows": ("smollm3", {
        "use_sliding_window": True, "sliding_window": 9, "no_rope_layers": [1, 0, 1]}),
    "gemma": ("gemma", {"head_dim": 16, "hidden_act": "gelu"}),
    "gemma2": ("gemma2", {"head_dim": 16, "sliding_window": 9, "query_pre_attn_scalar": 24,
                          "attn_logit_softcapping": 5.0, "final_logit_softcapping": 4.0}),
    "gemma3": ("gemma3_text", {"head_dim": 16, "sliding_window": 9, "query_pre_attn_scalar": 24,
                               "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
                               "rope_parameters": LOCAL}),
    "olmo2": ("olmo2", {}),
}  # fmt: skip


def model_of(model_type, **more):
    """A transformers model whose norms, biases and weights are all far from their defaults."""
    torch.manual_seed(2)
    config = transformers.AutoConfig.for_model(model_type, **{**SIZES, **more})
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() == 1:
                p.copy_(torch.randn_like(p) * 0.3 + (0.9 if "norm" in name and "gemma" not in model_type else 0.1))
            else:
                p.copy_(torch.randn_like(p) * (0.6 if "embed" in name or "lm_head" in name else 2 / p.shape[1] ** 0.5))
    return model


def logits_of(model):
    with torch.inference_mode():
        return model(TOKENS).logits


def assert_computes(path, expected, **settings):
    with load_checkpoint(path, spec=ModelSpec(**settings)) as loaded, torch.inference_mode():
        values = loaded.model(TOKENS)
    assert (values - expected).abs().max() < 3e-5 * float(expected.abs().max())
    return loaded


def refusal(path, **settings):
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, spec=ModelSpec(**settings))
    return caught.value


@pytest.mark.parametrize("kind", KINDS)
def test_each_relative_of_llama_is_computed_as_transformers_does(tmp_path, kind):
    model_type, more = KINDS[kind]
    model = model_of(model_type, **more)
    torch.save({"model": model.state_dict(), "config": model.config.to_dict(), "step": 3}, tmp_path / "a.pt")
    loaded = assert_computes(tmp_path / "a.pt", logits_of(model))
    assert loaded.family == f"hf-{model_type}" and type(loaded.model).__name__ == "Llama"


def test_a_folder_whose_config_json_omits_tying_has_the_default_of_its_class(tmp_path):
    model = model_of("gemma", head_dim=16)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config.pop("tie_word_embeddings") is True  # transformers 4 leaves it out
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert_computes(tmp_path, logits_of(model))


def test_a_pickled_configuration_of_gemma3_names_its_family_by_its_class(tmp_path):
    model = model_of("gemma3_text", **KINDS["gemma3"][1])
    torch.save({"model": model.state_dict(), "config": model.config}, tmp_path / "a.pt")
    assert assert_computes(tmp_path / "a.pt", logits_of(model)).family == "hf-gemma3_text"


def test_a_scaling_that_only_transformers_knows_goes_through_it_from_a_folder_and_is_refused_in_a_file(tmp_path):
    factors = [1.0 + i / 4 for i in range(4)]
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": factors, "long_factor": factors, "factor": 2.0,
            "original_max_position_embeddings": 64}  # fmt: skip
    model = model_of("llama", rope_parameters=rope)
    model.save_pretrained(tmp_path / "folder")
    loaded = assert_computes(tmp_path / "folder", logits_of(model))
    assert type(loaded.model).__name__ == "LogitsModel"
    torch.save({"model": model.state_dict(), "config": model.config.to_dict()}, tmp_path / "a.pt")
    assert "rotary scaling of the type 'longrope'" in refusal(tmp_path / "a.pt").reason


@pytest.mark.parametrize(
    ("model_type", "config"),
    [("llama", {"hidden_act": "gelu"}), ("llama", {"hidden_act": "relu2"}), ("mistral", {"hidden_act": "quick_gelu"}),
     ("gemma3_text", {"head_dim": 16, "attn_logit_softcapping": 5.0})],
)  # fmt: skip
def test_a_value_that_only_transformers_computes_goes_through_it_from_a_folder(tmp_path, model_type, config):
    """transformers has attn_logit_softcapping in Gemma 3's configuration and does not apply it."""
    model = model_of(model_type, **config)
    model.save_pretrained(tmp_path / "folder")
    assert type(assert_computes(tmp_path / "folder", logits_of(model)).model).__name__ == "LogitsModel"
    torch.save({"model": model.state_dict(), "config": model.config.to_dict()}, tmp_path / "a.pt")
    assert "Hugging Face folder" in refusal(tmp_path / "a.pt").hint


def test_two_bases_of_rotary_positions_are_asked_about(tmp_path):
    """transformers 4 reads `rope_theta` at the top, transformers 5 the one in `rope_parameters`."""
    model = model_of("llama", rope_parameters={"rope_type": "default", "rope_theta": 500.0})
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "rope_theta": 500}))
    assert_computes(tmp_path, logits_of(model))
    (tmp_path / "config.json").write_text(json.dumps({**config, "rope_theta": 1e4}))
    error = refusal(tmp_path)
    assert "rope_theta is 10000.0, and in rope_parameters it is 500.0" in error.reason
    assert "say rope_theta = 500.0 in [model] config" in error.hint
    assert_computes(tmp_path, logits_of(model), config={"rope_theta": 500.0})


@pytest.mark.parametrize(("model_type", "field"), [("llama", "sliding_window"), ("llama", "layer_types")])
def test_what_the_hint_says_of_a_field_that_transformers_ignores_works(tmp_path, model_type, field):
    model = model_of(model_type)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    value = 8 if field == "sliding_window" else ["sliding_attention"] * 3
    (tmp_path / "config.json").write_text(json.dumps({**config, field: value}))
    assert f"say {field} = false in [model] config" in refusal(tmp_path).hint
    assert_computes(tmp_path, logits_of(model), config={field: False})


@pytest.mark.parametrize(
    ("model_type", "field", "value"),
    [("mistral", "attention_bias", True), ("qwen2", "qk_norm", True), ("qwen3", "num_experts", 4),
     ("llama", "sliding_window", 8), ("llama", "layer_types", ["sliding_attention"] * 3),
     ("qwen3", "layer_types", ["full_attention"] * 2), ("gemma2", "use_bidirectional_attention", True),
     ("smollm3", "no_rope_layers", [1, 0]), ("gemma2", "attention_temperature", 2.0), ("llama", "hidden_act", "gelu"),
     ("qwen2", "final_logit_softcapping", 30.0)],
)  # fmt: skip
def test_a_value_that_the_relative_does_not_have_is_refused_by_name(tmp_path, model_type, field, value):
    model = model_of(model_type, **({"head_dim": 16} if model_type in ("gemma2", "qwen3") else {}))
    config = model.config.to_dict()
    if model_type == "qwen3" and field == "layer_types":
        config |= {"use_sliding_window": True, "sliding_window": 8}
    torch.save({"model": model.state_dict(), "config": config | {field: value}}, tmp_path / "a.pt")
    error = refusal(tmp_path / "a.pt")
    named = {"sliding_window": "sliding-window", "use_bidirectional_attention": "both directions", "hidden_act": "SiLU"}
    assert error.kind == "unsupported" and named.get(field, field) in error.reason and error.hint


@pytest.fixture(scope="module")
def minimind():
    """minimind is Qwen3 with constants of its own: its state dict by the same names, in half precision, unnamed."""
    rope = {"rope_type": "default", "rope_theta": 1e6}
    model = model_of("qwen3", head_dim=8, tie_word_embeddings=True, rope_parameters=rope)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(p.half().float())
    return {name: tensor.half() for name, tensor in model.state_dict().items()}, logits_of(model)


def test_a_minimind_file_is_read_without_any_configuration_and_its_constants_are_noted(tmp_path, minimind):
    state, expected = minimind
    torch.save(state, tmp_path / "pretrain_32.pth")
    loaded = assert_computes(tmp_path / "pretrain_32.pth", expected)
    assert (loaded.family, loaded.context_length) == ("minimind", 32768)
    assert sum(note.startswith("assumed ") for note in loaded.notes) == 3
    assert summarise(tmp_path / "pretrain_32.pth").assumed == (
        "rope_theta=1000000.0", "rms_norm_eps=1e-06", "max_position_embeddings=32768",
    )  # fmt: skip
    torch.save({"model": state, "optimizer": {}, "epoch": 0, "step": 12, "world_size": 1}, tmp_path / "resume.pth")
    assert assert_computes(tmp_path / "resume.pth", expected).step == 12
    with load_checkpoint(tmp_path / "resume.pth", spec=ModelSpec(config={"rope_theta": 1e4})) as given:
        assert not any("rope_theta" in note for note in given.notes)
        with torch.inference_mode():
            assert not torch.allclose(given.model(TOKENS), expected, atol=1e-3)


def test_what_minimind_does_not_have_is_refused(tmp_path, minimind):
    state, _ = minimind
    torch.save({**state, "model.layers.0.mlp.experts.0.up_proj.weight": torch.ones(2, 2)}, tmp_path / "a.pth")
    assert "1 unknown: model.layers.0.mlp.experts.0.up_proj.weight" in refusal(tmp_path / "a.pth").reason
    torch.save({"model": state, "config": {"model_type": "minimind", "num_attention_heads": 8}}, tmp_path / "b.pth")
    assert "config.num_attention_heads is 8; by the shapes it is 4" in refusal(tmp_path / "b.pth").reason
    torch.save({"model": state, "config": {"model_type": "minimind", "use_moe": True}}, tmp_path / "c.pth")
    assert "use_moe" in refusal(tmp_path / "c.pth").reason
    without = {name: tensor for name, tensor in state.items() if "q_norm" not in name}
    torch.save(without, tmp_path / "d.pth")
    assert "model_type" in refusal(tmp_path / "d.pth").hint


def olmo_state(model):
    """transformers' OLMo and OLMo 2 by the names of the original: fused projections, `up` before `gate`."""
    state, out = model.state_dict(), {}
    after = model.config.model_type == "olmo2"
    for i in range(3):
        theirs, ours = f"model.layers.{i}", f"transformer.blocks.{i}"
        parts = [state[f"{theirs}.self_attn.{n}_proj.weight"] for n in "qkv"]
        out[f"{ours}.att_proj.weight"] = torch.cat(parts)
        out[f"{ours}.ff_proj.weight"] = torch.cat([state[f"{theirs}.mlp.{n}_proj.weight"] for n in ("up", "gate")])
        out[f"{ours}.attn_out.weight"] = state[f"{theirs}.self_attn.o_proj.weight"]
        out[f"{ours}.ff_out.weight"] = state[f"{theirs}.mlp.down_proj.weight"]
        if after:
            out |= {f"{ours}.{n}_norm.weight": state[f"{theirs}.self_attn.{n}_norm.weight"] for n in "qk"}
            out[f"{ours}.attn_norm.weight"] = state[f"{theirs}.post_attention_layernorm.weight"]
            out[f"{ours}.ff_norm.weight"] = state[f"{theirs}.post_feedforward_layernorm.weight"]
    out |= {"transformer.ln_f.weight": state["model.norm.weight"]} if after else {}
    out |= {"transformer.wte.weight": state["model.embed_tokens.weight"]}
    return out | {"transformer.ff_out.weight": state["lm_head.weight"]}


OLMO = {
    "d_model": 32, "n_heads": 4, "n_kv_heads": 2, "n_layers": 3, "mlp_hidden_size": 96, "activation_type": "swiglu",
    "block_type": "sequential", "alibi": False, "rope": True, "rope_theta": 10000, "include_bias": False,
    "layer_norm_type": "default", "layer_norm_with_affine": False, "layer_norm_eps": 1e-5, "weight_tying": False,
    "max_sequence_length": 128, "vocab_size": 90, "embedding_size": 90, "clip_qkv": 1.5, "flash_attention": True,
    "attention_layer_norm": False, "init_fn": "mitchell", "block_group_size": 1, "scale_logits": False,
}  # fmt: skip
OLMO2 = OLMO | {
    "clip_qkv": None, "layer_norm_type": "rms", "layer_norm_with_affine": True, "attention_layer_norm": True,
    "norm_after": True, "rope_theta": 500000,
}  # fmt: skip


def save_olmo(folder, state, config):
    import yaml

    torch.save(state, folder / "model.pt")
    optimizer = {"name": "adamw", "learning_rate": 1e-3}
    run = {"run_name": "x", "seed": 1, "model": config, "optimizer": optimizer, "fsdp": {"precision": "mixed"}}
    (folder / "config.yaml").write_text(yaml.dump(run))
    return folder / "model.pt"


@pytest.mark.parametrize("generation", [1, 2])
def test_an_unsharded_olmo_is_computed_from_its_config_yaml(tmp_path, generation):
    rope = {"rope_type": "default", "rope_theta": 5e5}
    model = model_of("olmo", clip_qkv=1.5) if generation == 1 else model_of("olmo2", rope_parameters=rope)
    path = save_olmo(tmp_path, olmo_state(model), OLMO if generation == 1 else OLMO2)
    loaded = assert_computes(path, logits_of(model))
    assert (loaded.family, loaded.context_length) == ("olmo", 128)


def test_olmo_s_sharded_folder_of_torch_new_is_computed_as_the_unsharded_one(tmp_path):
    model, folder = model_of("olmo", clip_qkv=1.5), tmp_path / "step1000"
    moments = {name: {"exp_avg": torch.zeros_like(tensor)} for name, tensor in olmo_state(model).items()}
    whole = {"model": olmo_state(model), "optim": {"state": moments}}
    dcp.save(whole, checkpoint_id=str(folder / "model_and_optim"), no_dist=True)
    save_olmo(folder, {}, OLMO).unlink()
    (folder / "train").mkdir()
    torch.save({"global_step": 1000, "epoch": 0}, folder / "train" / "rank0.pt")
    assert assert_computes(folder, logits_of(model)).family == "olmo"


@pytest.mark.parametrize(
    ("change", "what"),
    [({"rope": False, "alibi": True}, "ALiBi"), ({"rope": False}, "learned positions"), ({"n_experts": 4}, "n_experts"),
     ({"activation_type": "snake"}, "activation_type is 'snake'"), ({"layer_norm_type": "other"}, "layer_norm_type"),
     ({"n_heads": 5, "n_kv_heads": 5}, "n_heads = 5"),
     ({"embedding_size": 128}, "transformer.wte.weight"), ({"n_layers": 4}, "n_layers"),
     ({"attention_layer_norm": True}, "6 missing"), ({"include_bias": True}, "missing")],
)  # fmt: skip
def test_an_olmo_configuration_that_does_not_fit_is_refused(tmp_path, change, what):
    error = refusal(save_olmo(tmp_path, olmo_state(model_of("olmo", clip_qkv=1.5)), OLMO | change))
    assert what in error.reason and error.hint


@pytest.mark.parametrize(
    ("config", "kind", "words"),
    [
        *[
            ({"rope_scaling": {key: value for key, value in LLAMA3.items() if key != name}}, None, name)
            for name in ("factor", "low_freq_factor", "original_max_position_embeddings")
        ],
        ({"rope_parameters": LLAMA3, "rope_scaling": {"type": "linear", "factor": 2.0}}, None, "differ"),
        ({"rope_parameters": {"rope_type": "default"}}, "full_attention", "no entry for full_attention"),
    ],
)
def test_rotary_fields_that_are_missing_or_contradict_each_other_are_not_guessed(config, kind, words):
    with pytest.raises(NeedsTransformers) as caught:
        rope_of(config, 1e4, kind)
    assert words in caught.value.reason


def test_two_activations_in_one_configuration_are_refused_and_gemma_reads_its_own_field():
    with pytest.raises(CheckpointError, match="two activations"):
        activation({"hidden_act": "silu", "activation_function": "gelu"}, "silu")
    assert activation({"hidden_act": "silu", "activation_function": "silu"}, "gelu") == "silu"
    gemma = {"hidden_act": "silu", "hidden_activation": "gelu_pytorch_tanh"}
    relative = next(relative for relative in hf_llama.RELATIVES.values() if relative.gemma)
    assert hf_llama._activation("hf-gemma2", relative, gemma) == "gelu_tanh"


@pytest.mark.parametrize("family", ["hf-gemma2", "hf-gemma3_text"])
def test_a_window_that_is_null_is_refused_and_never_taken_as_the_default(family):
    with pytest.raises(CheckpointError, match="sliding_window is null"):
        windows_of(family, {"sliding_window": None}, 2)
    assert windows_of(family, {}, 2) == (4096, None if family == "hf-gemma2" else 4096)
