"""Every format of the wild that cannot be evaluated as it is: one sentence on what it is, and what to do."""

import json
import sys

import pytest
import torch

from evalcore.archive import ArchiveError, probe, summarise
from evalcore.loading.checkpoint import CheckpointError, load_checkpoint
from evalcore.messages import ModelSpec
from tests.support import checkpoints as make


def answer(path):
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert caught.value.hint and "\n" not in caught.value.reason and len(caught.value.reason) < 400
    return caught.value


@pytest.mark.parametrize(
    ("save", "kind", "what", "hint"),
    [
        (make.save_deepspeed, "unsupported", "a DeepSpeed checkpoint", "zero_to_fp32.py"),
        (make.save_megatron, "unsupported", "a Megatron checkpoint", "--model-factory megatron_factory:build"),
        (make.save_modded_nanogpt, "unsupported", "modded-nanogpt", "model.factory"),
        (make.save_torchscript, "unsupported", "TorchScript", "state_dict"),
        (make.save_llmc_weights, "unsupported", "llm.c Llama weights", "export script"),
        (make.save_bare, "unsupported", "no model configuration", "[model] config"),
    ],
)
def test_files_of_other_trainers_are_answered(tmp_path, save, kind, what, hint):
    error = answer(save(tmp_path / "a.pt"))
    assert error.kind == kind and what in error.reason and hint in error.hint


def test_nanochat_and_litgpt_files_are_answered(tmp_path):
    assert "nanochat" in answer(make.save_nanochat(tmp_path)).reason
    assert answer(make.save_litgpt(tmp_path)).reason == "the configuration lacks n_head"


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (b"\x93NUMPY\1\0", "a numpy array"),
        (b"GGUF\3\0\0\0", "a GGUF file"),
        (b"PAR1" + bytes(40), "a Parquet file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        ((20240520).to_bytes(4, "little") + bytes(1020), "llm.c token data"),
        (b"\x1f\x8b\x08\0" + bytes(20), "a gzip file"),
    ],
)
def test_other_files_are_known_by_their_first_bytes(tmp_path, head, what):
    (tmp_path / "a.pt").write_bytes(head)
    error = answer(tmp_path / "a.pt")
    assert error.kind == "unsupported" and what in error.reason


def test_a_lone_safetensors_file_wants_its_config(tmp_path):
    from safetensors.torch import save_file

    state = {name: tensor for name, tensor in make.nanogpt_state().items() if name != "lm_head.weight"}
    save_file(state, tmp_path / "model.safetensors")
    error = answer(tmp_path / "model.safetensors")
    assert "no model configuration" in error.reason and "[model] config" in error.hint
    assert "without a config.json" in answer(tmp_path).reason


