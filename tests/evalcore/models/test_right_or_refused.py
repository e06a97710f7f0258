"""Models with the same names and another forward: the right value, or a refusal whose remedy works."""

import json
import sys

import pytest
import torch
import torch.nn.functional as F

from evalcore.archive import summarise
from evalcore.archive.meaning import family
from evalcore.loading.checkpoint import CheckpointError, load_checkpoint
from evalcore.messages import ModelSpec
from evalcore.models import FAMILIES
from tests.support import checkpoints as make
from tests.support.references import NANO, plain_gpt, plain_llama, relu2, tanh_gelu

TOKENS = torch.randint(0, 64, (2, 32), generator=torch.Generator().manual_seed(0))
FIVE = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 32, "vocab_size": 64}


def big_state(scale=6.0, **args):
    """Weights large enough that two activations give clearly different logits."""
    return {name: t * (scale if t.dim() > 1 else 1) for name, t in make.nanogpt_state(args).items()}


def logits(path, **settings):
    with load_checkpoint(path, spec=ModelSpec(**settings)) as loaded, torch.inference_mode():
        return loaded.model(TOKENS), loaded


def refusal(path, **settings):
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, spec=ModelSpec(**settings))
    assert caught.value.hint
    return caught.value


def assert_computes(path, expected, **settings):
    values, loaded = logits(path, **settings)
    assert (values - expected).abs().max() < 2e-5 * max(1.0, float(expected.abs().max()))
    return loaded


def save_nano(path, state, args=None, **more):
    torch.save({"model": state, "model_args": args or make.NANOGPT, "iter_num": 7, **more}, path)
    return path


def test_the_families_of_the_archive_are_those_that_can_be_built():
    assert set(family.FAMILIES) == set(FAMILIES)


@pytest.mark.parametrize(
    ("value", "activation"),
    [("relu2", relu2), ("squared_relu", relu2), ("gelu", F.gelu), ("gelu_new", tanh_gelu), ("relu", F.relu)],
)
@pytest.mark.parametrize("place", ["model_args", "config"])
def test_a_fork_of_nanogpt_that_names_its_activation_is_computed_with_it(tmp_path, value, activation, place):
    state = big_state()
    args = {**make.NANOGPT, "activation": value} if place == "model_args" else make.NANOGPT
    globals_of_script = {"learning_rate": 1e-3, "n_layer": 2, **({"activation": value} if place == "config" else {})}
    path = save_nano(tmp_path / "a.pt", state, args, config=globals_of_script)
    assert_computes(path, plain_gpt(state, 2, activation, TOKENS, NANO))


def test_an_activation_that_the_file_does_not_name_can_be_given(tmp_path):
    state = big_state()
    path = save_nano(tmp_path / "a.pt", state)
    assert_computes(path, plain_gpt(state, 2, relu2, TOKENS, NANO), config={"activation": "relu2"})
    assert "known are gelu" in refusal(path, config={"activation": "snake"}).reason


@pytest.mark.parametrize(
    ("field", "value"),
    [("n_kv_head", 1), ("use_rope", True), ("n_loops", 3), ("logit_softcap", 15.0), ("norm_type", "rmsnorm"),
     ("parallel_residual", True), ("window_size", 8), ("token_shift", True), ("attn_temperature", 2.0)],
)  # fmt: skip
@pytest.mark.parametrize("beside", [{}, {"learning_rate": 1e-3, "batch_size": 8}])
def test_a_field_of_the_configuration_that_the_family_does_not_have_is_refused_by_name(tmp_path, field, value, beside):
    if beside and field in ("token_shift", "attn_temperature"):
        beside = {}
    path = save_nano(tmp_path / "a.pt", big_state(), {**make.NANOGPT, field: value, **beside})
    error = refusal(path)
    assert error.kind == "unsupported" and field in error.reason and "model.factory" in error.hint
    plain = plain_gpt(big_state(), 2, F.gelu, TOKENS, NANO)
    assert_computes(path, plain, config={field: False})  # the remedy that the hint names


@pytest.mark.parametrize(
    "harmless",
    [{"n_kv_head": 2, "head_dim": 8, "use_bias": True, "norm_type": "LayerNorm", "pos_emb": "learned", "causal": True},
     {"dropout": 0.2, "init_std": 0.02}, {"use_rope": False, "n_kv_head": None, "window_size": 0}, {"flash": True},
     {"pad_token_id": 3, "dtype": "bfloat16"}, {"mlp_ratio": 4}, {"tie_weights": True}, {"moe": False, "scale": 1.0}],
)  # fmt: skip
def test_fields_that_change_no_forward_pass_are_no_obstacle(tmp_path, harmless):
    path = save_nano(tmp_path / "a.pt", big_state(), {**make.NANOGPT, **harmless})
    assert_computes(path, plain_gpt(big_state(), 2, F.gelu, TOKENS, NANO))


