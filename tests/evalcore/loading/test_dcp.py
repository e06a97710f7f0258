"""DCP folders that dcp.save wrote in two processes are read without conversion, and give the values of their twins."""

import json
import os
import pickle
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import filesystem

from evalcore.archive import ArchiveError, summarise
from evalcore.loading.checkpoint import CheckpointError, load_checkpoint, still_same
from evalcore.loading.dcp import DcpRecords
from evalcore.messages import ModelSpec
from tests.support import checkpoints as make
from tests.support.dcp_writer import LLAMA, llama_state
from tests.support.references import plain_llama

ROOT = Path(__file__).parents[3]
TOKENS = torch.arange(24).reshape(2, 12)
TORCHTITAN = ModelSpec(config={"n_heads": 4, "max_seq_len": 32, "rope_theta": 500000.0})


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dcp")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.support.dcp_writer", str(folder)]
    ranks = [subprocess.Popen([*command, rank], cwd=ROOT, env=environment, stderr=subprocess.PIPE) for rank in "01"]
    errors = [rank.communicate(timeout=300)[1].decode()[-2000:] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], errors
    return folder


@pytest.fixture
def copied(written, tmp_path):
    """A writable copy of the nanoGPT folder."""
    return Path(shutil.copytree(written / "nanogpt", tmp_path / "nanogpt"))


def refusal(path, **options):
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, **options)
    return caught.value


def test_folder_of_two_ranks_gives_the_values_of_its_dense_twin(written):
    assert len(list((written / "nanogpt").glob("*.distcp"))) == 2
    twin = load_checkpoint(written / "nanogpt.pt")
    for name in ("nanogpt", "plain"):
        with load_checkpoint(written / name) as loaded:
            assert torch.equal(loaded.model(TOKENS), twin.model(TOKENS))
            assert (loaded.family, loaded.step, loaded.step_source) == ("nanogpt", 2000, "payload:iter_num")
            assert (loaded.context_length, loaded.logged_val_loss) == (32, 3.25)
            assert still_same(loaded)


def test_torchtitan_s_flat_folder_is_llama_with_adjacent_pairs(written):
    """Split by rows and columns in bfloat16; torchtitan writes no model configuration: it is in [model] config."""
    folder = written / "torchtitan" / "step-20"
    state = {
        n.replace("qkv_linear.", ""): t.float() for n, t in llama_state(torch.bfloat16, "attention.qkv_linear.").items()
    }
    state["output.weight"] = state.pop("lm_head.weight")
    with load_checkpoint(folder, spec=TORCHTITAN) as loaded:
        expected = plain_llama(state, 4, 2, TOKENS, theta=500000.0)
        torch.testing.assert_close(loaded.model(TOKENS), expected, rtol=1e-5, atol=1e-5)
        assert (loaded.family, loaded.step, loaded.tokens_seen) == ("llama2c", 20, None)
    error = refusal(folder)
    assert error.kind == "unsupported" and "n_heads" in error.hint and "--model-config" in error.hint


def test_lingua_s_folder_is_configured_by_its_params_json(written):
    folder = written / "lingua" / "0000000030"
    with load_checkpoint(folder) as loaded:
        expected = plain_llama(torch.load(written / "llama.pt", weights_only=True), 4, 2, TOKENS)
        torch.testing.assert_close(loaded.model(TOKENS), expected, rtol=1e-5, atol=1e-5)
        assert (loaded.step, loaded.step_source) == (30, "sidecar:train_state_00000.json:step")
        assert loaded.context_length == 48
    summary = summarise(folder)
    assert (summary.format, summary.step, summary.config_source) == ("dcp", 30, "sidecar:params.json")
    assert summary.config["n_heads"] == LLAMA["n_heads"] and [name for name, _ in summary.sidecars] == ["params.json"]


def test_olmo_core_s_index_lies_one_folder_deeper(written, tmp_path):
    shutil.copytree(written / "nanogpt", tmp_path / "step20" / "model_and_optim")
    assert summarise(tmp_path / "step20").family == "nanogpt"
    twin = load_checkpoint(written / "nanogpt.pt")
    assert torch.equal(load_checkpoint(tmp_path / "step20").model(TOKENS), twin.model(TOKENS))


