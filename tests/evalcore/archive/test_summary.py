"""What `summarise` and `probe` say about the files that trainers write, without torch and without running anything."""

import hashlib
import json
import subprocess
import sys

import pytest
import torch

from evalcore.archive import ArchiveError, probe, summarise
from tests.support import checkpoints as make


def test_rosellm_file_tells_step_family_config_and_parameters(tmp_path):
    path = make.save_rosellm(tmp_path / "minigpt_000020.pt", step=20, tied=True)
    told = summarise(path)
    unique = {t.data_ptr(): t.numel() for t in make.rosellm_state(tied=True).values()}
    assert (told.format, told.step, told.step_source, told.family) == ("zip", 20, "payload:step", "rosellm")
    assert told.config == make.ROSELLM and told.config_class is None
    assert told.parameters == sum(unique.values())
    assert ("token_embedding.weight", "float32", (64, 16)) in told.tensors
    assert told.states == ["model"] and told.custom_names == [] and told.note is None and not told.unverified


def test_nanogpt_config_is_its_model_args_and_its_loss_a_tensor_in_the_file(tmp_path):
    told = summarise(make.save_nanogpt(tmp_path / "ckpt.pt", step=2000, prefix="_orig_mod."))
    assert (told.family, told.step, told.step_source) == ("nanogpt", 2000, "payload:iter_num")
    assert told.config == make.NANOGPT and told.config_source == "payload:model_args"
    assert told.logged_val_loss == 3.25
    assert all(not name.startswith("_orig_mod") for name, _, _ in told.tensors)


def test_pickled_config_class_of_main_is_read_as_its_fields(tmp_path):
    told = summarise(make.save_build_nanogpt(tmp_path / "model_05000.pt"))
    assert told.family == "build-nanogpt" and told.config_class == "__main__.GPTConfig"
    assert told.config == {"block_size": 32, "vocab_size": 64, "n_layer": 2, "n_head": 2, "n_embd": 16}
    assert told.logged_val_loss == 3.5 and told.custom_names == ["__main__.GPTConfig"]


def test_sidecars_give_config_and_step_of_a_bare_state_dict(tmp_path):
    told = summarise(make.save_nanochat(tmp_path, step=700))
    assert (told.family, told.step, told.step_source) == ("nanochat", 700, "sidecar:meta_000700.json:step")
    assert told.config["n_kv_head"] == 2 and told.states == [""]
    (tmp_path / "lit").mkdir()
    lit = summarise(make.save_litgpt(tmp_path / "lit", step=40))
    assert (lit.family, lit.step, lit.step_source) == ("litgpt", 40, "payload:step_count")
    assert lit.config["padded_vocab_size"] == 64


@pytest.mark.parametrize(
    ("save", "family", "step"),
    [
        (make.save_lightning, "nanogpt", 1000),
        (make.save_deepspeed, "deepspeed", 30),
        (make.save_megatron, "megatron", 30),
        (make.save_modded_nanogpt, "modded-nanogpt", 1750),
    ],
)
def test_each_trainer_is_known_by_its_keys(tmp_path, save, family, step):
    told = summarise(save(tmp_path / "a.pt"))
    assert told.step == step
    assert family in (told.family, told.trainer)


def test_several_state_dicts_are_listed_and_one_can_be_chosen(tmp_path):
    ema = make.rosellm_state(seed=1)
    path = make.save_rosellm(tmp_path / "a.pt", ema=ema, extra={"model_ema": {"a.weight": torch.zeros(2, 3)}})
    assert summarise(path).states == ["model", "ema", "extra.model_ema"]
    assert summarise(path, state="extra.model_ema").parameters == 6
    with pytest.raises(ArchiveError, match="there is no state dict 'nope'"):
        summarise(path, state="nope")


def test_a_whole_pickled_module_is_taken_apart_without_being_built(tmp_path):
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2, bias=False))
    torch.save(module, tmp_path / "whole.pt")
    told = summarise(tmp_path / "whole.pt")
    assert {name for name, _, _ in told.tensors} == {"0.weight", "0.bias", "1.weight"}
    assert "torch.nn.modules.linear.Linear" in told.custom_names


def test_numpy_scalars_count_as_numbers(tmp_path):
    import numpy as np

    torch.save({"model": make.rosellm_state(), "step": np.int64(77), "val_loss": np.float32(2.5)}, tmp_path / "a.pt")
    told = summarise(tmp_path / "a.pt")
    assert (told.step, told.logged_val_loss, told.custom_names) == (77, 2.5, [])


