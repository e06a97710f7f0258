"""A key of the model's configuration that a family does not know is refused or noted by its name, in every family."""

import json
import logging
from dataclasses import dataclass

import pytest
import torch
import transformers

from evalcore.loading.checkpoint import load_checkpoint
from evalcore.models import FAMILIES, plan_model
from evalcore.models.plan import CheckpointError
from evalcore.models.values import refuse_unknown_in, unknown_notes
from tests.evalcore.models.test_litgpt import BASE as LITGPT
from tests.evalcore.models.test_litgpt import state_of as litgpt_state
from tests.evalcore.models.test_nanochat import CONFIG as NANOCHAT
from tests.evalcore.models.test_nanochat import state_of as nanochat_state
from tests.evalcore.models.test_right_or_refused import LLAMA, llama_state
from tests.support.checkpoints import NANOGPT, ROSELLM, nanogpt_state, rosellm_state

logging.getLogger("transformers").setLevel(logging.ERROR)


@dataclass(frozen=True, eq=False)  # each a tensor of its own
class Ref:
    shape: tuple[int, ...]


def refs(**shapes):
    return {name: Ref(shape) for name, shape in shapes.items()}


HF = {
    "vocab_size": 64, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 2, "max_position_embeddings": 32, "head_dim": 8,
}  # fmt: skip
FIVE = {name: value for name, value in NANOGPT.items() if name not in ("bias", "dropout")}
SCRATCH = {"n_heads": 2, "emb_dim": 16, "n_layers": 1, "context_length": 32, "vocab_size": 64, "drop_rate": 0.1}
OLMO = {
    "d_model": 16, "n_heads": 2, "n_layers": 1, "mlp_hidden_size": 48, "activation_type": "swiglu", "rope": True,
    "include_bias": False, "layer_norm_with_affine": False, "weight_tying": False, "vocab_size": 64,
    "embedding_size": 64, "init_fn": "mitchell", "precision": "amp_bf16",
}  # fmt: skip
MINIMIND = {"hidden_size": 16, "num_hidden_layers": 1, "max_position_embeddings": 32, "dropout": 0.0, "use_moe": False}
QKV = {f"model.layers.0.self_attn.{n}_proj.weight": Ref((16, 16)) for n in "qk"}
#: family -> (its configuration as its trainer writes it, its state dict)
CASES = {
    "rosellm": (ROSELLM, rosellm_state()),
    "nanogpt": (NANOGPT, nanogpt_state()),
    "build-nanogpt": (FIVE, nanogpt_state()),
    "mingpt": ({**FIVE, "embd_pdrop": 0.1, "resid_pdrop": 0.1, "attn_pdrop": 0.1}, nanogpt_state()),
    "llms-from-scratch": (SCRATCH, refs(**{
        "tok_emb.weight": (64, 16), "pos_emb.weight": (32, 16), "trf_blocks.0.ff.layers.0.weight": (64, 16),
        "out_head.weight": (64, 16)})),
    "llama2c": (LLAMA, llama_state(False)),
    "nanochat": (NANOCHAT, nanochat_state("smeared")),
    "litgpt": (LITGPT, litgpt_state(LITGPT)),
    "olmo": (OLMO, refs(**{"transformer.wte.weight": (64, 16), "transformer.blocks.0.ff_proj.weight": (48, 16)})),
    "minimind": (MINIMIND, {**refs(**{
        "model.embed_tokens.weight": (64, 16), "model.layers.0.self_attn.q_norm.weight": (8,),
        "model.layers.0.mlp.gate_proj.weight": (24, 16)}), **QKV}),
    "hf-gpt2": (transformers.GPT2Config(n_layer=1, n_head=2, n_embd=16, vocab_size=64, n_positions=32).to_dict(),
                refs(**{"h.0.ln_1.weight": (16,), "wte.weight": (64, 16)})),
    **{
        family: (transformers.AutoConfig.for_model(family[3:], **{**HF, "pad_token_id": 0}).to_dict(),
                 refs(**{"model.layers.0.input_layernorm.weight": (16,), "model.embed_tokens.weight": (64, 16)}))
        for family in FAMILIES if family.startswith("hf-") and family != "hf-gpt2"
    },
}  # fmt: skip
#: what trainers and libraries write beside the fields of the model
HARMLESS = {
    "dropout": 0.1, "init_std": 0.02, "dtype": "bfloat16", "seed": 1337, "flash": True, "pad_token_id": 3,
    "gradient_checkpointing": True, "tokenizer_path": "t.json", "attention_dropout": 0.1, "use_cache": True,
}  # fmt: skip
TRAINING = {"learning_rate": 6e-4, "batch_size": 12, "max_iters": 600_000}


def planned(family, more):
    config, state = CASES[family]
    shapes = {name: Ref(tuple(tensor.shape)) for name, tensor in state.items()}
    return plan_model(family, {**config, **more}, shapes).notes


def test_the_table_has_every_family_but_the_one_whose_nested_configuration_is_closed():
    assert {*CASES, "olmo-core"} == set(FAMILIES)
    for config in ({"my_new_temperature": 2.5}, {"block": {"my_new_temperature": 2.5}, "lm_head": {}}):
        with pytest.raises(CheckpointError, match="my_new_temperature"):
            plan_model("olmo-core", {"d_model": 16, **config}, {})