def test_only_the_model_s_slices_are_read_one_at_a_time(written, monkeypatch):
    """Memory is the model and one slice for each of the two reading threads: no tensor is put together beside it."""
    monkeypatch.setattr(DcpRecords, "read", lambda *_: pytest.fail("a whole tensor was put together"))
    sizes = []
    inner = DcpRecords._values
    monkeypatch.setattr(DcpRecords, "_values", lambda *args: sizes.append((v := inner(*args)).nbytes) or v)
    loaded = load_checkpoint(written / "torchtitan" / "step-20", spec=TORCHTITAN)
    model_bytes = sum(t.nbytes for t in llama_state(torch.bfloat16).values())
    assert loaded.read_bytes == sum(sizes) == model_bytes
    assert max(sizes) == 64 // 2 * 24 * 2  # half of the rows of w1, in bfloat16
    monkeypatch.undo()
    assert load_checkpoint(written / "torchtitan" / "step-20", spec=TORCHTITAN, verify="all").read_bytes > model_bytes


def test_contents_are_equal_by_what_was_read_and_another_save_is_another_version(written, copied):
    first, again = load_checkpoint(written / "nanogpt"), load_checkpoint(copied)
    assert first.content_digest == again.content_digest and first.digest == again.digest
    assert load_checkpoint(written / "plain").digest != first.digest
    error = refusal(copied, expect_digest="sha256:0")
    assert error.kind == "superseded"
    (copied / ".metadata").write_bytes((copied / ".metadata").read_bytes())
    assert not still_same(again)


def test_damaged_slice_is_corrupt_by_its_file(copied):
    name = "__1_0.distcp"
    data = bytearray((copied / name).read_bytes())
    rows_of_rank_1 = make.nanogpt_state()["transformer.wte.weight"][32:].numpy().tobytes()
    data[data.index(rows_of_rank_1) + 5] ^= 1
    (copied / name).write_bytes(data)
    error = refusal(copied)
    assert error.kind == "corrupt" and name in error.reason and "CRC" in error.reason


@pytest.mark.parametrize(("first", "noted"), [(900, True), (-1, False)])
def test_a_slice_of_a_later_save_that_was_interrupted_is_noted(copied, first, noted):
    for name, at in ((".metadata", 4), ("__0_0.distcp", first), ("__1_0.distcp", 3)):
        os.utime(copied / name, (1_700_000_000 + at, 1_700_000_000 + at))
    with load_checkpoint(copied) as loaded:
        assert any("__0_0.distcp is newer than .metadata" in note for note in loaded.notes) is noted


@pytest.mark.parametrize("what", ["missing", "cut off", "no index", "index cut off"])
def test_incomplete_folder_is_corrupt_and_says_which_file(copied, what):
    name = "__1_0.distcp" if what in ("missing", "cut off") else ".metadata"
    data = (copied / name).read_bytes()
    os.unlink(copied / name)
    if "cut" in what:
        (copied / name).write_bytes(data[:-9])
    error = refusal(copied)
    assert error.kind == "corrupt" and name in error.reason
    with pytest.raises(ArchiveError) as caught:
        summarise(copied)
    assert caught.value.incomplete


def test_transformed_safetensors_and_foreign_indexes_are_refused_with_the_reason(copied):
    index = pickle.loads((copied / ".metadata").read_bytes())
    key, place = next(iter(index.storage_data.items()))
    for change, words in (
        ({"transform_descriptors": ["zstd"]}, "a transform (zstd)"),
        ({"encryption": "aes"}, "fields that are not known here: encryption"),
        ({"relative_path": "../__0_0.distcp"}, "outside the folder"),
    ):
        changed = filesystem._StorageInfo(place.relative_path, place.offset, place.length)
        changed.__dict__.update(change)
        index.storage_data[key] = changed
        (copied / ".metadata").write_bytes(pickle.dumps(index))
        error = refusal(copied)
        assert error.kind in ("unsupported", "unsafe") and words in error.reason and key.fqn in error.reason
    index.storage_data[key] = place
    index.version = "2.0.0"
    (copied / ".metadata").write_bytes(pickle.dumps(index))
    assert "DCP version 2.0.0" in refusal(copied).reason
    (copied / ".metadata").write_bytes(pickle.dumps({"a": 1}))
    assert "does not hold the Metadata" in refusal(copied).reason


