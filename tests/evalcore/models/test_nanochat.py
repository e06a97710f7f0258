"""nanochat's files: each version of its forward pass by its keys, the bound on logits asked for where two fit."""

import json

import pytest
import torch
import torch.nn.functional as F

from evalcore.archive import summarise
from evalcore.loading.checkpoint import CheckpointError, load_checkpoint
from evalcore.measure.scorer import Scorer
from evalcore.messages import ModelSpec

CONFIG = {
    "sequence_len": 256, "vocab_size": 100, "n_layer": 3, "n_head": 4, "n_kv_head": 2, "n_embd": 32,
    "window_pattern": "SL",
}  # fmt: skip
TOKENS = torch.randint(0, 100, (2, 200), generator=torch.Generator().manual_seed(0))
#: by keys: rope base, factor on q and k, factor on the value gate, short window, channels of the gate, rounded tables
VERSIONS = {
    "first": (1e4, 1.0, None, None, 0, True),
    "lambdas": (1e4, 1.0, None, 128, 0, True),
    "values": (1e4, 1.0, 2.0, 128, 32, True),
    "tuned": (1e5, 1.15, 3.0, 128, 12, False),
    "smeared": (1e5, 1.2, 3.0, 128, 12, False),
}


def state_of(version, rows=128):
    generator = torch.Generator().manual_seed(3)

    def make(*shape, scale=None):
        return torch.randn(*shape, generator=generator) * (scale or 1.5 / shape[-1] ** 0.5)

    width, keys, channels = 32, 16, VERSIONS[version][4]
    state = {"transformer.wte.weight": make(rows, width, scale=1.0), "lm_head.weight": make(rows, width, scale=0.9)}
    for i in range(3):
        name = f"transformer.h.{i}"
        state |= {f"{name}.attn.c_q.weight": make(width, width), f"{name}.attn.c_k.weight": make(keys, width)}
        state |= {f"{name}.attn.c_v.weight": make(keys, width), f"{name}.attn.c_proj.weight": make(width, width)}
        state |= {f"{name}.mlp.c_fc.weight": make(128, width), f"{name}.mlp.c_proj.weight": make(width, 128)}
        if channels and i % 2 == 0:
            state[f"{name}.attn.ve_gate.weight"] = make(2, channels, scale=0.7)
            state[f"value_embeds.{i}.weight"] = make(rows, keys, scale=1.0)
    if version != "first":
        state |= {"resid_lambdas": make(3, scale=0.2) + 0.9, "x0_lambdas": make(3, scale=0.2) + 0.4}
    if version == "smeared":
        state |= {"smear_gate.weight": make(1, 24), "smear_lambda": make(1, scale=1.0), "backout_lambda": make(1)}
    return state


def norm(x):
    return x / (x.pow(2).mean(-1, keepdim=True) + torch.finfo(torch.float32).eps).sqrt()


def plain_nanochat(state, tokens, version, *, cap=15.0, pattern="SLL"):
    """nanochat's forward written from its description: complex rotation, explicit mask and softmax, no code of ours."""
    theta, sharp, gating, short, channels, rounded = VERSIONS[version]
    length = tokens.shape[1]
    angles = torch.outer(torch.arange(length).float(), theta ** -(torch.arange(0, 8, 2).float() / 8))
    cos, sin = (t.bfloat16().float() if rounded else t for t in (angles.cos(), angles.sin()))
    turns = torch.complex(cos, -sin)
    distance = torch.arange(length)[:, None] - torch.arange(length)[None]
    x = norm(state["transformer.wte.weight"][tokens])
    if version == "smeared":
        gate = state["smear_lambda"] * torch.sigmoid(x[:, 1:, :24] @ state["smear_gate.weight"].T)
        x = torch.cat([x[:, :1], x[:, 1:] + gate * x[:, :-1]], dim=1)
    x0 = middle = x
    for i in range(3):
        name = f"transformer.h.{i}"
        if version != "first":
            x = state["resid_lambdas"][i] * x + state["x0_lambdas"][i] * x0
        h = norm(x)
        q, k, v = ((h @ state[f"{name}.attn.c_{n}.weight"].T).unflatten(-1, (-1, 8)) for n in "qkv")
        if gating and i % 2 == 0:
            gate = gating * torch.sigmoid(h[..., :channels] @ state[f"{name}.attn.ve_gate.weight"].T)
            v = v + gate[..., None] * state[f"value_embeds.{i}.weight"][tokens].unflatten(-1, (2, 8))
        turned = []
        for t in (q, k):
            pairs = torch.complex(t[..., :4].contiguous(), t[..., 4:].contiguous()) * turns[:, None]
            turned.append(norm(torch.cat([pairs.real, pairs.imag], dim=-1)) * sharp)
        q, (k, v) = turned[0], (t.repeat_interleave(2, dim=2) for t in (turned[1], v))
        seen = (distance >= 0) & ((distance <= short) if pattern[i] == "S" and short else (distance >= 0))
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / 8**0.5
        weights = scores.masked_fill(~seen, float("-inf")).softmax(-1)
        x = x + torch.einsum("bhqk,bkhd->bqhd", weights, v).flatten(2) @ state[f"{name}.attn.c_proj.weight"].T
        x = x + (norm(x) @ state[f"{name}.mlp.c_fc.weight"].T).clamp_min(0) ** 2 @ state[f"{name}.mlp.c_proj.weight"].T
        middle = x if i == 1 else middle
    x = norm(x - state["backout_lambda"] * middle if version == "smeared" else x)
    return cap * torch.tanh((x @ state["lm_head.weight"].T)[..., :100] / cap)


