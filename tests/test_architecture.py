"""The rules of the house, each with its reason. A broken one names the file and the import."""

from __future__ import annotations

import ast
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAX_LINES = 300
MEDIAN_LINES = 100
ROOT_FILES_MAX = 6

#: What each room of watcher/ may import besides itself. Every room may use the files of EVERYWHERE.
ROOMS: dict[str, tuple[str, ...]] = {
    "domain": (),
    "settings": ("domain",),
    "state": ("domain",),
    "detect": ("domain",),
    "store": ("domain",),
    "report": ("domain",),
    "launch": ("domain", "settings"),
    "sinks": ("domain", "settings", "report"),
    "alerts": ("domain", "settings", "report"),
    "web": ("report", "store.read", "domain", "settings", "state"),
    "setup": ("launch", "store", "state", "settings", "detect", "domain"),
}
EVERYWHERE = ("errors", "failpoints", "log")
#: The libraries that one room alone knows: what could be exchanged one day is known in one place.
LIBRARIES = {
    "sqlalchemy": ("store",),
    "watchdog": ("detect",),
    "subprocess": ("launch", "sinks", "alerts"),
}
FROM_EVALCORE = (
    *(
        "evalcore.messages",
        "evalcore.message_json",
        "evalcore.launch_folder",
        "evalcore.mean_weights",
        "evalcore.device_memory",  # what a launch must find free follows from what its worker takes
        "evalcore.progress",
        "evalcore.spikes",
        "evalcore.archive",
        "evalcore.data_digest",
        "evalcore.logged_loss",  # the worker's note and the daemon's alert judge alike
        # a task is part of an eval set: settings name it, `compare` decodes the scores of its items
        "evalcore.tasks.spec",
        "evalcore.sampling.spec",
        "evalcore.tasks.item_scores",
        "evalcore.tasks.items",  # `results --items` shows the text of an item
        "evalcore.tasks.rendering",
        "evalcore.tasks.rows",
        "evalcore.tasks.sniffing",
        "evalcore.tasks.bundle",
        "evalcore.tasks.suite_mean",  # the same mean as that of `python -m evalcore --suite`
    ),
    "evalcore.__version__",
)


def sources(folder: str) -> list[Path]:
    return sorted(path for path in (ROOT / folder).rglob("*.py"))


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for folder in ("watcher", "evalcore") for path in sources(folder)}


def imports(path: Path) -> Iterator[str]:
    """Every module that the file imports, in functions too; typing-only blocks count."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def inside(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def offences(files: list[Path], forbidden: tuple[str, ...], but: tuple[str, ...] = ()) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in imports(path)
        if inside(name, forbidden) and not inside(name, but)
    ]


def test_evalcore_does_not_know_the_daemon() -> None:
    """A trainer's environment has torch, numpy and tiktoken, and nothing of ours besides."""
    assert offences(sources("evalcore"), ("watcher", "sqlalchemy", "watchdog", "alembic", "pydantic", "click")) == []


def test_watcher_takes_only_the_messages_and_the_archive_of_evalcore() -> None:
    """What else evalcore holds imports torch, and the daemon must stay small beside a training run."""
    files = [path for path in sources("watcher") if path.name != "demo.py"]  # the demo asks where its text lies
    assert offences(files, ("torch", "numpy", "tiktoken")) == []
    assert offences(files, ("evalcore",), but=FROM_EVALCORE) == []


def test_what_watcher_takes_of_evalcore_is_standard_library_only() -> None:
    """The messages are read by a daemon without torch and by a trainer's environment without SQLAlchemy."""
    heavy = ("torch", "numpy", "tiktoken", "safetensors", "transformers")
    taken = [MODULES[name] for name in MODULES if inside(name, FROM_EVALCORE)]
    assert offences(taken, heavy) == []


def test_domain_has_no_clock_no_process_and_no_disk() -> None:
    """Decisions can be tested with values alone: time and chance come in as arguments."""
    forbidden = ("os", "time", "subprocess", "threading", "sqlalchemy", "random", "pathlib")
    assert offences([*sources("watcher/domain"), ROOT / "watcher/detect/settle.py"], forbidden) == []


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_the_table_allows(room: str) -> None:
    """Files of one room never reach sideways; pipeline/, daemon.py and cli/ wire them together."""
    allowed = tuple(f"watcher.{name}" for name in (room, *ROOMS[room], *EVERYWHERE, "__version__"))
    assert offences(sources(f"watcher/{room}"), ("watcher",), but=allowed) == []


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_lives_in_its_room(library: str) -> None:
    """What could be exchanged one day is known to one room only."""
    rooms = tuple(f"watcher/{room}/" for room in LIBRARIES[library])
    files = [path for path in sources("watcher") if not str(path.relative_to(ROOT)).startswith(rooms)]
    assert offences(files, (library,)) == []