def test_parts_that_do_not_cover_a_tensor_are_refused(copied):
    index = pickle.loads((copied / ".metadata").read_bytes())
    del index.state_dict_metadata["model.transformer.wte.weight"].chunks[1]
    (copied / ".metadata").write_bytes(pickle.dumps(index))
    error = refusal(copied)
    assert error.kind == "corrupt" and "wte.weight do not cover its shape [64, 16]" in error.reason


def test_folder_without_the_planner_s_paths_and_of_older_torch_is_read(copied, written):
    """torch 2.0 wrote neither version nor save identifier, and a planner that does not flatten writes no paths."""
    index = pickle.loads((copied / ".metadata").read_bytes())
    index.planner_data = index.version = index.storage_meta = None
    (copied / ".metadata").write_bytes(pickle.dumps(index))
    config = ModelSpec(config={"family": "nanogpt", "n_head": 2, "bias": True})
    twin = load_checkpoint(written / "nanogpt.pt")
    assert torch.equal(load_checkpoint(copied, spec=config).model(TOKENS), twin.model(TOKENS))


def test_no_class_of_the_index_is_made(copied):
    marker = copied / "ran"

    class Command:
        def __reduce__(self):
            return os.system, (f"touch {marker}",)

    index = pickle.loads((copied / ".metadata").read_bytes())
    index.planner_data["model.transformer.wte.weight"] = Command()
    (copied / ".metadata").write_bytes(pickle.dumps(index))
    load_checkpoint(copied, spec=ModelSpec(config={"family": "nanogpt", "n_head": 2, "bias": True}))
    assert not marker.exists()


def test_an_index_of_another_step_is_refused_by_name_or_by_the_sizes_of_its_files(tmp_path):
    """Two saves of one model have the same layout, so nothing but the path saved in the index tells them apart."""
    for step in (10, 20):
        state = {"model": make.nanogpt_state(seed=step), "model_args": make.NANOGPT, "iter_num": step}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dcp.save(state, checkpoint_id=tmp_path / f"step-{step}", no_dist=True)
    assert load_checkpoint(tmp_path / "step-20").step == 20
    shutil.copytree(tmp_path / "step-20", tmp_path / "best")
    assert load_checkpoint(tmp_path / "best").step == 20  # copied under another name
    shutil.copy(tmp_path / "step-10" / ".metadata", tmp_path / "step-20" / ".metadata")
    error = refusal(tmp_path / "step-20")
    assert error.kind == "corrupt" and ".metadata was written for step-10, and the folder is step-20" in error.reason
    with open(tmp_path / "best" / "__0_0.distcp", "ab") as file:
        file.write(b"more")
    error = refusal(tmp_path / "best")
    assert error.kind == "corrupt" and "are not of one checkpoint" in error.reason


def test_lingua_s_tied_head_is_in_the_folder_once_more_and_is_the_embedding(tmp_path):
    """A DCP folder stores it as a tensor of its own, output.tied_module.weight."""
    state = llama_state()
    del state["output.weight"]
    config = {**LLAMA, "max_seqlen": 48, "rope_theta": 10000.0, "norm_eps": 1e-5, "weight_tying": True}
    for name, head in (("same", state["tok_embeddings.weight"]), ("other", -state["tok_embeddings.weight"])):
        folder = tmp_path / name / "0000000020"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dcp.save({"model": {**state, "output.tied_module.weight": head}}, checkpoint_id=folder, no_dist=True)
        (folder / "params.json").write_text(json.dumps({"model": config}))
        (folder / "train_state_00000.json").write_text('{"step": 20}')
    expected = plain_llama({**state, "output.weight": state["tok_embeddings.weight"]}, 4, 2, TOKENS)
    with load_checkpoint(tmp_path / "same" / "0000000020") as loaded, torch.inference_mode():
        torch.testing.assert_close(loaded.model(TOKENS), expected, rtol=1e-5, atol=1e-5)
    assert "weight_tying is true" in refusal(tmp_path / "other" / "0000000020").reason
