"""OLMo-core's Transformer from its DCP folder and config.json, against a forward pass without any code of ours."""

import json
import warnings

import pytest
import torch
import torch.distributed.checkpoint as dcp
import torch.nn.functional as F

from evalcore.archive import summarise
from evalcore.loading.checkpoint import CheckpointError, load_checkpoint

TOKENS = torch.randint(0, 61, (2, 30), generator=torch.Generator().manual_seed(0))
RMS = {
    "name": "rms",
    "eps": 1e-6,
    "bias": False,
    "dtype": "float32",
    "_CLASS_": "olmo_core.nn.layer_norm.LayerNormConfig",
}
LAYER = {"name": "default"}
ROPE = {"name": "default", "theta": 10000, "full_precision": True, "no_global_rope": False}


def config_of(norm, style, attention, **more):
    mixer = {"name": "default", "type": "attention", "n_heads": 4, "bias": False, "rope": ROPE, **attention}
    mlp = {"name": "default", "hidden_size": 40, "bias": attention.get("bias", False), "activation": "silu"}
    block = {"name": style, "sequence_mixer": mixer, "layer_norm": norm, "feed_forward": mlp}
    head = {"name": "default", "layer_norm": norm, "bias": attention.get("bias", False)}
    return {"d_model": 24, "vocab_size": 61, "n_layers": 4, "name": "default", "block": block, "lm_head": head, **more}


WINDOWS = {
    "pattern": [7, -1],
    "force_full_attention_on_first_layer": False,
    "force_full_attention_on_last_layer": True,
}
KINDS = {
    "olmo3": config_of(RMS, "reordered_norm", {"qk_norm": RMS, "sliding_window": WINDOWS}),
    "first layer sees all": config_of(
        RMS, "default", {"sliding_window": {"pattern": [5, 9, -1]}, "rope": {**ROPE, "no_global_rope": True}}
    ),
    "llama": config_of(LAYER, "default", {"n_kv_heads": 2, "bias": True, "clip_qkv": 1.5}),
    "adjacent": config_of(RMS, "default", {"rope": {**ROPE, "name": "complex"}, "head_dim": 8}, embed_scale=2.0),
    "qwen": config_of(
        RMS, "peri_norm",
        {"head_dim": 8, "qk_norm": RMS, "use_head_qk_norm": True, "rope": {**ROPE, "partial_rotary_factor": 0.5}},
        tie_word_embeddings=True,
    ),
}  # fmt: skip


def state_of(config):
    generator = torch.Generator().manual_seed(1)
    mixer, block = config["block"]["sequence_mixer"], config["block"]
    size = mixer.get("head_dim", 6)
    keys = mixer.get("n_kv_heads", 4) * size
    state = {}

    def linear(name, rows, columns, bias):
        state[f"{name}.weight"] = torch.randn(rows, columns, generator=generator) * 1.5 / columns**0.5
        if bias:
            state[f"{name}.bias"] = torch.randn(rows, generator=generator) * 0.3

    def norm(name, width, kind=block["layer_norm"]):
        state[f"{name}.weight"] = torch.randn(width, generator=generator) * 0.3 + 0.9
        if kind is LAYER:
            state[f"{name}.bias"] = torch.randn(width, generator=generator) * 0.2

    linear("embeddings", 61, 24, False)
    for i in range(4):
        at = f"blocks.{i}"
        for name, rows, columns in (("q", 4 * size, 24), ("k", keys, 24), ("v", keys, 24), ("out", 24, 4 * size)):
            linear(f"{at}.attention.w_{name}", rows, columns, mixer["bias"])
        if "qk_norm" in mixer:
            per_head = mixer.get("use_head_qk_norm")
            norm(f"{at}.attention.q_norm", size if per_head else 4 * size, RMS)
            norm(f"{at}.attention.k_norm", size if per_head else keys, RMS)
        for name, rows, columns in (("w1", 40, 24), ("w2", 24, 40), ("w3", 40, 24)):
            linear(f"{at}.feed_forward.{name}", rows, columns, mixer["bias"])
        parts = ("attention_norm", "feed_forward_norm")
        parts += ("post_attention_norm", "post_feed_forward_norm") if block["name"] == "peri_norm" else ()
        for name in parts:
            norm(f"{at}.{name}", 24)
    norm("lm_head.norm", 24)
    linear("lm_head.w_out", 61, 24, mixer["bias"])
    if config.get("tie_word_embeddings"):
        state["lm_head.w_out.weight"] = state["embeddings.weight"]
    return state