def save(folder, state, config=None, **more):
    path = folder / "model_000700.pt"
    torch.save(state, path)
    beside = {"user_config": {"depth": 3, "head_dim": 128, "window_pattern": "L", "aspect_ratio": 64}, "val_bpb": 1.0}
    (folder / "meta_000700.json").write_text(json.dumps({"step": 700, "model_config": config or CONFIG, **beside}))
    return path


def refusal(path, **settings):
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, spec=ModelSpec(**settings))
    return caught.value


def assert_computes(path, expected, **settings):
    with load_checkpoint(path, spec=ModelSpec(**settings)) as loaded, torch.inference_mode():
        values = loaded.model(TOKENS)
        scorer = Scorer(loaded.model, torch.device("cpu"), "float32")
        with scorer.running():
            nats = scorer.nats(TOKENS[:, :-1], TOKENS[:, 1:], 0)
    assert (values - expected).abs().max() < 2e-5 * float(expected.abs().max())
    wanted = F.cross_entropy(expected[:, :-1].flatten(0, 1), TOKENS[:, 1:].flatten(), reduction="none")
    assert abs(nats.mean() - wanted.mean()) < 1e-6 * wanted.mean()
    return loaded


@pytest.mark.parametrize("version", ["first", "lambdas", "tuned", "smeared"])
def test_each_version_of_nanochat_is_computed_as_its_keys_say(tmp_path, version):
    state = state_of(version)
    config = {k: v for k, v in CONFIG.items() if version != "first" or k != "window_pattern"}
    path = save(tmp_path, {f"_orig_mod.{name}": tensor for name, tensor in state.items()}, config)
    loaded = assert_computes(path, plain_nanochat(state, TOKENS, version))
    assert (loaded.vocab_size, loaded.context_length, loaded.step) == (100, 256, 700)


def test_the_bound_on_logits_is_asked_for_where_two_versions_have_the_same_keys(tmp_path):
    state = state_of("values")
    path = save(tmp_path, state)
    error = refusal(path)
    assert error.kind == "unsupported" and "logit_cap = 15 or logit_cap = 20 in [model] config" in error.hint
    for cap in (15, 20):
        assert_computes(path, plain_nanochat(state, TOKENS, "values", cap=cap), config={"logit_cap": cap})


def test_a_vocabulary_that_is_not_padded_is_read_too(tmp_path):
    state = state_of("smeared", rows=100)
    assert_computes(save(tmp_path, state), plain_nanochat(state, TOKENS, "smeared"))


def test_what_no_version_of_nanochat_has_is_refused_by_name(tmp_path):
    state = state_of("smeared")
    path = save(tmp_path, {**state, "bigram_lambdas": torch.ones(3)})
    assert "bigram_lambdas" in refusal(path).reason
    path = save(tmp_path, {**state, "mtp_head.weight": torch.ones(3, 3)})
    assert "1 unknown: mtp_head.weight" in refusal(path).reason
    path = save(tmp_path, {k: v for k, v in state.items() if k != "backout_lambda"})
    assert "1 missing: backout_lambda" in refusal(path).reason
    path = save(tmp_path, state, {**CONFIG, "n_experts": 4})
    assert "n_experts = '4'" in refusal(path).reason
    path = save(tmp_path, state, {**CONFIG, "window_pattern": "SLM"})
    assert "window_pattern is 'SLM'" in refusal(path).reason
    path = save(tmp_path, state, {**CONFIG, "n_embd": 64})
    assert refusal(path).kind == "shape"


def test_a_window_of_one_token_is_evaluated(tmp_path):
    state = state_of("smeared")
    with load_checkpoint(save(tmp_path, state)) as loaded, torch.inference_mode():
        alone, longer = loaded.model(TOKENS[:, :1]), loaded.model(TOKENS[:, :5])
    assert torch.allclose(alone[:, 0], longer[:, 0], atol=1e-5)


def test_inspect_names_the_family_and_reads_the_step_beside_it(tmp_path):
    summary = summarise(save(tmp_path, state_of("smeared")))
    assert (summary.family, summary.step) == ("nanochat", 700)
    assert summary.config == CONFIG and summary.config_source == "sidecar:meta_000700.json"


def test_without_its_meta_file_the_answer_says_what_to_give(tmp_path):
    path = save(tmp_path, state_of("smeared"))
    (tmp_path / "meta_000700.json").unlink()
    assert "n_kv_head" in refusal(path).hint
    assert_computes(path, plain_nanochat(state_of("smeared"), TOKENS, "smeared"), config=CONFIG)
