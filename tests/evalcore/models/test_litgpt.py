"""litgpt's lit_model.pth beside its model_config.yaml: its classes, both layouts of attention, and refusals."""

import pytest
import torch
import torch.nn.functional as F

from evalcore.archive import summarise
from evalcore.loading.checkpoint import CheckpointError, load_checkpoint
from evalcore.messages import ModelSpec

TOKENS = torch.randint(0, 60, (2, 40), generator=torch.Generator().manual_seed(0))
BASE = {
    "name": "tiny", "hf_config": {"name": "tiny", "org": "us"}, "block_size": 64, "n_layer": 2, "n_embd": 32,
    "n_head": 4, "head_size": 8, "n_query_groups": 2, "vocab_size": 60, "padded_vocab_size": 64, "norm_eps": 1e-5,
    "parallel_residual": False, "shared_attention_norm": False, "bias": False, "attn_bias": False, "n_expert": 0,
    "norm_class_name": "RMSNorm", "mlp_class_name": "LLaMAMLP", "intermediate_size": 48, "rotary_percentage": 1.0,
    "rope_base": 10000, "rope_adjustments": None, "norm_1": True, "norm_2": True, "latent_attention": None,
}  # fmt: skip
KINDS = {
    "pythia": {
        "parallel_residual": True, "bias": True, "norm_class_name": "LayerNorm", "mlp_class_name": "GptNeoxMLP",
        "rotary_percentage": 0.5, "n_query_groups": 4, "gelu_approximate": "none",
    },
    "phi": {
        "parallel_residual": True, "shared_attention_norm": True, "bias": True, "norm_class_name": "LayerNorm",
        "mlp_class_name": "GptNeoxMLP", "rotary_percentage": 0.5, "gelu_approximate": "tanh", "lm_head_bias": True,
    },
    "llama": {},
    "qwen": {"attn_bias": True, "norm_qk": True, "head_size": 16, "rope_base": 1000000},
    "gemma2": {
        "name": "Gemma-2-tiny", "scale_embeddings": True, "attention_scores_scalar": 20, "post_attention_norm": True,
        "post_mlp_norm": True, "attention_logit_softcapping": 5.0, "final_logit_softcapping": 3.0,
        "sliding_window_size": 7, "sliding_window_indices": [1, 0, 1], "mlp_class_name": "GemmaMLP",
        "gelu_approximate": "tanh",
    },
}  # fmt: skip


def state_of(config):
    generator = torch.Generator().manual_seed(1)

    def linear(name, rows, columns, bias):
        made = {f"{name}.weight": torch.randn(rows, columns, generator=generator) * 1.5 / columns**0.5}
        return made | ({f"{name}.bias": torch.randn(rows, generator=generator) * 0.3} if bias else {})

    def norm(name, size):
        made = {f"{name}.weight": torch.randn(size, generator=generator) * 0.3 + 0.9}
        layer = config["norm_class_name"] == "LayerNorm"
        return made | ({f"{name}.bias": torch.randn(size, generator=generator) * 0.2} if layer else {})

    width, inner, bias = config["n_embd"], config["intermediate_size"], config["bias"]
    heads, groups, size = config["n_head"], config["n_query_groups"], config["head_size"]
    state = linear("lm_head", 64, width, config.get("lm_head_bias", False))
    state |= linear("transformer.wte", 64, width, False) | norm("transformer.ln_f", width)
    for i in range(2):
        block = f"transformer.h.{i}"
        state |= norm(f"{block}.norm_1", width)
        state |= {} if config["shared_attention_norm"] else norm(f"{block}.norm_2", width)
        state |= linear(f"{block}.attn.qkv", (heads + 2 * groups) * size, width, bias or config["attn_bias"])
        state |= linear(f"{block}.attn.proj", width, heads * size, bias)
        if config.get("norm_qk"):
            state |= norm(f"{block}.attn.norm_q", size) | norm(f"{block}.attn.norm_k", size)
        if config.get("post_mlp_norm"):
            state |= norm(f"{block}.post_attention_norm", width) | norm(f"{block}.post_mlp_norm", width)
        plain = config["mlp_class_name"] == "GptNeoxMLP"
        for part in ("fc",) if plain else ("fc_1", "fc_2"):
            state |= linear(f"{block}.mlp.{part}", inner, width, bias)
        state |= linear(f"{block}.mlp.proj", width, inner, bias)
    return state