def window_of(config, layer):
    given = config["block"]["sequence_mixer"].get("sliding_window")
    if given is None:
        return None
    first, last = (given.get(f"force_full_attention_on_{end}_layer", True) for end in ("first", "last"))
    if (first and layer == 0) or (last and layer == 3):
        return None
    found = given["pattern"][(layer - 1 if first else layer) % len(given["pattern"])]
    return None if found == -1 else found


def plain_olmo_core(state, config, tokens):
    mixer, block = config["block"]["sequence_mixer"], config["block"]
    length, size, rope = tokens.shape[1], mixer.get("head_dim", 6), mixer["rope"]
    turned = int(size * rope.get("partial_rotary_factor", 1.0))
    angles = torch.outer(torch.arange(length), rope["theta"] ** -(torch.arange(0, turned, 2) / turned))
    turns = torch.polar(torch.ones_like(angles), angles)[:, None]
    distance = torch.arange(length)[:, None] - torch.arange(length)[None]

    def linear(x, name):
        return F.linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))

    def norm(x, name, kind=block["layer_norm"]):
        weight = state[f"{name}.weight"]
        if kind is LAYER:
            return F.layer_norm(x, weight.shape, weight, state[f"{name}.bias"], 1e-5)
        return x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * weight

    def rotated(x):
        part = x[..., :turned]
        if rope["name"] == "complex":
            pairs = torch.view_as_complex(part.unflatten(-1, (-1, 2)).contiguous()) * turns
            return torch.cat([torch.view_as_real(pairs).flatten(-2), x[..., turned:]], dim=-1)
        pairs = torch.complex(*(half.contiguous() for half in part.chunk(2, dim=-1))) * turns
        return torch.cat([pairs.real, pairs.imag, x[..., turned:]], dim=-1)

    def attention(x, at, window):
        q, k, v = (linear(x, f"{at}.attention.w_{name}") for name in "qkv")
        if clip := mixer.get("clip_qkv"):
            q, k, v = (t.clamp(-clip, clip) for t in (q, k, v))
        whole = "qk_norm" in mixer and not mixer.get("use_head_qk_norm")
        q, k = (norm(t, f"{at}.attention.{n}_norm", RMS) if whole else t for t, n in ((q, "q"), (k, "k")))
        q, k, v = (t.unflatten(-1, (-1, size)) for t in (q, k, v))
        if mixer.get("use_head_qk_norm"):
            q, k = norm(q, f"{at}.attention.q_norm", RMS), norm(k, f"{at}.attention.k_norm", RMS)
        if not (rope.get("no_global_rope") and window is None):
            q, k = rotated(q), rotated(k)
        k, v = (t.repeat_interleave(4 // t.shape[2], dim=2) for t in (k, v))
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / size**0.5
        seen = (distance >= 0) & (distance < (window or length))
        weights = scores.masked_fill(~seen, float("-inf")).softmax(-1)
        return linear(torch.einsum("bhqk,bkhd->bqhd", weights, v).flatten(2), f"{at}.attention.w_out")

    def mlp(x, at):
        inner = F.silu(linear(x, f"{at}.feed_forward.w1")) * linear(x, f"{at}.feed_forward.w3")
        return linear(inner, f"{at}.feed_forward.w2")

    x = state["embeddings.weight"][tokens] * config.get("embed_scale", 1.0)
    for i in range(4):
        at, window = f"blocks.{i}", window_of(config, i)
        if block["name"] == "reordered_norm":
            x = x + norm(attention(x, at, window), f"{at}.attention_norm")
            x = x + norm(mlp(x, at), f"{at}.feed_forward_norm")
            continue
        mixed = attention(norm(x, f"{at}.attention_norm"), at, window)
        x = x + (norm(mixed, f"{at}.post_attention_norm") if block["name"] == "peri_norm" else mixed)
        inner = mlp(norm(x, f"{at}.feed_forward_norm"), at)
        x = x + (norm(inner, f"{at}.post_feed_forward_norm") if block["name"] == "peri_norm" else inner)
    return linear(norm(x, "lm_head.norm"), "lm_head.w_out")


def save(folder, config, state=None):
    """As OLMo-core: model_and_optim/ is a DCP checkpoint, config.json holds the experiment, .metadata.json is last."""
    state = state_of(config) if state is None else state
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optimizer = {"state": {"embeddings.weight": {"exp_avg": torch.zeros(61, 24)}}}
        dcp.save({"model": state, "optim": optimizer}, checkpoint_id=folder / "model_and_optim", no_dist=True)
    training = {"max_sequence_length": 48, "rank_microbatch_size": 1}
    experiment = {"model": config, "dataset": {"sequence_length": 64}, "train_module": training}
    (folder / "config.json").write_text(json.dumps(experiment))
    (folder / ".metadata.json").write_text('{"version": "v2"}')
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_block_of_olmo_core_is_computed_from_its_dcp_folder(tmp_path, kind):
    folder = save(tmp_path / "step20", KINDS[kind])
    expected = plain_olmo_core(state_of(KINDS[kind]), KINDS[kind], TOKENS)
    with load_checkpoint(folder) as loaded, torch.inference_mode():
        torch.testing.assert_close(loaded.model(TOKENS), expected, rtol=1e-4, atol=2e-5)
        nats = [F.cross_entropy(x[:, :-1].double().flatten(0, 1), TOKENS[:, 1:].flatten())
                for x in (loaded.model(TOKENS), expected)]  # fmt: skip
        assert abs(nats[0] - nats[1]) < 1e-6 * nats[1]
        assert (loaded.family, loaded.context_length) == ("olmo-core", 48)
    assert summarise(folder).config_source == "sidecar:config.json"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["block"].update(name="default_scaled"), "default_scaled"),
        (lambda c: c["block"].update(feed_forward_moe={"num_experts": 8}), "block.feed_forward_moe"),
        (lambda c: c["block"]["sequence_mixer"].update(gate={"granularity": "headwise"}), "block.sequence_mixer.gate"),
        (lambda c: c["block"]["sequence_mixer"].update(name="fused"), "block.sequence_mixer.name"),
        (lambda c: c["block"]["sequence_mixer"]["rope"].update(scaling={"factor": 8.0}), "rope.scaling"),
        (lambda c: c["block"]["layer_norm"].update(eps=1e-4), "lm_head.layer_norm differs from block.layer_norm"),
        (lambda c: c.update(block_overrides={"0": {}, "1": {"name": "default"}}), "model.block_overrides"),
        (lambda c: c["block"]["feed_forward"].update(activation="relu"), "config.activation is 'relu'"),
        (lambda c: c.update(n_layers=5), "config.n_layers is 5, but the state dict holds 4 blocks"),
    ],
)
def test_what_is_not_computed_of_olmo_core_is_refused_by_name(tmp_path, change, words):
    config = json.loads(json.dumps(KINDS["olmo3"]))
    folder = save(tmp_path / "step20", config, state_of(KINDS["olmo3"]))
    change(config)
    (folder / "config.json").write_text(json.dumps({"model": config}))
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder)
    assert words in caught.value.reason