@pytest.mark.parametrize("family", CASES)
@pytest.mark.parametrize("beside", [{}, TRAINING], ids=["alone", "beside training settings"])
def test_a_key_without_a_known_meaning_is_refused_or_noted_by_its_name(family, beside):
    assert not [note for note in planned(family, beside) if "unknown" in note]
    if family.startswith(("hf-", "minimind")) or (beside and family not in ("nanochat", "litgpt", "olmo")):
        (note,) = [note for note in planned(family, {**beside, "my_new_temperature": 2.5}) if "unknown" in note]
        assert note == f"unknown to {family} and not used: my_new_temperature = '2.5'"
        return
    with pytest.raises(CheckpointError, match=r"my_new_temperature = '2\.5'") as refused:
        planned(family, {**beside, "my_new_temperature": 2.5})
    assert refused.value.kind == "unsupported"


@pytest.mark.parametrize("family", CASES)
def test_a_key_about_architecture_is_refused_and_a_word_of_training_beside_it_is_at_least_noted(family):
    with pytest.raises(CheckpointError, match="attention_temperature"):
        planned(family, {"attention_temperature": 2.0})
    assert any("attention_sink_tokens = '4'" in note for note in planned(family, {"attention_sink_tokens": 4}))
    assert any("_layer_skips = '2'" in note for note in planned(family, {"_layer_skips": 2}))


@pytest.mark.parametrize("family", CASES)
def test_what_trainers_write_beside_a_model_is_neither_refused_nor_noted(family):
    assert planned(family, HARMLESS) == planned(family, {})


@pytest.mark.parametrize("family", [family for family in CASES if family.startswith("hf-")])
def test_transformers_own_fields_are_neither_refused_nor_noted(family):
    """Every field of generation, switched on: they decide how text is sampled, not what a token's loss is."""
    generation = dict.fromkeys(transformers.GenerationConfig().to_dict(), 3)
    assert planned(family, {**generation, **CASES[family][0], "max_length": 20, "temperature": 0.7}) == []


@pytest.mark.parametrize("family", CASES)
def test_two_numbers_of_heads_are_refused_for_no_tensor_shows_which_is_right(family):
    own = next(
        n for n in ("n_head", "n_heads", "num_attention_heads", "num_heads") if n in CASES[family][0] or "m" in n
    )
    other = "num_heads" if own != "num_heads" else "n_head"
    given = {own: 2, other: 1}
    with pytest.raises(CheckpointError, match=f"{other} = '1'.*contradict"):
        planned(family, given)


def test_two_epsilons_of_different_values_are_refused_and_equal_ones_are_not():
    with pytest.raises(CheckpointError, match=r"rms_norm_eps = '0\.1'"):
        planned("llama2c", {"norm_eps": 1e-5, "rms_norm_eps": 0.1})
    assert planned("llama2c", {"norm_eps": 1e-5, "rms_norm_eps": 1e-5}) == []


@pytest.mark.parametrize(
    ("alias", "outcome"),
    [({"n_layer": 1}, None), ({"max_sequence_length": 32}, None), ({"max_sequence_length": 64}, "max_sequence_length"),
     ({"layer_norm_eps": 1e-3}, "refused"), ({"bias": True}, "refused")],
)  # fmt: skip
def test_another_familys_name_for_a_field_counts_only_with_the_value_of_the_own_one(alias, outcome):
    if outcome == "refused":
        with pytest.raises(CheckpointError, match=next(iter(alias))):
            planned("hf-llama", alias)
        return
    notes = planned("hf-llama", alias)
    assert notes == [] if outcome is None else outcome in notes[0]


@pytest.mark.parametrize(
    ("family", "field"),
    [("hf-llama", "rope_scaling"), ("hf-qwen3", "rope_parameters"), ("minimind", "rope_parameters"),
     ("llama2c", "rope_scaling"), ("litgpt", "rope_adjustments")],
)  # fmt: skip
def test_an_unknown_key_inside_a_rotary_scaling_is_refused_by_name(family, field):
    scaling = {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16, "my_new_ramp": 0.5,
    }  # fmt: skip
    with pytest.raises(CheckpointError, match="rope_adjustments is" if family == "litgpt" else "my_new_ramp"):
        planned(family, {"rope_parameters": None, "rope_scaling": None, field: scaling})
    refuse_unknown_in(field, {"factor": 2.0, "my_new_ramp": None}, ["factor"])


def test_a_folder_that_transformers_builds_says_which_keys_it_does_not_read(tmp_path):
    config = transformers.GPTNeoXConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24, vocab_size=64,
        max_position_embeddings=32, bos_token_id=1, eos_token_id=1,
    )  # fmt: skip
    transformers.GPTNeoXForCausalLM(config).save_pretrained(tmp_path)
    with load_checkpoint(tmp_path) as loaded:
        assert not any("not used" in note for note in loaded.notes)
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**values, "my_new_temperature": 2.5, "temperature": 0.7}))
    with load_checkpoint(tmp_path) as loaded, torch.inference_mode():
        assert "unknown to transformers' GPTNeoXConfig and not used: my_new_temperature = '2.5'" in loaded.notes


def test_bookkeeping_of_published_configurations_draws_no_note():
    """SmolLM2's config.json has `is_llama_config`, DistilGPT-2's `output_past`: no forward pass reads them."""
    assert unknown_notes("hf-llama", {"is_llama_config": True, "output_past": True}, (), open_ended=True) == []