def test_nanogpt_files_older_than_bias_have_the_tanh_gelu_and_a_note_that_says_so(tmp_path):
    args = {key: value for key, value in make.NANOGPT.items() if key != "bias"}
    state = big_state()
    path = save_nano(tmp_path / "a.pt", state, args)
    loaded = assert_computes(path, plain_gpt(state, 2, tanh_gelu, TOKENS, NANO))
    assert any("assumed activation = gelu_tanh" in note for note in loaded.notes)
    assert summarise(path).assumed == ("activation=gelu_tanh",)
    again = assert_computes(path, plain_gpt(state, 2, F.gelu, TOKENS, NANO), config={"activation": "gelu"})
    assert not any("assumed" in note for note in again.notes)


def test_nanogpt_files_with_mask_buffers_are_noted_for_their_gelu_may_be_either(tmp_path):
    state = big_state()
    masks = {f"transformer.h.{i}.attn.bias": torch.ones(32, 32).tril()[None, None] for i in range(2)}
    path = save_nano(tmp_path / "a.pt", {**state, **masks})
    loaded = assert_computes(path, plain_gpt(state, 2, F.gelu, TOKENS, NANO))
    assert any("assumed activation = gelu:" in note for note in loaded.notes)


def save_lightning(path, state, hyper_parameters):
    payload = {"state_dict": state, "global_step": 5, "pytorch-lightning_version": "2.6.0", "epoch": 0}
    torch.save({**payload, "hyper_parameters": hyper_parameters}, path)
    return path


def test_lightning_around_a_gpt_of_two_possible_families_is_asked_about(tmp_path):
    state = big_state()
    path = save_lightning(tmp_path / "a.ckpt", {f"model.{k}": v for k, v in state.items()}, {**FIVE, "lr": 0.01})
    error = refusal(path)
    assert "nanoGPT (exact GELU)" in error.reason and "build-nanogpt and minGPT (tanh GELU)" in error.reason
    assert_computes(path, plain_gpt(state, 2, F.gelu, TOKENS, NANO), config={"family": "nanogpt"})
    for tanh in ("build-nanogpt", "mingpt"):
        assert_computes(path, plain_gpt(state, 2, tanh_gelu, TOKENS, NANO), config={"family": tanh})
    assert "families are rosellm" in refusal(path, config={"family": "gpt5"}).reason


def test_prefixes_of_two_levels_metrics_and_an_ema_beside_the_weights_do_not_matter(tmp_path):
    state = big_state()
    ema = {name: tensor * 0.5 for name, tensor in state.items()}
    beside = {"train_loss.total": torch.tensor(3.0), "val_acc.correct": torch.zeros(4)}
    whole = {f"model.gpt.{k}": v for k, v in state.items()} | {f"ema_model.{k}": v for k, v in ema.items()} | beside
    path = save_lightning(tmp_path / "a.ckpt", whole, {**make.NANOGPT, "lr": 0.01})
    loaded = assert_computes(path, plain_gpt(state, 2, F.gelu, TOKENS, NANO))
    assert any("beside the model: train_loss.total" in note for note in loaded.notes)
    assert "also in the file: state_dict.ema_model" in loaded.notes
    assert_computes(path, plain_gpt(ema, 2, F.gelu, TOKENS, NANO), state="state_dict.ema_model")


def test_a_tensor_beside_the_model_that_may_be_a_part_of_it_is_never_dropped(tmp_path):
    state = {f"model.{k}": v for k, v in big_state().items()}
    adapter = save_lightning(tmp_path / "a.ckpt", {**state, "projection.weight": torch.zeros(16, 16)}, make.NANOGPT)
    assert "1 unknown: projection.weight" in refusal(adapter).reason
    biased = save_nano(tmp_path / "c.pt", {**big_state(), "transformer.h.0.attn.bias": torch.zeros(16)})
    assert "1 unknown: transformer.h.0.attn.bias" in refusal(biased).reason  # a vector is no causal mask
    metric_like = {**state, "aux_loss.weight": torch.zeros(4, 4), "aux_loss.total": torch.zeros(4)}
    assert "2 unknown" in refusal(save_lightning(tmp_path / "d.ckpt", metric_like, make.NANOGPT)).reason
    scale = save_lightning(tmp_path / "b.ckpt", {**state, "logit_scale": torch.tensor(2.0)}, make.NANOGPT)
    assert "1 unknown: logit_scale" in refusal(scale).reason