def test_no_import_goes_in_a_circle() -> None:
    """A circle means that two files are one thing, or that a third holds what both need."""
    edges = {name: _inner_imports(name) for name in MODULES}
    seen: dict[str, int] = {}
    circles: list[str] = []

    def visit(name: str, path: list[str]) -> None:
        if seen.get(name) == 2:
            return
        if seen.get(name) == 1:
            circles.append(" -> ".join([*path[path.index(name) :], name]))
            return
        seen[name] = 1
        for target in sorted(edges[name]):
            visit(target, [*path, name])
        seen[name] = 2

    for name in sorted(edges):
        visit(name, [])
    assert circles == []


def _inner_imports(name: str) -> set[str]:
    targets = set()
    for imported in imports(MODULES[name]):
        target = imported if imported in MODULES else imported.rsplit(".", 1)[0]
        if target in MODULES and target != name and not name.startswith(target + "."):
            targets.add(target)
    return targets


@pytest.mark.parametrize("folder", ["watcher", "evalcore"])
def test_nobody_touches_the_private_state_of_another_object(folder: str) -> None:
    """An underscore is a promise that a change stays within one file."""
    touched = []
    for path in sources(folder):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        own = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and _is_self(node.value)}
        own |= {node.target.id for node in ast.walk(tree) if isinstance(node, ast.AnnAssign) and _is_name(node.target)}
        own |= {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
        for node in ast.walk(tree):
            if not isinstance(node, ast.Attribute) or not _is_private(node.attr) or _is_self(node.value):
                continue
            if node.attr not in own and not (folder == "evalcore" and node.attr in TORCH_PRIVATE):
                touched.append(f"{path.relative_to(ROOT)}:{node.lineno} {ast.unparse(node)}")
    assert touched == []


#: torch has no public name for these.
TORCH_PRIVATE = ("_apply", "_linear_pointwise", "_is_mkldnn_bf16_supported")


def _is_private(name: str) -> bool:
    return (
        name.startswith("_") and not name.startswith("__") and name not in ("_replace", "_asdict", "_fields", "_exit")
    )


def _is_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def _is_name(node: ast.AST) -> bool:
    return isinstance(node, ast.Name)


@pytest.mark.parametrize("folder", ["watcher", "evalcore", "migrations", "tests", "bench", "docs"])
def test_no_file_is_longer_than_three_screens(folder: str) -> None:
    limit = MAX_LINES if folder in ("watcher", "evalcore") else 400
    long = {str(p.relative_to(ROOT)): n for p in sources(folder) if (n := len(p.read_text().splitlines())) > limit}
    assert long == {}


def test_most_files_are_one_screen_or_two() -> None:
    lengths = [len(path.read_text().splitlines()) for path in MODULES.values() if path.name != "__init__.py"]
    assert statistics.median(lengths) <= MEDIAN_LINES


def test_a_newcomer_sees_rooms_at_the_root_of_watcher() -> None:
    assert len([path for path in (ROOT / "watcher").iterdir() if path.suffix == ".py"]) <= ROOT_FILES_MAX


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


def test_the_wheel_declares_every_package_and_every_data_file():
    """The editable installation of a checkout works without them; an installed wheel does not start."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    rooms = [ROOT / "watcher", ROOT / "evalcore"]
    packages = {
        ".".join(init.parent.relative_to(ROOT).parts) for room in rooms for init in room.rglob("__init__.py")
    } | {"watcher.migrations", "watcher.migrations.versions"}
    assert set(declared["packages"]) == packages
    shipped = {
        file
        for package, patterns in declared["package-data"].items()
        for pattern in patterns
        for file in (ROOT / package.replace(".", "/")).glob(pattern)
    }
    ignored = {".py", ".pyc"}
    data = {file for room in rooms for file in room.rglob("*") if file.is_file() and file.suffix not in ignored}
    assert data == shipped
