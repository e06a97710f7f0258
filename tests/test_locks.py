"""The lock files and the script that installs them: complete, hashed, without torch; pip's settings reach uv."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from locks.install import uv_environment, uv_flags

ROOT = Path(__file__).parent.parent
EXTRA_OF = {"demo": "plot", "dev": "dev"}


def locked(name: str) -> dict[str, list[str]]:
    """package -> its hashes"""
    text = (ROOT / f"locks/{name}.txt").read_text()
    blocks = re.split(r"\n(?=[a-z0-9])", text)[1:]
    return {block.split("==")[0]: re.findall(r"--hash=sha256:([0-9a-f]{64})", block) for block in blocks}


def required(extra: str) -> set[str]:
    """The names that the project and this extra ask for, extras of the project unfolded."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names, todo = set(), [*project["dependencies"], *project["optional-dependencies"][extra]]
    while todo:
        wanted = Requirement(todo.pop())
        if wanted.name == project["name"]:
            todo += [line for inner in wanted.extras for line in project["optional-dependencies"][inner]]
        else:
            names.add(canonicalize_name(wanted.name))
    return names


@pytest.mark.parametrize("name", ["demo", "dev", "uv"])
def test_every_locked_package_has_a_hash_and_none_comes_with_cuda(name):
    packages = locked(name)
    assert packages
    assert [package for package, hashes in packages.items() if not hashes] == []
    of_cuda = re.compile(r"torch|triton|cuda-|nvidia-(?!ml-py)")
    assert [package for package in packages if of_cuda.match(package)] == []


@pytest.mark.parametrize("name", EXTRA_OF)
def test_a_package_built_for_one_python_is_locked_for_every_python_that_pyproject_names(name):
    """A lock made beside a folder of wheels for one Python held one hash, and no other Python could install it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pythons = [line for line in project["classifiers"] if re.search(r":: 3\.\d+$", line)]
    packages, compiled = locked(name), set()
    for package in packages:
        try:
            files = importlib.metadata.files(package) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # of another platform
        if any(re.search(r"\.cpython-\d+-.*\.so$", file.name) for file in files):
            compiled.add(package)
    assert {"numpy", "matplotlib"} & compiled
    assert [package for package in compiled if len(packages[package]) < len(pythons)] == []


def test_the_locks_are_resolved_from_the_package_index_alone(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "locks")
    lock = importlib.import_module("lock")
    given = {
        "UV_FIND_LINKS": "/wheels",
        "UV_INDEX": "file:///more/simple",
        "UV_DEFAULT_INDEX": "https://a.invalid/simple",
    }
    assert lock.index_alone(given) == {"UV_DEFAULT_INDEX": "https://a.invalid/simple", "UV_NO_CONFIG": "1"}
    assert lock.without_hashes("a==1 \\\n    --hash=sha256:0 \\\n    --hash=sha256:1\nb==2\n") == "a==1\nb==2\n"


@pytest.mark.parametrize("name", EXTRA_OF)
def test_the_locks_hold_what_pyproject_asks_for(name):
    assert required(EXTRA_OF[name]) - {"torch"} - set(locked(name)) == set()


def test_the_demo_needs_no_tracker_browser_or_linter():
    assert set(locked("demo")) & {"mlflow", "wandb", "trackio", "mkdocs", "playwright", "mypy", "ruff"} == set()


def test_the_installed_torch_is_of_the_pinned_version():
    pinned = (ROOT / "locks/torch.txt").read_text().strip().removeprefix("torch==")
    assert importlib.metadata.version("torch").split("+")[0] == pinned


def test_uv_gets_what_pip_is_configured_with(tmp_path, monkeypatch):
    (tmp_path / "pip.conf").write_text(
        "[global]\nfind-links =\n  /a\n  /b\ncert = /ca.pem\n[install]\nindex-url = https://mirror.invalid/simple\n"
        "extra-index-url = https://one.invalid/simple\n  https://two.invalid/simple\n"
    )
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_")) or name == "SSL_CERT_FILE"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", os.fspath(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.fspath(tmp_path / "pip.conf"))
    monkeypatch.setenv("PIP_FIND_LINKS", "/wheels")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://mine.invalid/simple")
    assert uv_flags() == []
    environment = uv_environment()
    assert environment["UV_FIND_LINKS"] == "/wheels"  # a variable stands before a file
    assert environment["SSL_CERT_FILE"] == "/ca.pem"
    assert environment["UV_DEFAULT_INDEX"] == "https://mine.invalid/simple"  # uv's own variable stays
    assert environment["UV_INDEX"] == "https://one.invalid/simple https://two.invalid/simple"
    assert environment["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert uv_flags() == ["--no-index"]  # uv reads no variable for it


def test_the_test_environment_has_every_library_without_which_a_test_would_skip_itself():
    """Browser and engines need more than the environment; `make test` does not run them."""
    files = [path for path in (ROOT / "tests").rglob("*.py") if not {"browser", "engines"} & set(path.parts)]
    names = {name for path in files for name in re.findall(r'importorskip\("(\w+)', path.read_text())}
    assert len(names) > 5 and {name for name in names if importlib.util.find_spec(name) is None} == set()