def test_a_factory_gets_every_tensor_beside_the_model_too(tmp_path):
    (tmp_path / "wants_all.py").write_text(
        "import torch\nclass M(torch.nn.Module):\n    def forward(self, t):\n        return torch.zeros(*t.shape, 3)\n"
        "def build(config, state):\n"
        "    assert {'encoder.wte.weight', 'decoder.wte.weight', 'acc.total'} == set(state)\n    return M()\n"
    )
    part = torch.zeros(3, 3)
    whole = {"encoder.wte.weight": part, "decoder.wte.weight": part, "acc.total": torch.zeros(1)}
    torch.save({"model": whole}, tmp_path / "a.pt")
    spec = ModelSpec(factory="wants_all:build", python_path=(str(tmp_path),))
    assert load_checkpoint(tmp_path / "a.pt", spec=spec).vocab_size == 3
    sys.path.remove(str(tmp_path))


def test_averaged_weights_with_their_counter_are_the_average(tmp_path):
    state = big_state()
    averaged = {f"module.{k}": v for k, v in state.items()} | {"n_averaged": torch.tensor(4)}
    torch.save({"swa_model": averaged, "config": make.NANOGPT}, tmp_path / "a.pt")
    loaded = assert_computes(tmp_path / "a.pt", plain_gpt(state, 2, F.gelu, TOKENS, NANO))
    assert "state dict swa_model" in loaded.notes


@pytest.mark.parametrize("base", [False, True])
def test_lora_adapters_are_refused_by_name_with_the_way_to_merge_them(tmp_path, base):
    lora = {"transformer.h.0.attn.c_attn.lora_A": torch.zeros(4, 16)}
    torch.save({"model": lora | (big_state() if base else {}), "config": make.NANOGPT}, tmp_path / "a.pt")
    error = refusal(tmp_path / "a.pt")
    assert "LoRA" in error.reason and "merge" in error.hint


def test_a_known_model_is_taken_before_another_network_of_the_same_file(tmp_path):
    critic = {"net.0.weight": torch.zeros(3, 3), "net.0.bias": torch.zeros(3)}
    torch.save({"critic": critic, "generator": big_state(), "config": make.NANOGPT}, tmp_path / "a.pt")
    loaded = assert_computes(tmp_path / "a.pt", plain_gpt(big_state(), 2, F.gelu, TOKENS, NANO))
    assert "also in the file: critic" in loaded.notes


def test_a_frozen_gpt_beside_the_model_does_not_take_its_place(tmp_path):
    """The usual name goes before names that are known: a factory gets the trainer's own model."""
    torch.save(
        {"helper": big_state(), "model": {"mix.weight": torch.zeros(3, 3)}, "config": {"dim": 3}}, tmp_path / "a.pt"
    )
    assert summarise(tmp_path / "a.pt").states == ["model", "helper"]
    assert "no known family" in refusal(tmp_path / "a.pt").reason


def test_a_padded_vocabulary_is_scored_over_all_its_rows_with_a_note(tmp_path):
    state = big_state()  # 64 rows
    path = save_nano(tmp_path / "a.pt", state, {**make.NANOGPT, "vocab_size": 50})
    loaded = assert_computes(path, plain_gpt(state, 2, F.gelu, TOKENS, NANO))
    assert loaded.vocab_size == 64 and any("vocabulary of 50 padded to 64 rows" in note for note in loaded.notes)
    wrong = save_nano(tmp_path / "b.pt", state, {**make.NANOGPT, "vocab_size": 70})
    assert "64 rows" in refusal(wrong).reason
    assert_computes(wrong, plain_gpt(state, 2, F.gelu, TOKENS, NANO), config={"vocab_size": 64})


LLAMA = {"dim": 24, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "vocab_size": 64, "multiple_of": 8,
         "max_seq_len": 32, "dropout": 0.0}  # fmt: skip


