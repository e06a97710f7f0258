"""What a release must agree on: versions, supported Pythons, the marker of typed packages."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import evalcore
import watcher

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_version_is_the_same_wherever_it_is_written():
    citation = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert citation is not None
    assert {citation.group(1), evalcore.__version__, PROJECT["project"]["version"]} == {evalcore.__version__}
    assert f"## {evalcore.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_ci_runs_every_python_that_the_project_names():
    workflow = (ROOT / ".github/workflows/ci.yml").read_text()
    tested = re.search(r"python: \[(.*)\]", workflow)
    assert tested is not None and ".ci/run" in workflow
    named = [line.split(":: ")[-1] for line in PROJECT["project"]["classifiers"] if "Python :: 3." in line]
    assert re.findall(r"[\d.]+", tested.group(1)) == named
    assert PROJECT["project"]["requires-python"] == f">={named[0]}"


def test_both_packages_are_marked_as_typed_in_the_clone_and_in_the_wheel():
    for package in (evalcore, watcher):
        assert Path(package.__file__).with_name("py.typed").exists()
        assert "py.typed" in PROJECT["tool"]["setuptools"]["package-data"][package.__name__]


def test_ci_runs_the_two_commands_of_the_readme_in_an_emptied_environment():
    readme, script = (ROOT / "README.md").read_text(), (ROOT / ".ci/run").read_text()
    commands = re.findall(r"^\$ (make \w+)", readme, re.MULTILINE)
    assert commands == ["make demo", "make test"]
    runs = re.findall(r"^emptied (make \w+)$", script, re.MULTILINE)
    assert runs == [*commands, "make check", "make faults"]
    assert "env -i" in script
