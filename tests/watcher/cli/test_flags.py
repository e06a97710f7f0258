"""The evaluation flags: what settles how a data file is read reaches the settings, by one list of choices."""

from typing import get_args

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