def llama_state(tied, seed=0):
    random = torch.Generator().manual_seed(seed)

    def make_weight(*shape):
        return torch.randn(shape, generator=random) * 0.3

    sizes = {"attention.wq": (24, 24), "attention.wk": (12, 24), "attention.wv": (12, 24), "attention.wo": (24, 24),
             "feed_forward.w1": (40, 24), "feed_forward.w2": (24, 40), "feed_forward.w3": (40, 24)}  # fmt: skip
    state = {"tok_embeddings.weight": make_weight(64, 24), "norm.weight": 1 + make_weight(24)}
    for layer in range(2):
        state |= {f"layers.{layer}.{name}.weight": make_weight(*shape) for name, shape in sizes.items()}
        state |= {f"layers.{layer}.{name}.weight": 1 + make_weight(24) for name in ("attention_norm", "ffn_norm")}
    state["output.weight"] = state["tok_embeddings.weight"] if tied else make_weight(64, 24)
    return state


@pytest.mark.parametrize("tied", [True, False])
def test_llama2c_is_computed_with_neighbouring_rotary_pairs(tmp_path, tied):
    state = llama_state(tied)
    torch.save({"model": state, "model_args": LLAMA, "iter_num": 9, "config": {"dataset": "x"}}, tmp_path / "ckpt.pt")
    loaded = assert_computes(tmp_path / "ckpt.pt", plain_llama(state, 4, 2, TOKENS))
    assert (loaded.family, loaded.context_length, loaded.step, loaded.notes) == ("llama2c", 32, 9, [])
    other = plain_llama(state, 4, 2, TOKENS, epsilon=0.1)
    assert_computes(tmp_path / "ckpt.pt", other, config={"rms_norm_eps": 0.1})
    assert "SiLU" in refusal(tmp_path / "ckpt.pt", config={"activation": "gelu"}).reason


def test_a_scaled_llama_whose_factor_is_not_in_the_file_is_asked_for_it(tmp_path):
    """8 in Llama 3.1, 32 in Llama 3.2, and nothing in the weights tells them apart."""
    state, args = llama_state(False), {**LLAMA, "use_scaled_rope": True}
    torch.save({"model": state, "model_args": args, "iter_num": 9, "config": {}}, tmp_path / "ckpt.pt")
    assert "rope_scaling_factor (Llama 3.1: 8, 3.2: 32)" in refusal(tmp_path / "ckpt.pt").hint
    values = [logits(tmp_path / "ckpt.pt", config={"rope_scaling_factor": factor})[0] for factor in (8, 32)]
    assert not torch.equal(*values)


def test_a_llama_whose_configuration_ties_its_head_may_lack_it(tmp_path):
    state = llama_state(True)
    state.pop("output.weight")
    args = {**LLAMA, "tie_word_embeddings": True}
    torch.save({"model": state, "model_args": args, "iter_num": 9, "config": {}}, tmp_path / "ckpt.pt")
    expected = plain_llama({**state, "output.weight": state["tok_embeddings.weight"]}, 4, 2, TOKENS)
    assert_computes(tmp_path / "ckpt.pt", expected)


def test_torchtune_s_folder_in_meta_s_format_is_one_file_with_params_json_beside_it(tmp_path):
    state, folder = llama_state(False), tmp_path / "epoch_0"
    folder.mkdir()
    torch.save(state, folder / "model-00001-of-00001.bin")
    (folder / "params.json").write_text(json.dumps({**LLAMA, "norm_eps": 1e-5, "rope_theta": 500000.0}))
    loaded = assert_computes(folder, plain_llama(state, 4, 2, TOKENS, theta=500000.0))
    assert (loaded.family, loaded.step) == ("llama2c", None)


def test_a_flat_torchtitan_file_is_the_model_at_its_top_level(tmp_path):
    state = llama_state(False)
    flat = {**state, "optimizer": {"state.exp_avg": torch.zeros(3)}, "train_state": {"step": torch.tensor(40)}}
    torch.save(flat, tmp_path / "a.pt")
    assert "n_heads, max_seq_len" in refusal(tmp_path / "a.pt").hint
    loaded = assert_computes(tmp_path / "a.pt", plain_llama(state, 4, 2, TOKENS), config=LLAMA)
    assert loaded.step == 40 and any("assumed rope_theta = 10000" in note for note in loaded.notes)
    theta = {**LLAMA, "rope_theta": 500000.0}
    loaded = assert_computes(tmp_path / "a.pt", plain_llama(state, 4, 2, TOKENS, theta=500000.0), config=theta)
    assert not any("assumed" in note for note in loaded.notes)