def test_a_lone_safetensors_file_is_the_model_of_the_config_beside_it(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(n_layer=1, n_head=2, n_embd=16, vocab_size=64, n_positions=32)
    model = transformers.GPT2LMHeadModel(config).eval()
    model.save_pretrained(tmp_path / "out")
    weights, tokens = tmp_path / "out" / "model.safetensors", torch.arange(24).reshape(2, 12)
    told = summarise(weights)
    assert (told.format, told.family, probe(weights).digest) == ("safetensors", "hf-gpt2", told.digest)
    loaded = load_checkpoint(weights, expect_digest=told.digest)
    assert (loaded.model(tokens) - model(tokens).logits).abs().max() < 1e-5
    (tmp_path / "spool").mkdir()
    copy = (tmp_path / "spool" / "1-a.safetensors").resolve()
    copy.write_bytes(weights.read_bytes())
    copy.with_suffix(".tmp").write_bytes(weights.read_bytes())
    assert probe(copy.with_suffix(".tmp")).digest == told.digest  # as the spool asks while it copies
    pinned = load_checkpoint(copy, expect_digest=told.digest, path=str(weights))  # the config stays beside the original
    assert pinned.content_digest == loaded.content_digest
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(ArchiveError) as caught:
        summarise(weights)
    assert caught.value.incomplete


def test_a_folder_with_its_model_in_one_file_is_loaded_as_that_file_and_missed_when_it_goes(tmp_path):
    place = tmp_path / "step_40"
    place.mkdir()
    saved = make.save_rosellm(place / "model.pt", step=40)
    tokens = torch.arange(24).reshape(2, 12)
    told = summarise(place)
    loaded = load_checkpoint(place, expect_digest=told.digest)
    assert (told.format, loaded.step) == ("full-folder", 40)
    assert torch.equal(loaded.model(tokens), load_checkpoint(saved).model(tokens))
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(place, expect_digest="sha256:" + "0" * 64)
    assert caught.value.kind == "superseded"
    saved.unlink()
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(place, expect_digest=told.digest)
    assert caught.value.kind == "vanished"


def test_the_tokenizer_of_a_folder_is_in_its_model_digest(tmp_path):
    from evalcore.archive.model_digest import model_digest

    place = tmp_path / "step_40"
    place.mkdir()
    make.save_rosellm(place / "model.pt", step=40)
    digests, contents = set(), set()
    for tokenizer in (None, "{}", '{"a": 1}'):
        if tokenizer is not None:
            (place / "tokenizer.json").write_text(tokenizer)
        digests.add(model_digest(summarise(place), ModelSpec()))
        contents.add(summarise(place).digest)
    assert (len(digests), len(contents)) == (3, 1)


def test_an_exported_program_is_known(tmp_path):
    program = torch.export.export(torch.nn.Linear(3, 3), (torch.zeros(1, 3),))
    torch.export.save(program, tmp_path / "a.pt2")
    assert "torch.export archive" in answer(tmp_path / "a.pt2").reason


def test_an_optimizer_file_and_a_file_without_state_are_answered(tmp_path):
    state = make.rosellm_state()
    torch.save(make.adam_state(state), tmp_path / "optim.pt")
    torch.save({"step": 3, "lr": 0.1}, tmp_path / "b.pt")
    assert "an optimizer's state" in answer(tmp_path / "optim.pt").reason
    assert "no state dict" in answer(tmp_path / "b.pt").reason


def test_an_unknown_state_dict_is_offered_a_factory(tmp_path):
    torch.save({"model": {"encoder.weight": torch.zeros(3, 3)}, "config": {"dim": 3}}, tmp_path / "a.pt")
    error = answer(tmp_path / "a.pt")
    assert error.kind == "unsupported" and "no known family" in error.reason and "model.factory" in error.hint


def test_quantised_weights_are_refused(tmp_path):
    state = {k: v.to(torch.int8) for k, v in make.rosellm_state().items()}
    torch.save({"model": state, "config": make.ROSELLM}, tmp_path / "a.pt")
    assert "int8" in answer(tmp_path / "a.pt").reason


@pytest.mark.parametrize(
    ("files", "what"),
    [
        (["model_and_optim/", "train/"], "OLMo-core"),
        (["mp_rank_00_model_states.pt", "mp_rank_01_model_states.pt"], "DeepSpeed"),
        (["zero_pp_rank_0_mp_rank_00_model_states.pt"], "DeepSpeed"),
        (["global_step100/", "latest", "zero_to_fp32.py"], "DeepSpeed"),
        (["mp_rank_00/", "mp_rank_01/"], "Megatron"),
        (["iter_0000100/", "latest_checkpointed_iteration.txt"], "a folder of Megatron checkpoints"),
        (["checkpoint-500/", "checkpoint-1000/"], "a folder of Hugging Face checkpoints"),
        (["adapter_config.json", "adapter_model.safetensors"], "an adapter"),
        (["model_00000100.bin", "DONE_00000100"], "llm.c"),
        (["epoch_0/", "recipe_state/"], "torchtune"),
        (["a.pt", "b.pt"], "a folder of checkpoint files"),
        (["notes.txt"], "no checkpoint that is known"),
    ],
)
def test_folders_of_other_trainers_are_answered(tmp_path, files, what):
    for name in files:
        (tmp_path / name).mkdir() if name.endswith("/") else (tmp_path / name).touch()
    error = answer(tmp_path)
    assert error.kind == "unsupported" and what in error.reason


def test_a_levanter_folder_is_known_by_its_metadata(tmp_path):
    (tmp_path / "metadata.json").write_text(json.dumps({"step": 7, "timestamp": "", "is_temporary": False}))
    assert "levanter" in answer(tmp_path).reason


def test_damaged_hugging_face_folders_are_refused(tmp_path):
    from safetensors.torch import save_file

    config = {"model_type": "gpt2", "n_layer": 1, "n_head": 2, "n_embd": 4, "vocab_size": 8, "n_positions": 8}
    (tmp_path / "config.json").write_text(json.dumps(config))
    weights = tmp_path / "model.safetensors"
    save_file({"wte.weight": torch.zeros(8, 4), "wpe.weight": torch.zeros(8, 4)}, weights)
    assert "holds 0 blocks" in answer(tmp_path).reason
    whole = weights.read_bytes()
    for damaged in (whole[:-1], whole + b"x", whole[:20], (1 << 60).to_bytes(8, "little") + whole[8:]):
        weights.write_bytes(damaged)
        assert answer_kind(tmp_path) == "corrupt"
    weights.unlink()
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"wte.weight": "model-1.safetensors"}}')
    assert "lacks model-1.safetensors" in answer_reason(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"wte.weight": "../../etc/passwd"}}')
    assert "is damaged" in answer_reason(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    assert answer_kind(tmp_path) == "corrupt"


def answer_kind(path):
    with pytest.raises(ArchiveError) as caught:
        summarise(path)
    return caught.value.kind


def answer_reason(path):
    with pytest.raises(ArchiveError) as caught:
        summarise(path)
    return caught.value.reason


def test_a_whole_pickled_model_evaluates_from_its_records(tmp_path):
    pytest.importorskip("transformers")
    from tests.evalcore.models.test_models import TOKENS, gpt2

    model = gpt2()
    torch.save(model, tmp_path / "whole.pt")
    with torch.inference_mode():
        expected = model(TOKENS).logits
        loaded = load_checkpoint(tmp_path / "whole.pt")
        assert (loaded.model(TOKENS) - expected).abs().max() < 1e-5
    assert any("read as data, not called" in note for note in loaded.notes)
    assert probe(tmp_path / "whole.pt").format == "zip"


def test_a_bare_state_dict_takes_its_config_from_the_file_beside_it(tmp_path):
    config = {"model_type": "gpt2", "n_layer": 2, "n_head": 2, "n_embd": 16, "vocab_size": 64, "n_positions": 32}
    (tmp_path / "config.json").write_text(json.dumps(config))
    state = make.nanogpt_state()
    linear = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
    turned = {name: t.t().contiguous() if name.endswith(linear) else t for name, t in state.items()}
    loaded = load_checkpoint(make.save_bare(tmp_path / "pytorch_model.bin", turned))
    assert loaded.family == "hf-gpt2" and loaded.model.blocks[1].up.weight.equal(
        state["transformer.h.1.mlp.c_fc.weight"]
    )


def test_names_shared_by_two_trainers_want_the_family_where_the_file_does_not_tell(tmp_path):
    path = make.save_bare(tmp_path / "a.pt")
    sizes = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 32, "vocab_size": 64}
    with pytest.raises(CheckpointError, match="differ in their GELU"):
        load_checkpoint(path, spec=ModelSpec(config=sizes))
    for family in ("nanogpt", "build-nanogpt"):
        assert load_checkpoint(path, spec=ModelSpec(config={**sizes, "family": family})).family == family
    assert load_checkpoint(path, spec=ModelSpec(config={**sizes, "bias": True})).family == "nanogpt"