def plain_litgpt(state, c, tokens):
    """The forward by litgpt's description of its fields: explicit masks, complex rotation, no code of ours."""
    length, size, groups = tokens.shape[1], c["head_size"], c["n_query_groups"]
    turned = int(c["rotary_percentage"] * size)
    angles = torch.outer(torch.arange(length), c["rope_base"] ** -(torch.arange(0, turned, 2) / turned))
    turns = torch.polar(torch.ones_like(angles), angles)[:, None]
    distance = torch.arange(length)[:, None] - torch.arange(length)[None]
    gelu = lambda x: F.gelu(x, approximate=c.get("gelu_approximate", "none"))  # noqa: E731

    def linear(x, name):
        return F.linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))

    def norm(x, name):
        weight = state[f"{name}.weight"]
        if c["norm_class_name"] == "LayerNorm":
            return F.layer_norm(x, weight.shape, weight, state[f"{name}.bias"], c["norm_eps"])
        scale = (x.pow(2).mean(-1, keepdim=True) + c["norm_eps"]).sqrt()
        return x / scale * (1 + weight if "Gemma" in c["name"] else weight)

    def rotated(x):
        half = turned // 2
        pairs = torch.complex(x[..., :half].contiguous(), x[..., half:turned].contiguous()) * turns
        return torch.cat([pairs.real, pairs.imag, x[..., turned:]], dim=-1)

    def attention(x, block, windowed):
        q, k, v = linear(x, f"{block}.attn.qkv").split([4 * size, groups * size, groups * size], dim=-1)
        q, k, v = (t.unflatten(-1, (-1, size)) for t in (q, k, v))
        if c.get("norm_qk"):
            q, k = norm(q, f"{block}.attn.norm_q"), norm(k, f"{block}.attn.norm_k")
        q, k = rotated(q), rotated(k)
        k, v = (t.repeat_interleave(4 // groups, dim=2) for t in (k, v))
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / c.get("attention_scores_scalar", size) ** 0.5
        if cap := c.get("attention_logit_softcapping"):
            scores = cap * torch.tanh(scores / cap)
        seen = (distance >= 0) & (distance < (c["sliding_window_size"] if windowed else length))
        weights = scores.masked_fill(~seen, float("-inf")).softmax(-1)
        return linear(torch.einsum("bhqk,bkhd->bqhd", weights, v).flatten(2), f"{block}.attn.proj")

    def mlp(x, block):
        if c["mlp_class_name"] == "GptNeoxMLP":
            return linear(gelu(linear(x, f"{block}.mlp.fc")), f"{block}.mlp.proj")
        act = F.silu if c["mlp_class_name"] == "LLaMAMLP" else gelu
        return linear(act(linear(x, f"{block}.mlp.fc_1")) * linear(x, f"{block}.mlp.fc_2"), f"{block}.mlp.proj")

    x = state["transformer.wte.weight"][tokens] * (c["n_embd"] ** 0.5 if c.get("scale_embeddings") else 1)
    for i in range(2):
        block = f"transformer.h.{i}"
        normed = norm(x, f"{block}.norm_1")
        mixed = attention(normed, block, bool(c.get("sliding_window_indices", [0, 0])[i]))
        mixed = norm(mixed, f"{block}.post_attention_norm") if c.get("post_attention_norm") else mixed
        if c["parallel_residual"]:
            x = x + mixed + mlp(normed if c["shared_attention_norm"] else norm(x, f"{block}.norm_2"), block)
        else:
            x = x + mixed
            inner = mlp(norm(x, f"{block}.norm_2"), block)
            x = x + (norm(inner, f"{block}.post_mlp_norm") if c.get("post_mlp_norm") else inner)
    logits = linear(norm(x, "transformer.ln_f"), "lm_head")
    cap = c.get("final_logit_softcapping")
    return cap * torch.tanh(logits / cap) if cap else logits


def by_group(state, c):
    """The layout of litgpt before `qkv`: for each group its queries, its key, its value."""
    size, out = c["head_size"], {}
    for name, tensor in state.items():
        if ".attn.qkv." in name:
            name = name.replace(".qkv.", ".attn.")
            parts = tensor.split([4 * size, c["n_query_groups"] * size, c["n_query_groups"] * size])
            groups = zip(*(part.chunk(c["n_query_groups"]) for part in parts), strict=True)
            tensor = torch.cat([torch.cat(group) for group in groups])
        out[name] = tensor
    return out


def save(folder, state, config):
    import yaml

    path = folder / "lit_model.pth"
    payload = {"model": state, "optimizer": {}, "train_dataloader": {}, "iter_num": 160, "step_count": 40}
    torch.save(payload, path)
    (folder / "model_config.yaml").write_text(yaml.dump(config))
    return path


def refusal(path, **settings):
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, spec=ModelSpec(**settings))
    return caught.value


def assert_computes(path, expected, **settings):
    with load_checkpoint(path, spec=ModelSpec(**settings)) as loaded, torch.inference_mode():
        values = loaded.model(TOKENS)
    assert (values - expected).abs().max() < 2e-5 * float(expected.abs().max())
    return loaded


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", ["qkv", "by group"])
def test_each_class_of_litgpt_is_computed_from_its_yaml_in_both_layouts(tmp_path, kind, layout):
    config = BASE | KINDS[kind]
    state = state_of(config)
    path = save(tmp_path, state if layout == "qkv" else by_group(state, config), config)
    loaded = assert_computes(path, plain_litgpt(state, config, TOKENS))
    assert (loaded.family, loaded.step, loaded.context_length) == ("litgpt", 40, 64)
    assert "vocabulary of 60 padded to 64 rows: the loss is over all rows" in loaded.notes


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mlp_class_name", "LLaMAMoE"), ("norm_class_name", "CrossNorm"), ("n_expert", 4), ("norm_qk_type", "other"),
        ("latent_attention", {"q_lora_rank": 4}), ("attention_sink", True), ("gelu_approximate", "sigmoid"),
        ("rope_adjustments", {"factor": 2.0, "beta_fast": 32, "beta_slow": 1, "original_max_seq_len": 32}),
        ("post_attention_norm", True), ("rope_local_base_freq", 20000), ("rotary_percentage", 0.4),
    ],
)  # fmt: skip
def test_a_field_of_the_yaml_that_is_not_known_or_has_an_unknown_value_is_refused_by_name(tmp_path, field, value):
    config = BASE | {field: value}
    error = refusal(save(tmp_path, state_of(BASE), config))
    assert error.kind == "unsupported" and "model.factory" in error.hint
    assert field in error.reason or "rotary positions on 3 of 8" in error.reason


