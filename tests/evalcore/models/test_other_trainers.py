"""Files of other trainers: counters of an average, a teacher's configuration, switches that are off, tied heads."""

import pytest
import torch
import torch.nn.functional as F

from evalcore.archive import summarise
from evalcore.loading.checkpoint import CheckpointError, load_checkpoint
from evalcore.messages import ModelSpec
from tests.support import checkpoints as make
from tests.support.references import NANO, plain_gpt, tanh_gelu

TOKENS = torch.randint(0, 64, (2, 32), generator=torch.Generator().manual_seed(0))


def big_state(**args):
    return {name: t * (6.0 if t.dim() > 1 else 1) for name, t in make.nanogpt_state(args).items()}


def assert_computes(path, expected, **settings):
    with load_checkpoint(path, spec=ModelSpec(**settings)) as loaded, torch.inference_mode():
        values = loaded.model(TOKENS)
    assert (values - expected).abs().max() < 2e-5 * max(1.0, float(expected.abs().max()))
    return loaded


def refusal(path, **settings):
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, spec=ModelSpec(**settings))
    return caught.value


def plain(state):
    return plain_gpt(state, 2, F.gelu, TOKENS, NANO)


def test_the_counters_of_an_averaged_model_are_no_part_of_the_model(tmp_path):
    state = big_state()
    saved = {f"online_model.{k}": v for k, v in state.items()} | {f"ema_model.{k}": v / 2 for k, v in state.items()}
    saved |= {"initted": torch.tensor(True), "step": torch.tensor(70)}  # as ema-pytorch writes it
    torch.save({"model": saved, "model_args": make.NANOGPT, "iter_num": 7}, tmp_path / "a.pt")
    loaded = assert_computes(tmp_path / "a.pt", plain(state))
    assert loaded.notes[0] == "beside the model: initted, step"
    torch.save({"model": saved | {"scale": torch.tensor(2.0)}, "model_args": make.NANOGPT}, tmp_path / "b.pt")
    assert "1 unknown: scale" in refusal(tmp_path / "b.pt").reason


@pytest.mark.parametrize("other", ["momentum", "init_state", "prev_state", "grads", "exp_avg"])
def test_a_state_dict_named_as_a_by_product_is_not_taken_for_the_model(tmp_path, other):
    state = big_state()
    payload = {other: {k: v / 2 for k, v in state.items()}, "trained": state, "model_args": make.NANOGPT, "iter_num": 7}
    torch.save(payload, tmp_path / "a.pt")
    loaded = assert_computes(tmp_path / "a.pt", plain(state))
    assert f"also in the file: {other}" in loaded.notes


def test_a_teachers_configuration_is_not_taken_for_the_students(tmp_path):
    state, args = big_state(), {**make.NANOGPT, "bias": True}
    payload = {"model": state, "teacher_config": {**args, "n_head": 4}, "student_config": args}
    torch.save(payload, tmp_path / "a.pt")
    loaded = assert_computes(tmp_path / "a.pt", plain(state))
    assert loaded.config["n_head"] == 2


@pytest.mark.parametrize("field", ["pre_norm", "norm_first", "causal", "is_causal"])
def test_what_every_gpt_does_is_refused_where_the_configuration_switches_it_off(tmp_path, field):
    torch.save({"model": big_state(), "model_args": {**make.NANOGPT, field: False}, "iter_num": 7}, tmp_path / "a.pt")
    error = refusal(tmp_path / "a.pt")
    assert field in error.reason and f"{field} = true in [model] config" in error.hint
    assert_computes(tmp_path / "a.pt", plain(big_state()), config={field: True})


def test_the_tanh_gelu_of_old_nanogpt_is_assumed_only_for_files_with_biases(tmp_path):
    args = {k: v for k, v in make.NANOGPT.items() if k != "bias"}
    with_biases, without = big_state(bias=True), big_state(bias=False)
    torch.save({"model": with_biases, "model_args": args, "iter_num": 7, "config": {}}, tmp_path / "old.pt")
    assert_computes(tmp_path / "old.pt", plain_gpt(with_biases, 2, tanh_gelu, TOKENS, NANO))
    torch.save({"model": without, "model_args": args, "iter_num": 7, "config": {}}, tmp_path / "fork.pt")
    loaded = assert_computes(tmp_path / "fork.pt", plain(without))
    assert any(note.startswith("assumed activation = gelu:") for note in loaded.notes)


def test_a_part_that_the_family_lacks_is_answered_with_the_factory(tmp_path):
    state = {**big_state(), "transformer.h.0.attn.gate": torch.zeros(16)}
    torch.save({"model": state, "model_args": make.NANOGPT, "iter_num": 7}, tmp_path / "a.pt")
    assert "model.factory" in refusal(tmp_path / "a.pt").hint


def test_heads_that_do_not_divide_the_width_are_answered_with_the_field_to_correct(tmp_path):
    payload = {"model": big_state(), "model_args": {**make.NANOGPT, "n_head": 3}, "iter_num": 7}
    torch.save(payload, tmp_path / "a.pt")
    assert "correct n_head" in refusal(tmp_path / "a.pt").hint
    assert_computes(tmp_path / "a.pt", plain(big_state()), config={"n_head": 2})


@pytest.mark.parametrize(
    "payload",
    [
        {"current_step": 12},
        {"optimizer_step": 12, "total_steps": 900},
        {"state": {"step": 12}},
        {"progress": {"step": torch.tensor(12)}},
        {"trainer": {"global_step": 12}, "max_iters": 900},
    ],
)
def test_the_step_is_read_by_the_names_that_other_trainers_give_it(tmp_path, payload):
    torch.save({"model": big_state(), "model_args": make.NANOGPT, **payload}, tmp_path / "a.pt")
    assert summarise(tmp_path / "a.pt").step == 12


def test_two_configurations_that_differ_in_what_tensors_do_not_show_are_asked_about(tmp_path):
    state, args = big_state(), {**make.NANOGPT, "bias": True}
    torch.save({"model": state, "generator": {**args, "n_head": 4}, "critic": args}, tmp_path / "a.pt")
    error = refusal(tmp_path / "a.pt")
    assert "4 heads in generator, 2 in critic" in error.reason and "n_head" in error.hint
    assert_computes(tmp_path / "a.pt", plain(state), config={"n_head": 2})
    script = {**args, "n_head": 4, "learning_rate": 1e-3}  # nanoGPT: the model's own arguments have precedence
    torch.save({"model": state, "config": script, "model_args": args, "iter_num": 7}, tmp_path / "nano.pt")
    assert_computes(tmp_path / "nano.pt", plain(state))
    xl = {**args, "n_layer": 48, "n_head": 25, "n_embd": 1600}
    torch.save({"model": state, "small": args, "xl": xl}, tmp_path / "presets.pt")
    assert_computes(tmp_path / "presets.pt", plain(state))


def test_names_of_gpt2_without_their_prefix_and_with_the_weights_of_nanogpt_need_a_factory(tmp_path):
    bare = {name.removeprefix("transformer."): tensor for name, tensor in big_state().items()}
    torch.save({"model": bare, "config": make.NANOGPT}, tmp_path / "a.pt")
    assert "model.factory" in refusal(tmp_path / "a.pt").hint
