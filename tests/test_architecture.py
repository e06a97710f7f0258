"""The rules of the house, each with its reason. A broken one names the file and the import."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PURE = (
    *(
        "watcher/domain/checkpoint.py",
        "watcher/domain/job.py",
        "watcher/retry.py",
        "watcher/domain/order.py",
        "watcher/domain/health.py",
    ),
    "watcher/detect/settle.py",
)
EDGES = ("detect", "store", "launch", "sinks", "web", "report")
MAX_LINES = 400


def sources(folder: str) -> list[Path]:
    return sorted(path for path in (ROOT / folder).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Every module that the file imports, in functions too; typing-only blocks count."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def offences(files: list[Path], forbidden: tuple[str, ...], but: tuple[str, ...] = ()) -> list[str]:
    def inside(name: str, packages: tuple[str, ...]) -> bool:
        return any(name == package or name.startswith(package + ".") for package in packages)

    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in imports(path)
        if inside(name, forbidden) and not inside(name, but)
    ]


def test_evalcore_does_not_know_the_daemon() -> None:
    """A trainer's environment has torch, numpy and tiktoken, and nothing of ours besides."""
    assert offences(sources("evalcore"), ("watcher", "sqlalchemy", "watchdog", "alembic", "pydantic", "click")) == []


def test_watcher_takes_only_the_contract_and_the_archive_of_evalcore() -> None:
    """What else evalcore holds imports torch, and the daemon must stay small beside a training run."""
    allowed = ("evalcore.messages", "evalcore.archive", "evalcore.__version__")
    files = [path for path in sources("watcher") if path.name != "demo.py"]  # the demo asks where its text lies
    assert offences(files, ("torch", "numpy", "tiktoken")) == []
    assert offences(files, ("evalcore",), but=allowed) == []


@pytest.mark.parametrize("name", PURE)
def test_pure_rooms_have_no_clock_no_chance_and_no_disk(name: str) -> None:
    """Decisions can be tested with values alone."""
    forbidden = ("os", "time", "subprocess", "threading", "sqlalchemy", "random", "pathlib")
    assert offences([ROOT / name], forbidden) == []


@pytest.mark.parametrize(
    ("library", "rooms"),
    [
        ("sqlalchemy", ("watcher/store",)),
        ("watchdog", ("watcher/detect",)),
        ("subprocess", ("watcher/launch", "watcher/sinks")),
    ],
)
def test_a_library_lives_in_its_room(library: str, rooms: tuple[str, ...]) -> None:
    """What could be exchanged one day is known to one room only."""
    files = [
        path for path in sources("watcher") if not str(path.relative_to(ROOT)).startswith(tuple(r + "/" for r in rooms))
    ]
    assert offences(files, (library,)) == []


@pytest.mark.parametrize("room", EDGES)
def test_edges_do_not_import_one_another(room: str) -> None:
    """The wiring stands in daemon.py and in the verbs of cli/; web and report read the store and shape rows."""
    readers = {"web": ("store", "report"), "report": ("store",), "sinks": ("store",)}
    others = tuple(f"watcher.{edge}" for edge in EDGES if edge != room and edge not in readers.get(room, ()))
    assert offences(sources(f"watcher/{room}"), others) == []


@pytest.mark.parametrize("folder", ["watcher", "evalcore", "tests", "bench"])
def test_no_file_is_longer_than_three_screens_or_so(folder: str) -> None:
    long = {str(p.relative_to(ROOT)): n for p in sources(folder) if (n := len(p.read_text().splitlines())) > MAX_LINES}
    assert long == {}


def test_the_daemon_loads_neither_torch_nor_numpy() -> None:
    modules = "watcher.daemon, watcher.cli, watcher.cli.run"
    code = f"import sys, {modules}; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_every_verb_has_a_file_an_example_and_no_missing_module() -> None:
    from watcher.cli import VERBS, root

    for verb in VERBS:
        command = root.get_command(None, verb)  # type: ignore[arg-type]
        assert command is not None and "Example" in (command.epilog or ""), verb
