"""The evaluation flags: what settles how a data file is read reaches the settings, by one list of choices."""

from typing import get_args

import click
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
