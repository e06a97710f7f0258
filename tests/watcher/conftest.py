"""What the tests of the daemon's package share: the command line called in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from watcher.cli import main


@dataclass(frozen=True)
class Said:
    """What one call of the command line gave back."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def ckptwatch(capsys: pytest.CaptureFixture[str], monkeypatch, tmp_path) -> Callable[..., Said]:
    """Call a verb in an empty folder: ckptwatch("results", "--json"). stdout is no terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    def call(*arguments: Any) -> Said:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Said(status, out, err)

    return call
