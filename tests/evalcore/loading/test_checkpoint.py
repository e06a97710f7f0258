"""Checkpoint files become live models: the right weights, the right reasons where they cannot."""

import os
import sys

import pytest
import torch

from evalcore.loading.checkpoint import CheckpointError, load_checkpoint, still_same
from evalcore.messages import ModelSpec
from tests.support import checkpoints as make
from tests.support.factories import FACTORY

TOKENS = torch.arange(24).reshape(2, 12)


def refusal(path, **options):
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, **options)
    return caught.value


def test_loaded_model_tells_everything_and_is_ready(tmp_path):
    path = make.save_rosellm(tmp_path / "a.pt", step=20, val_loss=3.0, tokens_seen=4096)
    with load_checkpoint(path) as loaded:
        assert (loaded.family, loaded.step, loaded.step_source) == ("rosellm", 20, "payload:step")
        assert (loaded.context_length, loaded.vocab_size) == (32, 64)
        assert (loaded.logged_val_loss, loaded.tokens_seen, loaded.notes) == (3.0, 4096, [])
        assert loaded.parameters == sum(p.numel() for p in loaded.model.parameters())
        assert not loaded.model.training and not any(p.requires_grad for p in loaded.model.parameters())
        assert loaded.model.hidden(TOKENS).shape == (2, 12, 16)
        weight, bias = loaded.model.head()
        assert weight.shape == (64, 16) and bias is None


def test_only_the_model_s_records_are_read_unless_all_are_to_be_verified(tmp_path):
    path = make.save_rosellm(tmp_path / "a.pt")
    model_bytes = sum(t.numel() * 4 for t in make.rosellm_state().values())
    assert load_checkpoint(path).read_bytes == model_bytes
    assert load_checkpoint(path, verify="all").read_bytes > 3 * model_bytes


@pytest.mark.parametrize("legacy", [False, True])
def test_reading_tells_how_far_it_is_of_what_the_model_needs(tmp_path, legacy):
    path, seen = make.save_rosellm(tmp_path / "a.pt", legacy=legacy), []
    loaded = load_checkpoint(path, report=lambda done, total: seen.append((done, total)))
    assert {total for _, total in seen} == {loaded.read_bytes}
    assert len(seen) > 3 and seen[-1][0] == loaded.read_bytes
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    before = len(seen)
    os.utime(path)
    assert still_same(loaded) and len(seen) == before


def test_damaged_optimizer_is_seen_only_by_verify_all(tmp_path):
    path = make.save_rosellm(tmp_path / "a.pt")
    data = bytearray(path.read_bytes())
    at = data.find(torch.ones(64 * 16).numpy().tobytes())
    assert at > 0
    data[at + 5] ^= 1
    path.write_bytes(data)
    assert load_checkpoint(path).step == 20
    assert refusal(path, verify="all").kind == "corrupt"


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "_forward_module."]
)
def test_wrapper_prefixes_do_not_matter(tmp_path, prefix):
    plain = load_checkpoint(make.save_rosellm(tmp_path / "a.pt")).model(TOKENS)
    assert torch.equal(load_checkpoint(make.save_rosellm(tmp_path / "b.pt", prefix=prefix)).model(TOKENS), plain)


def test_prefix_in_the_middle_of_a_name_is_stripped_too(tmp_path):
    state = {k.replace("blocks.0.", "blocks.0._orig_mod."): v for k, v in make.rosellm_state().items()}
    plain = load_checkpoint(make.save_rosellm(tmp_path / "a.pt")).model(TOKENS)
    torch.save({"model": state, "config": make.ROSELLM}, tmp_path / "b.pt")
    assert torch.equal(load_checkpoint(tmp_path / "b.pt").model(TOKENS), plain)


def test_tied_head_is_one_weight_whether_shared_or_left_out(tmp_path):
    shared = load_checkpoint(make.save_rosellm(tmp_path / "a.pt", tied=True))
    state = make.rosellm_state(tied=True)
    del state["lm_head.weight"]
    torch.save({"model": state, "config": make.ROSELLM}, tmp_path / "b.pt")
    left_out = load_checkpoint(tmp_path / "b.pt")
    untied = load_checkpoint(make.save_rosellm(tmp_path / "c.pt"))
    assert shared.model.output is None and left_out.model.output is None and untied.model.output is not None
    assert torch.equal(shared.model(TOKENS), left_out.model(TOKENS))
    assert untied.parameters == shared.parameters + 64 * 16


