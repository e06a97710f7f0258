"""safetensors alone, minGPT by its model_type, rosellm's two GELUs, Lightning's prefixes, and the registry of facts."""

import argparse
import json
import struct

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from evalcore.archive import probe, summarise
from evalcore.loading.checkpoint import CheckpointError, load_checkpoint
from evalcore.messages import ModelSpec
from evalcore.models import FAMILIES
from tests.support import checkpoints as make
from tests.support.references import NANO, ROSE, plain_gpt, tanh_gelu

TOKENS = torch.randint(0, 64, (2, 32), generator=torch.Generator().manual_seed(0))


def big(state):
    return {name: t * (6.0 if t.dim() > 1 else 1) for name, t in state.items()}


def assert_computes(path, expected, **settings):
    with load_checkpoint(path, spec=ModelSpec(**settings)) as loaded, torch.inference_mode():
        values = loaded.model(TOKENS)
    assert (values - expected).abs().max() < 2e-5 * max(1.0, float(expected.abs().max()))
    return loaded


def refusal(path, **settings):
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, spec=ModelSpec(**settings))
    return caught.value


@pytest.fixture
def alone(tmp_path):
    """A safetensors file with nanoGPT's model; its tied head is left out, as safetensors demands."""
    state = big(make.nanogpt_state())
    saved = {name: tensor.contiguous() for name, tensor in state.items() if name != "lm_head.weight"}
    save_file(saved, tmp_path / "model_000700.safetensors", metadata={"format": "pt"})
    return tmp_path / "model_000700.safetensors", plain_gpt(state, 2, F.gelu, TOKENS, NANO)


def test_a_safetensors_file_alone_is_evaluated_with_the_configuration_beside_it(tmp_path, alone):
    path, expected = alone
    assert "no model configuration" in refusal(path).reason
    (tmp_path / "config.json").write_text(json.dumps(make.NANOGPT))
    loaded = assert_computes(path, expected)
    assert "unverified: the file carries no checksums" in loaded.notes
    assert (probe(path).format, summarise(path).family) == ("safetensors", "nanogpt")
    with pytest.raises(CheckpointError, match="safetensors format, without checksums"):
        load_checkpoint(path, require_zip=True)


def test_a_safetensors_file_that_is_cut_off_is_incomplete(alone):
    path, _ = alone
    data = path.read_bytes()
    path.write_bytes(data[:-10])
    with pytest.raises(Exception, match="cut off") as caught:
        probe(path)
    assert caught.value.incomplete


@pytest.mark.parametrize("given", [{}, {"n_layer": None, "n_head": None, "n_embd": None}])
def test_mingpt_sizes_follow_from_the_model_type_in_its_config_json(tmp_path, given):
    args = {"n_layer": 3, "n_head": 3, "n_embd": 48}
    state = big(make.nanogpt_state(args))
    state["lm_head.weight"] = torch.randn(64, 48, generator=torch.Generator().manual_seed(5))
    torch.save(state, tmp_path / "model.pt")
    model = {"model_type": "gpt-nano", **given, "vocab_size": 64, "block_size": 32, "embd_pdrop": 0.1}
    run = {
        "system": {"seed": 1},
        "model": {**model, "resid_pdrop": 0.1, "attn_pdrop": 0.1},
        "trainer": {"max_iters": 9},
    }
    (tmp_path / "config.json").write_text(json.dumps(run))
    loaded = assert_computes(tmp_path / "model.pt", plain_gpt(state, 3, tanh_gelu, TOKENS, NANO))
    assert loaded.family == summarise(tmp_path / "model.pt").family == "mingpt"


@pytest.mark.parametrize(("name", "activation"), [("gelu", F.gelu), ("gelu_new", tanh_gelu)])
def test_rosellm_has_the_activations_that_its_code_tells_apart(tmp_path, name, activation):
    state = big(make.rosellm_state())
    torch.save({"model": state, "step": 20, "config": {**make.ROSELLM, "activation": name}}, tmp_path / "a.pt")
    assert_computes(tmp_path / "a.pt", plain_gpt(state, 2, activation, TOKENS, ROSE))


def test_any_other_activation_of_rosellm_is_refused_for_its_code_computes_gelu(tmp_path):
    state = big(make.rosellm_state())
    torch.save({"model": state, "step": 20, "config": {**make.ROSELLM, "activation": "relu"}}, tmp_path / "a.pt")
    error = refusal(tmp_path / "a.pt")
    assert "config.activation is 'relu'" in error.reason and 'activation = "gelu"' in error.hint
    expected = plain_gpt(state, 2, F.gelu, TOKENS, ROSE)
    assert_computes(tmp_path / "a.pt", expected, config={"activation": "gelu"})