@pytest.mark.parametrize("legacy", [False, True])
def test_a_step_in_a_tensor_or_array_of_one_element_is_one(tmp_path, legacy):
    import numpy as np

    for value in (torch.tensor(77), torch.tensor([77.0]), np.array(77), np.array([77], dtype=np.int32), np.float64(77)):
        torch.save({"a.weight": torch.ones(2), "model": {"b.weight": torch.ones(2)}, "step": value},
                   tmp_path / "a.pt", _use_new_zipfile_serialization=not legacy)  # fmt: skip
        assert summarise(tmp_path / "a.pt").step == 77, value
    torch.save({"model": {"b.weight": torch.ones(2)}, "step": np.arange(3)}, tmp_path / "a.pt")
    assert summarise(tmp_path / "a.pt").step is None


def test_a_key_that_may_hold_a_planned_total_comes_after_every_other(tmp_path):
    torch.save({"model": {"b.weight": torch.ones(2)}, "steps": 100_000, "global_step": 7}, tmp_path / "a.pt")
    assert summarise(tmp_path / "a.pt").step_source == "payload:global_step"
    torch.save({"model": {"b.weight": torch.ones(2)}, "steps": 100_000}, tmp_path / "b.pt")
    assert summarise(tmp_path / "b.pt").step_source == "payload:steps"
    (tmp_path / "b.json").write_text('{"step": 8, "num_steps": 100000}')
    assert (summarise(tmp_path / "b.pt").step, summarise(tmp_path / "b.pt").step_source) == (8, "sidecar:b.json:step")


@pytest.mark.parametrize("value", [True, -1, 1 << 64, "-5", "5.0", "1e3", float("nan"), 2.5, [1], None])
def test_a_step_that_is_no_whole_number_is_no_step(tmp_path, value):
    assert summarise(make.save_rosellm(tmp_path / "a.pt", step=value)).step is None


def test_a_step_written_as_text_is_one(tmp_path):
    assert summarise(make.save_rosellm(tmp_path / "a.pt", step="500")).step == 500


def test_digest_is_that_of_the_content_not_of_the_name(tmp_path):
    first = make.save_rosellm(tmp_path / "a.pt")
    copy = tmp_path / "copy.pt"
    copy.write_bytes(first.read_bytes())
    same_content_saved_under_another_name = make.save_rosellm(tmp_path / "other.pt")
    changed = make.save_rosellm(tmp_path / "b.pt", seed=1)
    digests = [probe(p).digest for p in (first, copy, same_content_saved_under_another_name, changed)]
    assert digests[0] == digests[1] == digests[2] != digests[3]
    assert summarise(first).digest == digests[0]


def test_file_without_crcs_is_unverified_and_digested_whole(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        path = make.save_rosellm(tmp_path / "a.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    seen = probe(path)
    assert seen.unverified and seen.digest == "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    assert summarise(path).note == "unverified: the file carries no checksums"


def test_legacy_format_is_understood_and_marked_unverified(tmp_path):
    path = make.save_rosellm(tmp_path / "a.pt", legacy=True)
    told = summarise(path)
    assert (told.format, told.step, told.family, told.unverified) == ("legacy", 20, "rosellm", True)
    assert probe(path).digest == "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_open_descriptor_is_read_and_stays_open(tmp_path):
    path = make.save_rosellm(tmp_path / "a.pt")
    with path.open("rb") as file:
        told = summarise(file.fileno())
        path.unlink()
        assert probe(file.fileno()).digest == told.digest
        assert file.read(2) == b"PK"


def test_hugging_face_folder_is_summarised_from_headers_alone(tmp_path):
    from safetensors.torch import save_file

    config = {"model_type": "gpt2", "n_layer": 1, "n_head": 2, "n_embd": 4, "vocab_size": 8, "n_positions": 8}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "trainer_state.json").write_text('{"global_step": 500}')
    save_file({"wte.weight": torch.zeros(8, 4), "wpe.weight": torch.zeros(8, 4)}, tmp_path / "model.safetensors")
    told = summarise(tmp_path)
    assert (told.format, told.family, told.step, told.parameters) == ("hf-folder", "hf-gpt2", 500, 64)


def test_the_archive_package_loads_neither_torch_nor_numpy():
    wanted = "[m for m in ('torch', 'numpy', 'pickle') if m in sys.modules]"
    code = f"import sys, evalcore.archive, evalcore.messages; print({wanted})"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
