"""Generated settings texts: configs/full.toml is fresh and whole, and what is shown hides what is secret."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from watcher.settings.load import load_settings
from watcher.settings.masking import shown
from watcher.settings.schema import Settings
from watcher.settings.template import as_toml, full_toml, toml_value

CONFIGS = Path(__file__).parents[3] / "configs"


def test_the_full_example_is_what_the_settings_say_now():
    stale = "run `ckptwatch config schema --toml > configs/full.toml`"
    assert (CONFIGS / "full.toml").read_text(encoding="utf-8") == full_toml(), stale


def test_the_full_example_names_every_key_and_loads_as_the_defaults():
    text = full_toml()
    for name, field in Settings.model_fields.items():
        section = next(
            a for a in (field.annotation, *getattr(field.annotation, "__args__", ())) if a.__class__ is type(Settings)
        )
        for key in section.model_fields:
            assert f"{key} = " in text or f"[{name}.{key}]" in text, (name, key)
    full, minimal = load_settings(CONFIGS / "full.toml"), load_settings(CONFIGS / "minimal.toml")
    assert full.launch == minimal.launch
    assert full.run == minimal.run
    assert full.eval == minimal.eval


def test_every_example_behind_a_comment_is_valid_too(tmp_path):
    uncommented = []
    for line in full_toml().splitlines():
        bare = line
        while bare.startswith("# ") and (" = " in bare or bare.startswith("# [[")):
            bare = bare.removeprefix("# ")
        if bare.startswith("[") or (" = " in bare and bare.split(" = ")[0].isidentifier()):
            uncommented.append(bare)
    (tmp_path / "all.toml").write_text("\n".join(uncommented))
    settings = load_settings(tmp_path / "all.toml")
    assert settings.run[0].ready_marker == "{name}.done"
    assert settings.launch.slurm.partition == "gpu"
    assert settings.sink[0].kind == "jsonl"
    assert settings.alert[0].webhook == "https://example.org/hook"


@pytest.mark.parametrize(
    "value", ["plain", 'quo"te', "back\\slash", "new\nline", "é→\x7f", True, 3, 2.5, ["a", "b"], {"k": 1}]
)
def test_values_written_as_toml_come_back_the_same(value):
    assert tomllib.loads(f"key = {toml_value(value)}") == {"key": value}


def test_settings_shown_hide_passwords_and_secret_addresses(tmp_path):
    file = tmp_path / "ckptwatch.toml"
    file.write_text(
        '[store]\nurl = "postgresql+psycopg://me:hunter2@db.lan/results"\n'
        '[[eval]]\ndata = "v.txt"\ntokenizer = "gpt2"\n'
        '[[alert]]\non = ["best"]\nwebhook = "https://hooks.example.org/T0/SECRET"\n'
    )
    text = as_toml(shown(load_settings(file)))
    assert "hunter2" not in text
    assert "SECRET" not in text
    assert "postgresql+psycopg://me:***@db.lan/results" in text
    assert 'tokenizer = "gpt2"' in text
    assert tomllib.loads(text)["eval"][0]["tokenizer"] == "gpt2"
