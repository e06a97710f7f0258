"""One spelling for a path, whatever way it is given: by a flag, in a settings file, through links."""

import os

import pytest

from watcher.cli.options import Globals
from watcher.cli.run import load
from watcher.settings.load import load_settings
from watcher.settings.paths import plain_path


@pytest.fixture
def home(tmp_path, monkeypatch):
    """`a/out`, `link` -> `far/inner`, and the working folder."""
    for folder in ("a/out", "far/inner", "far/out"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "link").symlink_to("far/inner")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ("a/../a/out", "a/out"),
        ("a/out/", "a/out"),
        ("./a//out/.", "a/out"),
        ("missing/../a/out", "a/out"),
        ("link", "link"),
        ("link/x/..", "link"),
        ("link/../out", "far/out"),
    ],
)
def test_a_path_has_one_spelling_and_keeps_its_links(home, given, plain):
    expected = os.fspath(home / plain)
    assert plain_path(given) == plain_path(home / given) == plain_path(f"{home}/{given}") == expected
    if os.path.isdir(given):
        assert os.path.samefile(given, expected)


def test_above_the_root_is_the_root():
    assert plain_path("//../../x/") == "/x" and plain_path("/..") == "/"


def test_a_flag_and_a_settings_file_name_one_run_however_they_spell_its_folder(home):
    flags = dict.fromkeys(("data", "folder")) | {"folders": ("a/../a/out/", "a/out", "link/../out")}
    runs = load(Globals(), flags).run
    assert [(run.name, run.dir) for run in runs] == [("a", home / "a/out"), ("far", home / "far/out")]
    for spelled in ("a/../a/out/", "./a//out", f"{home}/link/../../a/out"):
        (home / "c.toml").write_text(f"[[run]]\ndir = '{spelled}'\n[store]\nurl = 'a/../r.db'\n")
        settings = load_settings(home / "c.toml")
        assert (settings.run[0].name, settings.run[0].dir) == ("a", home / "a/out")
        assert settings.store.url == os.fspath(home / "r.db")