@pytest.mark.parametrize("prefix", ["model.", "net.gpt.", "_forward_module.model.", "model._orig_mod."])
@pytest.mark.parametrize("as_namespace", [True, False])
def test_lightning_weights_are_found_under_any_attribute(tmp_path, prefix, as_namespace):
    state = big(make.nanogpt_state())
    payload = {
        "epoch": 1, "global_step": 70, "pytorch-lightning_version": "2.6.6", "loops": {}, "callbacks": {},
        "state_dict": {prefix + name: t for name, t in state.items()} | {"val_loss.mean_value": torch.tensor(2.0)},
        "hyper_parameters": argparse.Namespace(**make.NANOGPT, lr=1e-3) if as_namespace else {"cfg": make.NANOGPT},
    }  # fmt: skip
    torch.save(payload, tmp_path / "last.ckpt")
    loaded = assert_computes(tmp_path / "last.ckpt", plain_gpt(state, 2, F.gelu, TOKENS, NANO))
    assert (loaded.family, loaded.step) == ("nanogpt", 70)


def test_lightning_s_average_is_named_and_the_trained_weights_are_beside_it(tmp_path):
    """Its callback WeightAveraging puts the average under state_dict and moves the trained weights aside."""
    trained, average = big(make.nanogpt_state()), big(make.nanogpt_state(seed=5))
    saved = torch.load(make.save_lightning(tmp_path / "a.ckpt"), weights_only=True)
    saved["state_dict"] = {f"model.{name}": tensor for name, tensor in average.items()}
    saved["current_model_state"] = {f"model.{name}": tensor for name, tensor in trained.items()}
    torch.save({**saved, "averaging_state": {"decay": 0.99}}, tmp_path / "a.ckpt")
    loaded = assert_computes(tmp_path / "a.ckpt", plain_gpt(average, 2, F.gelu, TOKENS, NANO))
    assert any("state_dict is Lightning's average" in note for note in loaded.notes)
    expected = plain_gpt(trained, 2, F.gelu, TOKENS, NANO)
    loaded = assert_computes(tmp_path / "a.ckpt", expected, state="current_model_state")
    assert not any("Lightning's average" in note for note in loaded.notes)


def test_every_family_has_facts_and_all_but_those_of_transformers_a_comparison():
    for family, (_, facts) in FAMILIES.items():
        assert facts.recognised_by and facts.step and facts.exact
        assert all(proof.difference < 1e-6 for proof in facts.proofs)
        assert facts.proofs or family == "hf-gpt2"


def write_llmc(path, state, dtype):
    """llm.c's file: 256 int32, then each kind of weight for all layers, the embedding padded to 128 rows."""
    header = [20240326, 3 if dtype == torch.float32 else 5, 32, 64, 2, 2, 16, 128]
    padded = torch.cat([state["transformer.wte.weight"], torch.full((64, 16), 9.0)])
    kinds = ["ln_1.weight", "ln_1.bias", "attn.c_attn.weight", "attn.c_attn.bias", "attn.c_proj.weight",
             "attn.c_proj.bias", "ln_2.weight", "ln_2.bias", "mlp.c_fc.weight", "mlp.c_fc.bias", "mlp.c_proj.weight",
             "mlp.c_proj.bias"]  # fmt: skip
    order = [padded, state["transformer.wpe.weight"]]
    order += [state[f"transformer.h.{i}.{kind}"] for kind in kinds for i in range(2)]
    order += [state["transformer.ln_f.weight"], state["transformer.ln_f.bias"]]
    raw = b"".join(t.to(dtype).contiguous().view(torch.uint8).numpy().tobytes() for t in order)
    path.write_bytes(struct.pack("<256i", *header, *([0] * 248)) + raw)
    return path


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_llmc_weights_are_read_without_the_padding_of_their_vocabulary(tmp_path, dtype):
    state = {name: t.to(dtype).float() for name, t in big(make.nanogpt_state()).items()}
    path = write_llmc(tmp_path / "model_00000700.bin", state, dtype)
    loaded = assert_computes(path, plain_gpt(state, 2, tanh_gelu, TOKENS, NANO))
    assert (loaded.family, loaded.vocab_size, probe(path).format) == ("build-nanogpt", 64, "llmc")
    path.write_bytes(path.read_bytes()[:-2])
    assert "cut off" in refusal(path).reason
    path.write_bytes(struct.pack("<256i", 20240326, 1, *([4] * 254)))
    assert "version 1" in refusal(path).reason