def test_reuse_refills_the_same_tensors_and_gives_the_same_numbers(tmp_path):
    first = load_checkpoint(make.save_rosellm(tmp_path / "a.pt", seed=1))
    pointers = [p.data_ptr() for p in first.model.parameters()]
    second_path = make.save_rosellm(tmp_path / "b.pt", seed=2)
    second = load_checkpoint(second_path, reuse=first)
    assert second.model is first.model and [p.data_ptr() for p in second.model.parameters()] == pointers
    assert torch.equal(second.model(TOKENS), load_checkpoint(second_path).model(TOKENS))
    other = load_checkpoint(make.save_rosellm(tmp_path / "c.pt", config={"n_layers": 1}), reuse=second)
    assert other.model is not second.model


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_weights_of_any_float_type_become_float32(tmp_path, dtype):
    state = {k: v.to(dtype) for k, v in make.rosellm_state().items()}
    torch.save({"model": state, "config": make.ROSELLM}, tmp_path / "a.pt")
    model = load_checkpoint(tmp_path / "a.pt").model
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert torch.equal(model.tokens.weight, state["token_embedding.weight"].float())


def test_views_of_one_big_storage_load_like_tensors_of_their_own(tmp_path):
    state = make.rosellm_state()
    flat = torch.cat([t.reshape(-1) for t in state.values()])
    at, views = 0, {}
    for name, tensor in state.items():
        views[name] = flat[at : at + tensor.numel()].view(tensor.shape)
        at += tensor.numel()
    views["blocks.0.mlp.fc1.weight"] = views["blocks.0.mlp.fc1.weight"].t().contiguous().t()
    torch.save({"model": views, "config": make.ROSELLM}, tmp_path / "flat.pt")
    plain = load_checkpoint(make.save_rosellm(tmp_path / "a.pt")).model(TOKENS)
    assert torch.equal(load_checkpoint(tmp_path / "flat.pt").model(TOKENS), plain)


def test_legacy_format_gives_the_same_model_marked_unverified(tmp_path):
    plain = load_checkpoint(make.save_rosellm(tmp_path / "a.pt"))
    old = load_checkpoint(make.save_rosellm(tmp_path / "b.pt", legacy=True))
    assert torch.equal(old.model(TOKENS), plain.model(TOKENS))
    assert old.notes == ["unverified: the file carries no checksums"]
    assert refusal(tmp_path / "b.pt", require_zip=True).kind == "unsupported"


def test_missing_config_is_refused_unless_the_settings_give_it(tmp_path):
    torch.save({"model": make.rosellm_state(), "step": 5}, tmp_path / "a.pt")
    error = refusal(tmp_path / "a.pt")
    assert error.kind == "unsupported" and "no model configuration" in error.reason and "[model] config" in error.hint
    loaded = load_checkpoint(tmp_path / "a.pt", spec=ModelSpec(config=dict(make.ROSELLM)))
    assert "configuration from [model] config" in loaded.notes


