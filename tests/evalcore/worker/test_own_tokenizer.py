"""Text is read with the tokenizer in the checkpoint's folder where the eval set names none."""

from __future__ import annotations

import hashlib

import pytest

from evalcore.messages import EvalSetSpec, Item
from evalcore.tasks.spec import task_spec
from evalcore.worker.own_tokenizer import folder_of, with_own_tokenizer


@pytest.mark.parametrize(
    ("spec", "uses"),
    [
        (EvalSetSpec("val", ("val.txt",), kinds=("text",)), True),
        (EvalSetSpec("val", ("a.jsonl",), format="jsonl", kinds=("jsonl",)), True),
        (EvalSetSpec("val", ("val.bin",), kinds=("bin",)), False),
        (EvalSetSpec("val", ("val.txt",), kinds=("text",), tokenizer="gpt2"), False),
        (EvalSetSpec("h", ("h.jsonl",), task=task_spec("hellaswag")), True),
        (EvalSetSpec("h", ("h.bin",), task=task_spec("tokens")), False),
    ],
)
def test_the_folder_s_tokenizer_serves_what_has_to_be_tokenised(tmp_path, spec, uses):
    assert with_own_tokenizer(spec, str(tmp_path)) == spec  # the folder has none
    (tmp_path / "tokenizer.json").write_text("{}")
    found = with_own_tokenizer(spec, str(tmp_path))
    if uses:
        assert found.tokenizer == str(tmp_path / "tokenizer.json")
        assert found.tokenizer_digest == "sha256:" + hashlib.sha256(b"{}").hexdigest()
    else:
        assert found == spec


def test_a_safetensors_file_has_the_folder_of_its_trainer_also_when_a_copy_is_read():
    assert folder_of(Item("out/checkpoint-5", "", 0, ())) == "out/checkpoint-5"
    assert folder_of(Item("out/model.safetensors", "", 0, ())) == "out"
    assert folder_of(Item("spool/1-a.safetensors", "", 0, (), beside="out/model.safetensors")) == "out"
