"""Hugging Face folders with more in them than one whole save: what was read is told, and what was not."""

import json
import os

import pytest
import torch
from safetensors.torch import save_file

from evalcore.archive import summarise
from evalcore.archive.meaning.folder_notes import notes_of_folder
from evalcore.loading.checkpoint import CheckpointError, load_checkpoint
from evalcore.messages import ModelSpec
from tests.support import checkpoints as make

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 64, "hidden_size": 16,
    "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 32,
    "max_position_embeddings": 32, "rms_norm_eps": 1e-5, "tie_word_embeddings": False,
}  # fmt: skip
NOW = 1_700_000_000
FIRST, SECOND, INDEX = (
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model.safetensors.index.json",
)


def state_of(seed=0):
    drawn = torch.Generator().manual_seed(seed)
    sizes = {f"self_attn.{name}_proj": (16, 16) for name in "qkvo"}
    sizes |= {"mlp.gate_proj": (32, 16), "mlp.up_proj": (32, 16), "mlp.down_proj": (16, 32)}
    sizes |= {"input_layernorm": (16,), "post_attention_layernorm": (16,)}
    state = {f"model.layers.0.{name}.weight": torch.randn(size, generator=drawn) for name, size in sizes.items()}
    state |= {"model.embed_tokens.weight": torch.randn(64, 16, generator=drawn)}
    return state | {"model.norm.weight": torch.ones(16), "lm_head.weight": torch.randn(64, 16, generator=drawn)}