def test_weights_in_a_folder_without_config_json_take_the_configuration_of_the_settings(tmp_path):
    torch.save(make.nanogpt_state(), tmp_path / "pytorch_model.bin")  # as DeepSpeed's zero_to_fp32.py leaves it
    error = answer(tmp_path)
    assert "weights without a config.json" in error.reason and "--model-config FILE" in error.hint
    alone = load_checkpoint(tmp_path / "pytorch_model.bin", spec=ModelSpec(config=make.NANOGPT))
    folder = load_checkpoint(tmp_path, spec=ModelSpec(config=make.NANOGPT))
    tokens = torch.arange(24).reshape(2, 12)
    assert torch.equal(folder.model(tokens), alone.model(tokens))
    assert "configuration from [model] config" in folder.notes


def test_a_folder_s_configuration_is_corrected_by_the_settings(tmp_path):
    transformers = pytest.importorskip("transformers")
    sizes = {"n_layer": 1, "n_head": 2, "n_embd": 16, "vocab_size": 64, "n_positions": 32}
    for inverse in (False, True):
        torch.manual_seed(0)
        config = transformers.GPT2Config(**sizes, scale_attn_by_inverse_layer_idx=inverse, layer_norm_epsilon=1e-2)
        transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / str(inverse))
    tokens = torch.arange(24).reshape(2, 12)
    plain = load_checkpoint(tmp_path / "False").model(tokens)
    other = load_checkpoint(tmp_path / "False", spec=ModelSpec(config={"layer_norm_epsilon": 1e-5})).model(tokens)
    assert not torch.equal(plain, other)
    fixed = load_checkpoint(tmp_path / "True", spec=ModelSpec(config={"scale_attn_by_inverse_layer_idx": False}))
    assert torch.equal(fixed.model(tokens), plain)


