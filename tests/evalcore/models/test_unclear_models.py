"""Fields, tensors and names that leave open which forward pass is meant: the right value, or a refusal that helps."""

import pytest
import torch
import torch.nn.functional as F

from evalcore.loading.checkpoint import CheckpointError, load_checkpoint
from evalcore.messages import ModelSpec
from tests.support import checkpoints as make
from tests.support.references import NANO, plain_gpt

TOKENS = torch.randint(0, 64, (2, 32), generator=torch.Generator().manual_seed(0))
TRAINING = {"learning_rate": 1e-3, "batch_size": 8}
LLAMA = {
    "model_type": "llama", "vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 2, "intermediate_size": 32, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
}  # fmt: skip


def state_of(seed=0):
    """Weights large enough that another forward pass gives clearly different logits."""
    return {name: t * (6 if t.dim() > 1 else 1) for name, t in make.nanogpt_state(seed=seed).items()}


STATE, OTHER = state_of(), state_of(5)


def expected(state=STATE):
    return plain_gpt(state, 2, F.gelu, TOKENS, NANO)


def save(path, args=None, **more):
    torch.save({"model": STATE, "model_args": {**make.NANOGPT, **(args or {})}, "iter_num": 7, **more}, path)
    return path


def refusal(path, **settings):
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, spec=ModelSpec(**settings))
    assert caught.value.hint
    return caught.value


def assert_computes(path, logits, **settings):
    with load_checkpoint(path, spec=ModelSpec(**settings)) as loaded, torch.inference_mode():
        assert (loaded.model(TOKENS) - logits).abs().max() < 2e-5 * max(1.0, float(logits.abs().max()))
        return loaded


@pytest.mark.parametrize(
    ("field", "value", "neutral"),
    [("recurrent_steps", 4, False), ("sliding_window_tokens", 8, False), ("window_size_schedule", [4, 8], False),
     ("thinking_steps", 3, False), ("parallel_residual", 1, False), ("use_parallel_block", 1, False),
     ("attn_scale", 1.0, False), ("softmax_scale", 1.0, False), ("use_wpe", False, True), ("pre_ln", False, True),
     ("scale_attn_weights", False, True), ("causal_mask", False, True), ("attn_mask", "none", "causal")],
)  # fmt: skip
@pytest.mark.parametrize("beside", [{}, TRAINING])
def test_a_count_or_a_switch_that_changes_the_forward_pass_is_refused_by_name(tmp_path, field, value, neutral, beside):
    path = save(tmp_path / "a.pt", {field: value, **beside})
    error = refusal(path)
    assert error.kind == "unsupported" and field in error.reason
    assert_computes(path, expected(), config={field: neutral})


@pytest.mark.parametrize("field", ["softmax1", "use_nope", "deepnorm", "bitnet", "qat", "qknorm", "mqa", "universal"])
def test_words_of_architecture_count_beside_training_fields_too(tmp_path, field):
    assert field in refusal(save(tmp_path / "a.pt", {field: True, **TRAINING})).reason


@pytest.mark.parametrize("place", ["config", "train_config", "run_settings", "cli_args"])
@pytest.mark.parametrize(("field", "value"), [("window_sizes", [4, 8]), ("logit_softcap", 15.0)])
def test_architecture_in_a_configuration_of_another_name_counts(tmp_path, place, field, value):
    path = save(tmp_path / "a.pt", **{place: {**TRAINING, field: value}})
    assert field in refusal(path).reason
    measured = save(tmp_path / "b.pt", metrics={"attn_entropy": 2.3, "logit_max": 9.0})
    assert_computes(measured, expected())  # numbers about the model are no configuration


def test_fields_of_training_with_the_same_words_are_no_obstacle(tmp_path):
    harmless = {"ema_window": 10, "warmup_steps": 5, "residual_scale": 1.0, "tensor_parallel": 1, "is_causal": True,
                "eval_iters": 200, "attn_mask": "causal", "use_abs_pos": True, "scale_attn_weights": True}  # fmt: skip
    assert_computes(save(tmp_path / "a.pt", {**harmless, **TRAINING}), expected())


