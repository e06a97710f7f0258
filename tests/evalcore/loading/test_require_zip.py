"""`require_zip` refuses whatever has no checksums, file or folder, and takes what has them."""

import json

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file

from evalcore.archive import summarise
from evalcore.loading.checkpoint import CheckpointError, load_checkpoint
from tests.support import checkpoints as make

CONFIG = {
    "model_type": "gpt2", "vocab_size": 96, "n_positions": 16, "n_layer": 1, "n_head": 2, "n_embd": 16,
    "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5,
}  # fmt: skip


@pytest.fixture
def without_crc():
    torch.serialization.set_crc32_options(False)
    yield
    torch.serialization.set_crc32_options(True)


def gpt2_weights():
    from transformers import GPT2Config, GPT2LMHeadModel

    state = GPT2LMHeadModel(GPT2Config(**CONFIG)).state_dict()
    return {name: tensor.clone() for name, tensor in state.items() if name != "lm_head.weight"}


def hugging_face(folder):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def in_shards(folder):
    """Half of the weights in each of two files, with an index."""
    weights = sorted(gpt2_weights().items())
    shards = {f"pytorch_model-{n}-of-00002.bin": dict(weights[n - 1 :: 2]) for n in (1, 2)}
    index = {"weight_map": {name: file for file, shard in shards.items() for name in shard}}
    (hugging_face(folder) / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return [(folder / file, shard) for file, shard in shards.items()]


def refused(path):
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, require_zip=True)
    assert caught.value.kind == "unsupported" and "require_zip = false" in caught.value.hint
    assert any(note.startswith("unverified") for note in load_checkpoint(path).notes)
    return caught.value.reason


def test_a_hugging_face_folder_of_safetensors_is_refused(tmp_path):
    save_file(gpt2_weights(), hugging_face(tmp_path / "hf") / "model.safetensors", metadata={"format": "pt"})
    assert refused(tmp_path / "hf") == "the folder's weight file is in the safetensors format, without checksums"


def test_a_hugging_face_folder_of_torch_files_is_taken(tmp_path):
    for file, shard in in_shards(tmp_path / "hf"):
        torch.save(shard, file)
    assert load_checkpoint(tmp_path / "hf", require_zip=True).notes == []


def test_one_shard_without_checksums_makes_the_folder_unverified(tmp_path, without_crc):
    (first, weights), (second, others) = in_shards(tmp_path / "hf")
    torch.save(weights, first)
    torch.serialization.set_crc32_options(True)
    torch.save(others, second)
    assert "without checksums" in refused(tmp_path / "hf")
    assert summarise(tmp_path / "hf").unverified


def test_a_zip_written_without_checksums_is_refused(tmp_path, without_crc):
    assert refused(make.save_rosellm(tmp_path / "a.pt")) == "the file is in torch's zip format, without checksums"


def test_a_distributed_checkpoint_written_without_checksums_is_refused(tmp_path, without_crc):
    content = {"model": make.nanogpt_state(), "model_args": make.NANOGPT, "iter_num": 2000}
    dcp.save(content, checkpoint_id=tmp_path / "without", no_dist=True)
    assert "in torch's zip format, without checksums" in refused(tmp_path / "without")
    torch.serialization.set_crc32_options(True)
    dcp.save(content, checkpoint_id=tmp_path / "with", no_dist=True)
    assert load_checkpoint(tmp_path / "with", require_zip=True).step == 2000
