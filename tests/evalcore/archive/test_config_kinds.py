"""Configurations as trainers write them: texts, numbers as text or tensors, W&B's nesting, files that differ."""

import json

import pytest
import torch

from evalcore.archive import summarise
from evalcore.loading.checkpoint import CheckpointError, load_checkpoint
from evalcore.messages import ModelSpec
from tests.support import checkpoints as make
from tests.support.references import plain_llama

SIZES = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 32, "vocab_size": 64, "bias": True, "dropout": 0.0}
YAML = "".join(f"{name}: {str(value).lower()}\n" for name, value in SIZES.items())
TOKENS = torch.arange(24).reshape(2, 12)
KINDS = {
    "YAML text": "# model\n" + YAML,
    "YAML text, nested": "train:\n  lr: 1e-3\nmodel:\n" + "".join(f"  {line}\n" for line in YAML.splitlines()),
    "JSON text": json.dumps(SIZES),
    "numbers as text": {name: str(value) for name, value in SIZES.items()},
    "whole numbers as floats in text": {**SIZES, "n_layer": "2.0", "n_head": " 2.0 "},
    "0-d tensors": {name: torch.tensor(value) for name, value in SIZES.items()},
    "tensors of one element": {**SIZES, "n_head": torch.tensor([2], dtype=torch.int32)},
    "W&B": {name: {"value": value} for name, value in SIZES.items()},
    "W&B with descriptions": {
        "wandb_version": 1, "_wandb": {"value": {"python_version": "3.11"}},
        **{name: {"desc": None, "value": value} for name, value in SIZES.items()},
    },
}  # fmt: skip


def logits(path, **settings):
    with load_checkpoint(path, spec=ModelSpec(**settings)) as loaded, torch.inference_mode():
        return loaded.model(TOKENS), loaded


def refusal(path, **settings):
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, spec=ModelSpec(**settings))
    return caught.value


@pytest.fixture(scope="module")
def right(tmp_path_factory):
    path = tmp_path_factory.mktemp("right") / "a.pt"
    torch.save({"model": make.nanogpt_state(SIZES), "config": SIZES}, path)
    return logits(path)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_configuration_of_each_kind_is_read(tmp_path, right, kind):
    torch.save({"model": make.nanogpt_state(SIZES), "config": KINDS[kind]}, tmp_path / "a.pt")
    values, loaded = logits(tmp_path / "a.pt")
    assert torch.equal(values, right)
    assert {name: float(loaded.config[name]) for name in ("n_layer", "n_head", "n_embd")} == {
        "n_layer": 2, "n_head": 2, "n_embd": 16,
    }  # fmt: skip


@pytest.mark.parametrize("text", ["n_layer: two\nn_head: 2\nn_embd: 16\n", "n_head: 2.5\nn_embd: 16\nn_layer: 2\n"])
def test_a_text_with_values_that_are_no_whole_numbers_is_refused_by_name(tmp_path, text):
    torch.save({"model": make.nanogpt_state(SIZES), "config": text, "bias": True}, tmp_path / "a.pt")
    error = refusal(tmp_path / "a.pt", config={"family": "nanogpt"})
    assert error.kind == "unsupported" and ("config.n_layer is 'two'" in error.reason or "n_head" in error.reason)


@pytest.mark.parametrize("name", ["config.json", "model_args.json", "args.json", "params.json", "config.yaml"])
def test_a_file_beside_the_checkpoint_gives_its_configuration(tmp_path, right, name):
    torch.save(make.nanogpt_state(SIZES), tmp_path / "a.pt")
    (tmp_path / name).write_text(YAML if name.endswith("yaml") else json.dumps(SIZES))
    assert torch.equal(logits(tmp_path / "a.pt")[0], right)
    assert summarise(tmp_path / "a.pt").config_source == f"sidecar:{name}"


def test_the_config_yaml_that_wandb_writes_is_read(tmp_path, right):
    torch.save(make.nanogpt_state(SIZES), tmp_path / "a.pt")
    entries = "".join(f"{name}:\n  desc: null\n  value: {str(v).lower()}\n" for name, v in SIZES.items())
    (tmp_path / "config.yaml").write_text("wandb_version: 1\n\n" + entries)
    assert torch.equal(logits(tmp_path / "a.pt")[0], right)


@pytest.mark.parametrize(("field", "value"), [("n_head", 4), ("activation", "relu"), ("rope_theta", 5e5)])
def test_two_files_beside_it_that_differ_in_what_tensors_do_not_show_are_asked_about(tmp_path, right, field, value):
    torch.save(make.nanogpt_state(SIZES), tmp_path / "a.pt")
    first = {**SIZES, "activation": "gelu"} | ({"rope_theta": 1e4} if field == "rope_theta" else {})
    (tmp_path / "config.json").write_text(json.dumps(first))
    (tmp_path / "model_config.json").write_text(json.dumps({**first, field: value}))
    error = refusal(tmp_path / "a.pt")
    assert error.kind == "unsupported" and f"{field} = " in error.reason and field in error.hint
    assert "config.json, model_config.json" in error.reason
    if field != "rope_theta":
        assert torch.equal(logits(tmp_path / "a.pt", config={field: first[field]})[0], right)