def test_names_of_llama_without_a_model_type_are_asked_about(tmp_path):
    transformers = pytest.importorskip("transformers")
    sizes = {"num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24}
    config = transformers.LlamaConfig(**sizes, vocab_size=64, max_position_embeddings=32)
    fields = {name: value for name, value in config.to_dict().items() if name != "model_type"}
    torch.save({"model": transformers.LlamaForCausalLM(config).state_dict(), "config": fields}, tmp_path / "a.pt")
    error = answer(tmp_path / "a.pt")
    assert "Gemma" in error.reason and "model_type" in error.hint
    assert load_checkpoint(tmp_path / "a.pt", spec=ModelSpec(config={"model_type": "llama"})).family == "hf-llama"


def test_a_factory_s_context_is_read_from_nested_yaml_and_its_windows_are_contiguous(tmp_path):
    (tmp_path / "contextual.py").write_text(
        "import torch\nclass M(torch.nn.Module):\n    def __init__(self, config, state):\n        super().__init__()\n"
        "        self.w = torch.nn.Parameter(state['w.weight'])\n        self.config = config.get('own')\n"
        "    def forward(self, t):\n        t.view(-1)\n        return self.w[t]\n"
        "def build(config, state):\n    return M(config, state)\n"
    )
    torch.save({"w.weight": torch.eye(8)}, tmp_path / "model.pt")
    spec = ModelSpec(factory="contextual:build", python_path=(str(tmp_path),))
    loaded = load_checkpoint(tmp_path / "model.pt", spec=spec)
    assert loaded.context_length is None  # evaluate() notes it
    strided = torch.arange(40).reshape(4, 10).remainder(8)[:, :5]  # windows of a stream are such views
    assert loaded.model.logits(strided).shape == (4, 5, 8)
    (tmp_path / "config.yaml").write_text("run: x\nmodel:\n  d_model: 8\n  n_layers: 1\n  max_sequence_length: 64\n")
    with_yaml = load_checkpoint(tmp_path / "model.pt", spec=spec)
    assert (with_yaml.context_length, with_yaml.notes) == (64, [])
    sys.path.remove(str(tmp_path))


def test_an_adapter_beside_whole_weights_is_noted(tmp_path):
    from safetensors.torch import save_file

    config = {"model_type": "gpt2", "n_layer": 1, "n_head": 2, "n_embd": 4, "vocab_size": 8, "n_positions": 8}
    wide = {"c_attn": 12, "c_proj": 4}
    state = {"wte.weight": torch.ones(8, 4), "wpe.weight": torch.ones(8, 4)}
    state |= {f"h.0.{n}.{p}": torch.ones(4) for n in ("ln_1", "ln_2") for p in ("weight", "bias")}
    state |= {f"h.0.attn.{n}.weight": torch.ones(4, w) for n, w in wide.items()}
    state |= {f"h.0.attn.{n}.bias": torch.ones(w) for n, w in wide.items()}
    state |= {"h.0.mlp.c_fc.weight": torch.ones(4, 16), "h.0.mlp.c_fc.bias": torch.ones(16)}
    state |= {"h.0.mlp.c_proj.weight": torch.ones(16, 4), "h.0.mlp.c_proj.bias": torch.ones(4)}
    state |= {"ln_f.weight": torch.ones(4), "ln_f.bias": torch.ones(4)}
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert summarise(tmp_path).note is None
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    assert "adapter too, which is not applied" in summarise(tmp_path).note
    with load_checkpoint(tmp_path) as loaded:
        assert any("adapter too, which is not applied" in note for note in loaded.notes)
