"""The evaluation flags: what settles how a data file is read reaches the settings, by one list of choices."""

from typing import get_args

import click
import numpy as np
import pytest

from evalcore.data_digest import FORMATS, TOKEN_DTYPES
from watcher.cli import root
from watcher.cli.flags import as_settings
from watcher.settings.evaluation import EvalSettings

NOTHING = {"data": (), "python_path": ()}


def choices(field):
    annotation = EvalSettings.model_fields[field].annotation
    literals = [part for part in (annotation, *get_args(annotation)) if get_args(part)]
    return {value for literal in literals for value in get_args(literal) if isinstance(value, str)}


def test_flags_and_settings_have_the_choices_of_evalcore():
    assert choices("format") == set(FORMATS) and choices("token_dtype") == set(TOKEN_DTYPES)


def test_the_flags_of_a_refusal_become_settings_of_the_set():
    given = {"token_dtype": "uint32", "format": "raw", "text_field": "story"}
    assert as_settings({**NOTHING, **given, "data": ("val.bin",)})["eval"] == [{"data": ["val.bin"], **given}]
    assert as_settings({**NOTHING, **given})["measure"] == given  # laid over the sets of the file


@pytest.mark.parametrize("verb", ["eval", "run"])
@pytest.mark.parametrize("flag", ["--token-dtype", "--format", "--text-field", "--tokenizer", "--max-tokens"])
def test_every_flag_that_a_refusal_names_exists(verb, flag):
    command = root.get_command(None, verb)
    assert flag in {name for parameter in command.params for name in parameter.opts}


def test_a_flag_goes_to_the_sets_that_it_has_a_meaning_for(tmp_path):
    items = tmp_path / "hellaswag_val.jsonl"
    items.write_text('{"ctx": "A man", "endings": ["a", "b", "c", "d"], "label": 1}\n')
    given = {"data": ("val.bin", str(items)), "max_tokens": 100, "max_items": 5, "tokenizer": "bytes"}
    given |= {"delimiter": "\nAnswer: ", "bos": False}
    settings = as_settings({**NOTHING, **given, "suite": (str(tmp_path),)})
    assert settings["eval"] == [
        {"data": ["val.bin"], "tokenizer": "bytes", "max_tokens": 100},
        {"data": [str(items)], "tokenizer": "bytes", "max_items": 5, "delimiter": "\nAnswer: ", "bos": False},
    ]
    assert settings["suite"] == [{"data": str(tmp_path), "tokenizer": "bytes", "max_items": 5}]


def test_task_names_what_files_hold_and_leaves_token_files_alone(tmp_path):
    given = {"data": ("val.bin", "lambada.jsonl"), "task": "lambada"}
    assert as_settings({**NOTHING, **given})["eval"] == [
        {"data": ["val.bin"]}, {"data": ["lambada.jsonl"], "task": "lambada"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"data": ("val.bin",), "max_items": 5}, "--max-items has no meaning here"),
        ({"data": ("items.jsonl",), "task": "piqa", "max_tokens": 9}, "--max-tokens has no meaning for a task"),
        ({"task": "piqa"}, "--task belongs to --data or --suite"),
    ],
)
def test_a_flag_without_a_set_that_it_means_anything_for_is_refused(given, words):
    with pytest.raises(click.UsageError, match=words):
        as_settings({**NOTHING, **given})


def test_a_set_is_named_on_the_command_line_as_two_files_of_one_name_need(ckptwatch, tmp_path):
    for folder in ("out", "a", "b"):
        (tmp_path / folder).mkdir()
        np.arange(100, dtype=np.uint16).tofile(tmp_path / folder / "val.bin")
    np.arange(100, dtype=np.uint16).tofile(tmp_path / "lr=3.bin")
    plan = ("run", "--dry-run", "--dir", "out")
    refused = ckptwatch(*plan, "--data", "a/val.bin", "--data", "b/val.bin")
    assert refused.status == 3 and "--data NAME=PATH" in refused.err
    named = ckptwatch(*plan, "--data", "a/val.bin", "--data", "code=b/val.bin", "--data", "lr=3.bin")
    assert "3 set(s): val, code, lr=3;" in named.err  # a file that exists is no NAME=PATH
    one = as_settings({**NOTHING, "data": ("web=a/*.bin", "b/val.bin"), "one_set": True})["eval"]
    assert one == [{"data": ["a/*.bin", "b/val.bin"], "name": "web"}]
    with pytest.raises(click.UsageError, match="2: code, web"):
        as_settings({**NOTHING, "data": ("web=a/val.bin", "code=b/val.bin"), "one_set": True})