def test_a_tensor_parallel_shard_is_refused_with_the_reason(tmp_path):
    state = make.rosellm_state()
    for name in list(state):
        if "qkv_proj" in name or "fc1" in name:
            state[name] = state[name][: state[name].shape[0] // 2].clone()
    torch.save({"model": state, "config": {**make.ROSELLM, "use_tensor_parallel": True}}, tmp_path / "a.pt")
    error = refusal(tmp_path / "a.pt")
    assert error.kind == "unsupported" and "shard of 2 of a tensor-parallel model" in error.reason


def test_missing_extra_and_misshapen_tensors_are_named_up_to_five(tmp_path):
    state = make.rosellm_state()
    for i in range(2):
        for name in ("ln1.weight", "ln1.bias", "ln2.weight"):
            del state[f"blocks.{i}.{name}"]
    state["surplus.weight"] = torch.zeros(3, 3)
    state["ln_f.weight"] = torch.zeros(17)
    torch.save({"model": state, "config": make.ROSELLM}, tmp_path / "a.pt")
    error = refusal(tmp_path / "a.pt")
    assert error.kind == "shape"
    assert "6 missing: blocks.0.ln1.weight" in error.reason and error.reason.count("ln1") <= 4
    assert "1 unknown: surplus.weight" in error.reason and "ln_f.weight [17] instead of [16]" in error.reason


@pytest.mark.parametrize("value", [10**9, 0, -3, "two", float("nan"), 2.5, None, [2], 1 << 70, True])
@pytest.mark.parametrize("field", ["n_layers", "d_model", "n_heads", "vocab_size", "d_ff", "max_position_embeddings"])
def test_hostile_config_values_are_refused_before_anything_is_allocated(tmp_path, field, value):
    path = make.save_rosellm(tmp_path / "a.pt", config={}, optimizer=False)
    payload = torch.load(path, weights_only=True)
    payload["config"][field] = value
    torch.save(payload, path)
    assert refusal(path).kind in ("shape", "unsupported")


def test_the_ema_can_be_chosen_and_is_noted(tmp_path):
    path = make.save_rosellm(tmp_path / "a.pt", seed=0, ema=make.rosellm_state(seed=5))
    ema = load_checkpoint(path, spec=ModelSpec(state="ema"))
    alone = load_checkpoint(make.save_rosellm(tmp_path / "b.pt", seed=5))
    assert torch.equal(ema.model(TOKENS), alone.model(TOKENS)) and "state dict ema" in ema.notes
    assert not torch.equal(load_checkpoint(path).model(TOKENS), ema.model(TOKENS))
    assert "there is model, ema" in refusal(path, spec=ModelSpec(state="emma")).reason


def test_a_digest_or_size_that_is_not_the_registered_one_is_superseded(tmp_path):
    path = make.save_rosellm(tmp_path / "a.pt")
    digest, size = load_checkpoint(path).digest, path.stat().st_size
    assert load_checkpoint(path, expect_digest=digest, expect_size_bytes=size).digest == digest
    assert refusal(path, expect_size_bytes=size + 1).kind == "superseded"
    make.save_rosellm(path, seed=9)
    assert refusal(path, expect_digest=digest).kind == "superseded"


def test_replaced_unlinked_or_touched_it_is_still_the_same_but_not_rewritten_in_place(tmp_path):
    path = make.save_rosellm(tmp_path / "a.pt")
    loaded = load_checkpoint(path)
    os.utime(path)
    os.link(path, tmp_path / "link.pt")
    assert still_same(loaded)
    os.replace(make.save_rosellm(tmp_path / "new.pt", seed=1), path)
    assert still_same(loaded)
    (tmp_path / "link.pt").unlink()
    assert still_same(loaded)
    again = load_checkpoint(path)
    make.save_rosellm(path, seed=2)
    assert not still_same(again)


def test_one_byte_written_in_place_is_noticed_though_size_and_directory_are_the_same(tmp_path):
    path = make.save_rosellm(tmp_path / "a.pt")
    loaded = load_checkpoint(path)
    at = path.read_bytes().find(make.rosellm_state()["ln_f.weight"].numpy().tobytes())
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\x01")
    assert not still_same(loaded)


@pytest.mark.parametrize(
    "returned", ["self.table(tokens)", "(self.table(tokens), None)", "{'logits': self.table(tokens)}"]
)
def test_factory_builds_any_model_from_plain_tensors(tmp_path, returned):
    name = f"their_model_{abs(hash(returned))}"
    (tmp_path / f"{name}.py").write_text(FACTORY.replace("RETURN", returned))
    table = torch.randn(7, 7)
    torch.save(
        {"net": {"_orig_mod.table.weight": table}, "config": {"vocab_size": 7, "block_size": 5}}, tmp_path / "a.pt"
    )
    spec = ModelSpec(factory=f"{name}:build", python_path=(str(tmp_path),))
    loaded = load_checkpoint(tmp_path / "a.pt", spec=spec)
    assert torch.equal(loaded.model.logits(torch.tensor([[1, 2]])), table[[1, 2]][None])
    assert (loaded.family, loaded.vocab_size, loaded.context_length) == ("factory", 7, 5)
    sys.path.remove(str(tmp_path))


def test_factory_faults_are_named(tmp_path):
    (tmp_path / "broken_model.py").write_text(
        "def build(config, state):\n    raise KeyError('hidden')\ndef last(config, state):\n    import torch\n"
        "    class M(torch.nn.Module):\n        def forward(self, t):\n"
        "            return torch.zeros(t.shape[0], 1, 9)\n"
        "    return M()\n"
    )
    path = make.save_bare(tmp_path / "a.pt")
    places = (str(tmp_path),)
    assert "KeyError" in refusal(path, spec=ModelSpec(factory="broken_model:build", python_path=places)).reason
    assert "1 of 2 positions" in refusal(path, spec=ModelSpec(factory="broken_model:last", python_path=places)).reason
    assert "cannot be imported" in refusal(path, spec=ModelSpec(factory="no_such_module_:build")).reason
    assert "package.module:function" in refusal(path, spec=ModelSpec(factory="build")).hint
    sys.path.remove(str(tmp_path))


def test_nan_weights_load_for_a_diverged_run_is_a_result(tmp_path):
    state = make.rosellm_state()
    state["ln_f.weight"] = torch.full((16,), float("nan"))
    torch.save({"model": state, "config": make.ROSELLM}, tmp_path / "a.pt")
    assert load_checkpoint(tmp_path / "a.pt").model.norm.weight.isnan().all()


def test_a_missing_file_is_an_os_error_for_the_caller_to_name(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "nothing.pt")


def test_causal_mask_buffers_are_neither_unknown_nor_parameters(tmp_path):
    plain = load_checkpoint(make.save_nanogpt(tmp_path / "a.pt"))
    payload = torch.load(tmp_path / "a.pt", weights_only=True)
    payload["model"]["transformer.h.0.attn.bias"] = torch.ones(32, 32).tril().view(1, 1, 32, 32)
    torch.save(payload, tmp_path / "b.pt")
    masked = load_checkpoint(tmp_path / "b.pt")
    assert masked.parameters == plain.parameters and torch.equal(masked.model(TOKENS), plain.model(TOKENS))


def test_a_file_rewritten_while_it_is_read_is_superseded_not_corrupt(tmp_path, monkeypatch):
    from evalcore.loading import checkpoint_file as checkpoint

    path = make.save_rosellm(tmp_path / "a.pt")
    understand = checkpoint.understand

    def slowly(*args, **options):
        reading = understand(*args, **options)
        make.save_rosellm(path, seed=3)  # the trainer saves again, in place, after the directory was read
        return reading

    monkeypatch.setattr(checkpoint, "understand", slowly)
    assert refusal(path).kind == "superseded"


def test_a_factory_may_take_names_without_dots_and_integer_buffers(tmp_path):
    (tmp_path / "flat_model.py").write_text(
        "import torch\nclass M(torch.nn.Module):\n    def __init__(self, state):\n        super().__init__()\n"
        "        self.w = torch.nn.Parameter(state['W'])\n    def forward(self, t):\n        return self.w[t]\n"
        "def build(config, state):\n    assert state['ids'].dtype == torch.int64\n    return M(state)\n"
    )
    torch.save({"weights": {"W": torch.eye(5), "ids": torch.arange(5)}, "step": 4}, tmp_path / "a.pt")
    loaded = load_checkpoint(
        tmp_path / "a.pt", spec=ModelSpec(factory="flat_model:build", python_path=(str(tmp_path),))
    )
    assert (loaded.vocab_size, loaded.step) == (5, 4)
    sys.path.remove(str(tmp_path))


def test_a_factory_that_runs_out_of_memory_is_not_called_unsupported(tmp_path):
    (tmp_path / "greedy_model.py").write_text("def build(config, state):\n    raise MemoryError('too much')\n")
    spec = ModelSpec(factory="greedy_model:build", python_path=(str(tmp_path),))
    with pytest.raises(MemoryError):
        load_checkpoint(make.save_bare(tmp_path / "a.pt"), spec=spec)
    sys.path.remove(str(tmp_path))


def test_loading_inside_inference_mode_gives_a_model_that_can_be_refilled_outside(tmp_path):
    with torch.inference_mode():
        loaded = load_checkpoint(make.save_rosellm(tmp_path / "a.pt", seed=1))
    again = load_checkpoint(make.save_rosellm(tmp_path / "b.pt", seed=2), reuse=loaded)
    assert not any(p.is_inference() for p in again.model.parameters())


def test_many_loads_leave_no_descriptor_open(tmp_path):
    good, bad = make.save_rosellm(tmp_path / "a.pt"), make.save_deepspeed(tmp_path / "b.pt")
    load_checkpoint(good).close()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        load_checkpoint(good).close()
        assert refusal(bad).kind == "unsupported"
        assert refusal(good, expect_digest="sha256:other").kind == "superseded"
    assert len(os.listdir("/proc/self/fd")) == before
