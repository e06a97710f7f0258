"""Faults of a user's factory and model: `unsupported` with a traceback that begins in the user's code."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch

import tests.support.checkpoints as make
from evalcore.archive.model_digest import factory_digest
from evalcore.loading.checkpoint import CheckpointError, load_checkpoint
from evalcore.messages import ModelSpec
from evalcore.models.user_code import UserCodeError
from tests.support.factories import FACTORY


def refusal(path, **options) -> UserCodeError:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, **options)
    return caught.value


FAULTY = """import json
import torch

def helper(config):
    return config["hidden"]

def build(config, state):
    return helper(config)

def ends(config, state):
    raise SystemExit("no GPU here")

class Short(torch.nn.Module):
    context_length = 8

    def __init__(self):
        super().__init__()
        self.places = torch.nn.Embedding(4, 9)

    def forward(self, tokens):
        return self.places(torch.arange(tokens.shape[1]))[None].expand(len(tokens), -1, -1)

def short(config, state):
    return Short()
"""


def test_an_error_in_the_user_s_code_is_unsupported_with_a_traceback_that_begins_there(tmp_path):
    (tmp_path / "faulty_model.py").write_text(FAULTY)
    (tmp_path / "no_python.py").write_text("def build(config, state)\n    return None\n")
    path, places = make.save_bare(tmp_path / "a.pt"), (str(tmp_path),)
    error = refusal(path, spec=ModelSpec(factory="faulty_model:build", python_path=places))
    where = "(faulty_model.py line 5, in helper)"
    assert error.reason == f"model.factory faulty_model:build failed: KeyError: 'hidden' {where}"
    assert error.kind == "unsupported"
    lines = error.traceback_text.splitlines()
    assert lines[:2] == ["Traceback (most recent call last):", f'  File "{tmp_path}/faulty_model.py", line 8, in build']
    assert lines[-1] == "KeyError: 'hidden'"
    error = refusal(path, spec=ModelSpec(factory="faulty_model:ends", python_path=places))
    assert (error.kind, "SystemExit: no GPU here" in error.reason) == ("unsupported", True)
    error = refusal(path, spec=ModelSpec(factory="no_python:build", python_path=places))
    assert error.kind == "unsupported" and "SyntaxError" in error.reason
    assert f'File "{tmp_path}/no_python.py", line 1' in error.traceback_text
    error = refusal(path, spec=ModelSpec(factory="faulty_model:biuld", python_path=places))
    assert "did you mean faulty_model:build?" in error.hint
    sys.path.remove(str(tmp_path))


def test_an_error_in_the_forward_pass_of_the_user_s_model_is_unsupported_too(tmp_path):
    (tmp_path / "faulty_model2.py").write_text(FAULTY)
    spec = ModelSpec(factory="faulty_model2:short", python_path=(str(tmp_path),))
    loaded = load_checkpoint(make.save_bare(tmp_path / "a.pt"), spec=spec)
    assert loaded.context_length == 8  # by the model's own attribute
    with pytest.raises(CheckpointError, match=r"forward of Short .* IndexError") as caught:
        loaded.model.logits(torch.zeros(1, 6, dtype=torch.long))
    assert caught.value.kind == "unsupported" and "faulty_model2.py" in caught.value.reason
    sys.path.remove(str(tmp_path))


def test_a_context_that_only_a_field_of_several_meanings_tells_is_noted(tmp_path):
    (tmp_path / "their_context.py").write_text(
        FACTORY.replace("RETURN", "self.table(tokens)") + "def own(config, state):\n    model = Model(config, state)\n"
        "    model.args = {'max_seq_len': 6}\n    return model\n"
    )
    state = {"net": {"table.weight": torch.randn(7, 7)}, "config": {"vocab_size": 7, "max_len": 5}}
    torch.save(state, tmp_path / "a.pt")
    assumed = load_checkpoint(tmp_path / "a.pt", spec=ModelSpec("their_context:build", python_path=(str(tmp_path),)))
    assert assumed.context_length == 5
    assert "context length 5 assumed from max_len" in " ".join(assumed.notes)
    told = load_checkpoint(tmp_path / "a.pt", spec=ModelSpec("their_context:own", python_path=(str(tmp_path),)))
    assert told.context_length == 6
    assert "context length" not in " ".join(told.notes)
    sys.path.remove(str(tmp_path))


def test_a_module_of_another_folder_with_the_same_name_is_never_taken_for_the_factory(tmp_path):
    path = make.save_bare(tmp_path / "a.pt")
    specs = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "twice_named.py").write_text(FAULTY)
        specs.append(ModelSpec(factory="twice_named:short", python_path=(str(tmp_path / name),)))
    assert load_checkpoint(path, spec=specs[0]).context_length == 8
    error = refusal(path, spec=specs[1])
    assert error.kind == "unsupported" and f"has imported {tmp_path}/first/twice_named.py" in error.reason
    assert load_checkpoint(path, spec=specs[0]).context_length == 8
    for name in ("first", "second"):
        sys.path.remove(str(tmp_path / name))


def test_code_that_changed_since_its_digest_was_taken_measures_nothing(tmp_path):
    path, places = make.save_bare(tmp_path / "a.pt"), (str(tmp_path),)
    (tmp_path / "edited_model.py").write_text(FAULTY)
    spec = ModelSpec("edited_model:short", python_path=places)
    spec = replace(spec, factory_digest=factory_digest(spec.factory, places))
    assert load_checkpoint(path, spec=spec).context_length == 8
    (tmp_path / "edited_model.py").write_text(FAULTY + "# edited\n")
    error = refusal(path, spec=spec)
    assert error.kind == "unsupported" and "has changed since the settings were read" in error.reason
    sys.path.remove(str(tmp_path))