@pytest.mark.parametrize("stage", [1, 2])
def test_deepspeed_below_stage_3_holds_the_whole_model(tmp_path, stage):
    state = {name: tensor.bfloat16() for name, tensor in big_state(bias=False).items()}
    payload = {"module": state, "param_shapes": [], "global_steps": 30, "mp_world_size": 1, "ds_version": "0.19"}
    torch.save({**payload, "ds_config": {"zero_optimization": {"stage": stage}}}, tmp_path / "a.pt")
    assert "n_head" in refusal(tmp_path / "a.pt").hint
    exact = {name: tensor.float() for name, tensor in state.items()}
    loaded = assert_computes(
        tmp_path / "a.pt", plain_gpt(exact, 2, F.gelu, TOKENS, NANO), config={**make.NANOGPT, "bias": False}
    )
    assert loaded.step == 30 and any("bfloat16" in note for note in loaded.notes)
    torch.save({**payload, "mp_world_size": 2}, tmp_path / "b.pt")
    assert "holds a part of the model" in refusal(tmp_path / "b.pt", config=make.NANOGPT).reason


def test_mingpt_s_configuration_and_names_mean_the_tanh_gelu(tmp_path):
    state = big_state()
    pdrop = {"embd_pdrop": 0.1, "resid_pdrop": 0.1, "attn_pdrop": 0.1}
    torch.save({"model": state, "config": {**FIVE, **pdrop, "model_type": "gpt-nano"}}, tmp_path / "a.pt")
    assert assert_computes(tmp_path / "a.pt", plain_gpt(state, 2, tanh_gelu, TOKENS, NANO)).family == "mingpt"


@pytest.mark.parametrize("qkv_bias", [False, True])
def test_llms_from_scratch_needs_only_its_heads_said(tmp_path, qkv_bias):
    nano, state = big_state(), {}
    names = {"ln_1": "norm1", "ln_2": "norm2", "attn.c_proj": "att.out_proj", "mlp.c_fc": "ff.layers.0",
             "mlp.c_proj": "ff.layers.2"}  # fmt: skip
    parts = {"weight": "scale", "bias": "shift"}
    for layer in range(2):
        old, new = f"transformer.h.{layer}", f"trf_blocks.{layer}"
        for ours, theirs in names.items():
            for part, short in parts.items():
                end = short if ours.startswith("ln") else part
                state[f"{new}.{theirs}.{end}"] = nano[f"{old}.{ours}.{part}"]
        if not qkv_bias:
            nano[f"{old}.attn.c_attn.bias"] = torch.zeros(48)
        for part in ("weight", "bias") if qkv_bias else ("weight",):
            split = nano[f"{old}.attn.c_attn.{part}"].split(16)
            state |= {f"{new}.att.W_{n}.{part}": t for n, t in zip(("query", "key", "value"), split, strict=True)}
        state[f"{new}.att.mask"] = torch.ones(32, 32).triu(1)
    state |= {"tok_emb.weight": nano["transformer.wte.weight"], "pos_emb.weight": nano["transformer.wpe.weight"]}
    state |= {f"final_norm.{short}": nano[f"transformer.ln_f.{part}"] for part, short in parts.items()}
    nano["lm_head.weight"] = torch.randn(64, 16, generator=torch.Generator().manual_seed(3))
    torch.save({**state, "out_head.weight": nano["lm_head.weight"]}, tmp_path / "model.pth")
    assert "n_heads" in refusal(tmp_path / "model.pth").hint
    assert_computes(
        tmp_path / "model.pth", plain_gpt(nano, 2, tanh_gelu, TOKENS, NANO), config={"n_heads": 2, "qkv_bias": qkv_bias}
    )


def test_a_sidecar_is_completed_and_corrected_by_the_settings(tmp_path):
    state = big_state()
    path = make.save_bare(tmp_path / "model.pt", state)
    (tmp_path / "config.json").write_text(json.dumps({**FIVE, "n_head": 4}))
    assert "differ in their GELU" in refusal(path).reason
    expected = plain_gpt(state, 2, tanh_gelu, TOKENS, NANO)
    assert_computes(path, expected, config={"family": "build-nanogpt", "n_head": 2})


def test_a_measured_loss_far_from_the_logged_one_is_said(tmp_path):
    loaded = load_checkpoint(make.save_nanogpt(tmp_path / "a.pt"))
    assert loaded.logged_val_loss == 3.25
    assert loaded.contradiction(3.3) is None and loaded.contradiction(float("nan")) is None
    assert "logs a validation loss of 3.2500; measured is 4.7000" in (loaded.contradiction(4.7) or "")