def folder_of(path, config=None, *, whole=True, times=None):
    """whole: in one file, else in two shards with their index. times: seconds after NOW of each file."""
    path.mkdir()
    (path / "config.json").write_text(json.dumps({**CONFIG, **(config or {})}))
    state = state_of()
    if whole:
        save_file(state, path / "model.safetensors")
    else:
        half = list(state)[: len(state) // 2]
        places = {name: FIRST if name in half else SECOND for name in state}
        for shard in (FIRST, SECOND):
            save_file({name: tensor for name, tensor in state.items() if places[name] == shard}, path / shard)
        (path / INDEX).write_text(json.dumps({"weight_map": places}))
    for name, at in (times or {}).items():
        os.utime(path / name, (NOW + at, NOW + at))
    return path


def notes_of(path):
    with load_checkpoint(path) as loaded:
        return "; ".join(note for note in loaded.notes if "checksums" not in note)


@pytest.mark.parametrize(
    ("times", "noted"),
    [({FIRST: 0, SECOND: 3, INDEX: 4}, False),  # one save
     ({FIRST: 900, SECOND: 3, INDEX: 4}, True),  # a later save over it that stopped after its first shard
     ({FIRST: 900, SECOND: 950, INDEX: 4}, False),  # downloaded, index first
     ({FIRST: 0, SECOND: 6, INDEX: 0}, False)],  # copied
)  # fmt: skip
def test_a_shard_that_is_newer_than_the_index_while_others_are_older_is_noted(tmp_path, times, noted):
    path = folder_of(tmp_path / "checkpoint-5", whole=False, times=times)
    assert ("may mix two saves" in notes_of(path)) is noted
    assert ("may mix two saves" in (summarise(path).note or "")) is noted


@pytest.mark.parametrize(("after", "words"), [(900, ", newer than"), (-900, "not read: pytorch_model.bin")])
def test_whole_weights_in_another_format_are_named_and_not_read(tmp_path, after, words):
    path = folder_of(tmp_path / "checkpoint-5")
    torch.save(state_of(1), path / "pytorch_model.bin")
    for name, at in (("model.safetensors", 0), ("pytorch_model.bin", after)):
        os.utime(path / name, (NOW + at, NOW + at))
    notes = notes_of(path)
    assert words in notes and ("newer" in notes) is (after > 0)
    with load_checkpoint(path) as loaded:
        assert torch.equal(loaded.model.tokens.weight, state_of()["model.embed_tokens.weight"])


@pytest.mark.parametrize(
    ("name", "noted"),
    [("LlamaForCausalLM", False), ("LLaMAForCausalLM", False), ("FSDPLlamaForCausalLM", False), ("LlamaModel", False),
     ("MyLlamaForCausalLM", True), ("LlamaForCausalLMEagle3", True), ("MistralForCausalLM", True)],
)  # fmt: skip
def test_a_class_of_the_trainer_s_own_is_named(tmp_path, name, noted):
    assert ("a class of its own" in notes_of(folder_of(tmp_path / "out", {"architectures": [name]}))) is noted


@pytest.mark.parametrize(
    ("name", "model_type"), [("HunYuanDenseV1ForCausalLM", "hunyuan_v1_dense"), ("AriaTextForCausalLM", "aria_text")]
)
def test_a_class_of_transformers_is_not_called_one_of_the_trainer_s_own(tmp_path, name, model_type):
    assert notes_of_folder(str(tmp_path), [], ["a"], {"architectures": [name], "model_type": model_type}) == []


@pytest.mark.parametrize(
    "beside", [["training_args.bin"], ["optimizer.pt", "scheduler.pt"], ["optimizer.bin", "random_states_0.pkl"]]
)
def test_a_folder_that_the_trainer_of_transformers_did_not_write_to_its_end_is_whole(tmp_path, beside):
    path = folder_of(tmp_path / "final")  # trainer.save_model(), a loop of its own, Accelerate
    for name in beside:
        (path / name).write_bytes(b"x")
    with load_checkpoint(path) as loaded:
        assert torch.equal(loaded.model.tokens.weight, state_of()["model.embed_tokens.weight"])
    (path / "rng_state.pth").write_bytes(b"x")  # the Trainer's, which writes trainer_state.json after it
    with pytest.raises(CheckpointError, match=r"trainer_state\.json") as caught:
        load_checkpoint(path)
    assert caught.value.hint


def test_an_accelerate_folder_is_evaluated_with_the_configuration_given(tmp_path):
    path = folder_of(tmp_path / "checkpoint_0")
    (path / "config.json").unlink()
    (path / "optimizer.bin").write_bytes(b"x")
    given = ModelSpec(config=CONFIG)
    with pytest.raises(CheckpointError, match="which Accelerate writes last"):
        load_checkpoint(path, spec=given)
    (path / "random_states_0.pkl").write_bytes(b"x")
    with load_checkpoint(path, spec=given) as loaded:
        assert torch.equal(loaded.model.tokens.weight, state_of()["model.embed_tokens.weight"])


def test_a_share_of_an_fsdp_model_and_a_configuration_of_another_type_are_called_so(tmp_path):
    torch.save({"model": {"_fsdp_wrapped_module._flat_param": torch.zeros(99)}, "step": 3}, tmp_path / "rank0.pt")
    with pytest.raises(CheckpointError, match="FSDP") as caught:
        load_checkpoint(tmp_path / "rank0.pt")
    assert "FULL_STATE_DICT" in caught.value.hint
    torch.save(make.nanogpt_state(), tmp_path / "model.pt")
    (tmp_path / "config.json").write_text(json.dumps({**make.NANOGPT, "model_type": "llama"}))
    with pytest.raises(CheckpointError, match="model_type is llama"):
        load_checkpoint(tmp_path / "model.pt")
    with load_checkpoint(tmp_path / "model.pt", spec=ModelSpec(config={"model_type": "gpt"})) as loaded:
        assert loaded.family == "nanogpt"


def test_quantised_weights_are_called_so_for_a_family_of_ours(tmp_path):
    path = folder_of(tmp_path / "out", {"quantization_config": {"quant_method": "gptq", "bits": 4}})
    with pytest.raises(CheckpointError, match=r"quantised.*gptq") as caught:
        load_checkpoint(path)
    assert "before quantisation" in caught.value.hint


def test_torchtune_s_recipe_state_in_the_folder_of_an_epoch_gives_the_step(tmp_path):
    path = folder_of(tmp_path / "epoch_0")
    assert summarise(path).step is None
    torch.save(
        {"optimizer": {}, "epochs_run": 1, "steps_run": 120, "seed": 1, "total_epochs": 3}, path / "recipe_state.pt"
    )
    summary = summarise(path)
    assert (summary.step, summary.step_source) == (120, "sidecar:recipe_state.pt:steps_run")
    (path / "recipe_state.pt").write_bytes(b"half of it")
    assert summarise(path).step is None


def test_torchtune_s_gemma_2_is_told_from_the_one_that_is_computed(tmp_path):
    from evalcore.archive.meaning.folder_notes import notes_of_folder

    path = folder_of(tmp_path / "epoch_0")
    gemma = {"model_type": "gemma2", "architectures": ["Gemma2ForCausalLM"]}
    for names, number in ((["model.safetensors"], 0), (["model.safetensors", "recipe_state.pt"], 1)):
        assert len(notes_of_folder(str(path), names, ["model.safetensors"], gemma)) == number