def test_a_second_file_that_differs_in_what_tensors_show_is_named_in_a_note(tmp_path, right):
    torch.save(make.nanogpt_state(SIZES), tmp_path / "a.pt")
    (tmp_path / "config.json").write_text(json.dumps(SIZES))
    (tmp_path / "params.json").write_text(json.dumps({**SIZES, "n_layer": 12}))
    values, loaded = logits(tmp_path / "a.pt")
    assert torch.equal(values, right)
    assert "config.json is used, params.json differs: n_layer = 2 and 12" in loaded.notes


def test_the_checkpoints_own_file_has_precedence_over_the_folders_with_a_note(tmp_path, right):
    torch.save(make.nanogpt_state(SIZES), tmp_path / "a.pt")
    (tmp_path / "a.json").write_text(json.dumps(SIZES))
    (tmp_path / "config.json").write_text(json.dumps({**SIZES, "n_head": 4}))
    values, loaded = logits(tmp_path / "a.pt")
    assert torch.equal(values, right)
    assert "a.json is used, config.json differs: n_head = 2 and 4" in loaded.notes


def test_files_that_agree_or_say_nothing_of_a_model_leave_no_note(tmp_path, right):
    torch.save(make.nanogpt_state(SIZES), tmp_path / "a.pt")
    (tmp_path / "config.json").write_text(json.dumps(SIZES))
    (tmp_path / "args.json").write_text(json.dumps({"learning_rate": 1e-3, "n_head": 12}))
    values, loaded = logits(tmp_path / "a.pt")
    assert torch.equal(values, right) and not any("differs" in note for note in loaded.notes)


def test_a_list_of_state_dicts_is_named_as_the_parts_of_a_pipeline(tmp_path, right):
    state = make.nanogpt_state(SIZES)
    half = len(state) // 2
    parts = [dict(list(state.items())[:half]), dict(list(state.items())[half:])]
    torch.save({"model": parts, "model_args": SIZES, "iter_num": 7}, tmp_path / "a.pt")
    error = refusal(tmp_path / "a.pt")
    assert error.kind == "unsupported" and "'model' is a list of 2 state dicts" in error.reason
    torch.save({"model": parts, "ema": state, "model_args": SIZES, "iter_num": 7}, tmp_path / "b.pt")
    assert "list of 2 state dicts" in refusal(tmp_path / "b.pt").reason  # and not the average in its place
    torch.save({"model": [state], "model_args": SIZES, "iter_num": 7}, tmp_path / "c.pt")
    assert torch.equal(logits(tmp_path / "c.pt")[0], right)


def test_a_step_that_another_count_of_the_file_contradicts_is_said(tmp_path):
    payload = {"model": make.nanogpt_state(SIZES), "model_args": SIZES, "step": 12, "global_step": torch.tensor(24)}
    torch.save(payload, tmp_path / "a.pt")
    summary = summarise(tmp_path / "a.pt")
    assert (summary.step, summary.step_source) == (12, "payload:step")
    assert summary.note == "step 12 by step, but the file also has global_step = 24"
    torch.save({**payload, "global_step": 12}, tmp_path / "b.pt")
    assert summarise(tmp_path / "b.pt").note is None


def test_the_params_json_of_meta_names_no_context_length_and_none_is_assumed(tmp_path):
    generator = torch.Generator().manual_seed(1)

    def matrix(rows, columns):
        return torch.randn(rows, columns, generator=generator) * 1.5 / columns**0.5

    state = {"tok_embeddings.weight": matrix(64, 32), "output.weight": matrix(64, 32)}
    state["norm.weight"] = torch.rand(32) + 0.5
    for i in range(2):
        rows = {"wq": (32, 32), "wk": (16, 32), "wv": (16, 32), "wo": (32, 32)}
        state |= {f"layers.{i}.attention.{name}.weight": matrix(*shape) for name, shape in rows.items()}
        rows = {"w1": (48, 32), "w2": (32, 48), "w3": (48, 32)}
        state |= {f"layers.{i}.feed_forward.{name}.weight": matrix(*shape) for name, shape in rows.items()}
        state |= {f"layers.{i}.{name}.weight": torch.rand(32) + 0.5 for name in ("attention_norm", "ffn_norm")}
    torch.save(state, tmp_path / "consolidated.00.pth")
    params = {"dim": 32, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "vocab_size": 64, "multiple_of": 16,
              "ffn_dim_multiplier": 1.3, "norm_eps": 1e-5, "rope_theta": 500000.0}  # fmt: skip
    (tmp_path / "params.json").write_text(json.dumps(params))
    values, loaded = logits(tmp_path / "consolidated.00.pth")
    expected = plain_llama(state, 4, 2, TOKENS, theta=500000.0)
    assert (values - expected).abs().max() < 2e-5 * float(expected.abs().max())
    assert loaded.context_length is None and loaded.family == "llama2c"