@pytest.mark.parametrize(("field", "value"), [("n_head", 3), ("n_layer", 3), ("n_embd", 64), ("vocab_size", 500)])
def test_a_yaml_of_another_model_is_refused(tmp_path, field, value):
    config = {k: v for k, v in BASE.items() if k != "padded_vocab_size"} | {"padding_multiple": 64, field: value}
    assert refusal(save(tmp_path, state_of(BASE), config)).kind == "shape"


def test_missing_and_unknown_weights_are_named(tmp_path):
    state = state_of(BASE)
    path = save(tmp_path, {**state, "transformer.h.0.attn.gating_factor": torch.ones(1, 1, 4, 1)}, BASE)
    assert "1 unknown: transformer.h.0.attn.gating_factor" in refusal(path).reason
    path = save(tmp_path, {k: v for k, v in state.items() if k != "transformer.h.1.norm_2.weight"}, BASE)
    assert "1 missing: transformer.h.1.norm_2.weight" in refusal(path).reason


def test_model_config_yaml_has_precedence_over_the_config_json_that_a_download_left(tmp_path):
    path = save(tmp_path, state_of(BASE), BASE)
    (tmp_path / "config.json").write_text('{"model_type": "llama", "num_attention_heads": 4, "hidden_size": 32}')
    assert summarise(path).config_source == "sidecar:model_config.yaml"
    assert_computes(path, plain_litgpt(state_of(BASE), BASE, TOKENS))