@pytest.mark.parametrize("names", [{"n_head": 2, "num_heads": 4}, {"norm_eps": 1e-5, "layer_norm_eps": 1e-3}])
def test_two_names_that_give_different_numbers_are_asked_about(tmp_path, names):
    path = save(tmp_path / "a.pt", names)
    assert all(name in refusal(path).reason for name in names)
    assert_computes(path, expected(), config=dict.fromkeys(names, next(iter(names.values()))))


def test_a_head_that_differs_although_the_configuration_ties_it_is_asked_about(tmp_path):
    untied = {**STATE, "lm_head.weight": OTHER["lm_head.weight"].clone()}
    copied = {**STATE, "lm_head.weight": STATE["lm_head.weight"].clone()}
    path = save(tmp_path / "a.pt", {"tie_weights": True}, model=untied)
    error = refusal(path)
    assert "tie_weights is true" in error.reason and "tie_weights = false" in error.hint
    assert_computes(path, expected(untied), config={"tie_weights": False})
    assert_computes(save(tmp_path / "b.pt", {"tie_weights": True}, model=copied), expected())
    assert_computes(save(tmp_path / "c.pt", model=untied), expected(untied))  # nanoGPT's file says nothing of tying


@pytest.mark.parametrize(("first", "second"), [("best", "current"), ("net_a", "net_b"), ("ema_slow", "ema_fast")])
def test_two_models_under_names_that_say_nothing_are_asked_about(tmp_path, first, second):
    torch.save({first: STATE, second: OTHER, "config": make.NANOGPT}, tmp_path / "a.pt")
    error = refusal(tmp_path / "a.pt")
    assert first in error.reason and second in error.reason and "--model-state" in error.hint
    assert_computes(tmp_path / "a.pt", expected(OTHER), state=second)


def test_two_models_in_one_state_dict_are_asked_about_and_an_average_is_not_one_of_them(tmp_path):
    def saved(name, a, b):
        whole = {f"{a}.{k}": v for k, v in STATE.items()} | {f"{b}.{k}": v for k, v in OTHER.items()}
        torch.save({"state_dict": whole, "config": make.NANOGPT}, tmp_path / name)
        return tmp_path / name

    assert "state_dict.critic" in refusal(saved("a.pt", "actor", "critic")).reason
    assert_computes(tmp_path / "a.pt", expected(OTHER), state="state_dict.critic")
    assert "state_dict.draft_model" in refusal(saved("b.pt", "draft_model", "target_model")).reason
    assert_computes(saved("c.pt", "model", "ema"), expected())
    assert_computes(saved("d.pt", "teacher", "student"), expected(OTHER))


def llama(path, **fields):
    random = torch.Generator().manual_seed(0)
    state = {"model.embed_tokens.weight": torch.randn(64, 16, generator=random), "model.norm.weight": torch.ones(16)}
    shapes = {"self_attn.q_proj": (16, 16), "self_attn.k_proj": (16, 16), "self_attn.v_proj": (16, 16),
              "self_attn.o_proj": (16, 16), "mlp.gate_proj": (32, 16), "mlp.up_proj": (32, 16),
              "mlp.down_proj": (16, 32), "input_layernorm": (16,), "post_attention_layernorm": (16,)}  # fmt: skip
    state |= {f"model.layers.0.{n}.weight": torch.randn(s, generator=random) for n, s in shapes.items()}
    state["lm_head.weight"] = torch.randn(64, 16, generator=random)
    torch.save({"model": state, "config": {**LLAMA, **fields}}, path)
    return path


def test_a_llama_with_code_of_its_own_or_another_head_than_its_configuration_says_is_refused(tmp_path):
    plain = load_checkpoint(llama(tmp_path / "a.pt")).model(TOKENS)
    own = llama(tmp_path / "b.pt", auto_map={"AutoModelForCausalLM": "modeling_mine.Mine"})
    assert "modeling_mine" in refusal(own).reason
    assert_computes(own, plain, config={"auto_map": False})
    tied = llama(tmp_path / "c.pt", tie_word_embeddings=True)
    assert "lm_head.weight differs" in refusal(tied).reason
    assert_computes(tied, plain, config={"tie_word_embeddings": False})
    assert_computes(llama(tmp_path / "d.pt", is_causal=True), plain)
    assert "is_causal" in refusal(llama(tmp_path / "e.pt", is_causal=False)).reason
