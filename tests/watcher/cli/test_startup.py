"""What a verb imports before it prints: the lists that users call all day load no library that they do not need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.support.database import small_run

ROOT = Path(__file__).parents[3]
PROGRAM = """
import gc, json, sys
from watcher.cli import main
for call in json.loads(sys.argv[1]):
    main(call)
collections = [generation["collections"] for generation in gc.get_stats()]
print(json.dumps({"modules": sorted(sys.modules), "collections": collections}), file=sys.stderr)
"""
#: What only other verbs, or certain flags of these, need: each costs milliseconds.
OF_OTHERS = {
    *("difflib", "evalcore.messages", "evalcore.tasks.item_scores", "watcher.cli.items", "watcher.report.comparison"),
    *("watcher.report.conditions", "watcher.report.curves", "watcher.settings.load", "watcher.store.read.dashboard"),
    *("watcher.store.read.tasks", "watcher.store.read.windows", "watcher.store.transfer"),
}
SLOW = {"sqlalchemy", "alembic", "pydantic", "rich", "numpy", "torch", "watchdog", "tomlkit", "starlette"}


def loaded(folder: Path, *calls: list[str], among: set[str] = SLOW) -> set[str]:
    """The modules of `among` that a process has imported after these command lines, without settings."""
    return among & set(after(folder, *calls)["modules"])


def after(folder: Path, *calls: list[str]) -> dict:
    """modules, collections (of each generation) of a process after these command lines, without settings."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CKPTWATCH_")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(calls)], cwd=folder, capture_output=True, text=True, timeout=60,
        env=environment | {"PYTHONPATH": os.fspath(ROOT)}, check=True,
    )  # fmt: skip
    assert done.stdout
    return json.loads(done.stderr.splitlines()[-1])


def test_help_and_version_import_no_library_but_click(tmp_path):
    assert loaded(tmp_path, ["--help"], ["--version"]) == set()


def test_results_status_and_queue_import_sqlalchemy_and_nothing_else_that_is_slow(tmp_path):
    small_run(tmp_path / "ckptwatch.db").close()
    assert loaded(tmp_path, ["results"], ["status"], ["queue", "list"]) == {"sqlalchemy"}


def test_without_settings_the_same_database_and_state_folder_are_used_as_with_an_empty_file(tmp_path, monkeypatch):
    from watcher.cli.options import Globals, database_url
    from watcher.cli.showing import state_folder
    from watcher.settings.names import DEFAULT_DEVICE
    from watcher.settings.schema import LaunchSettings

    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("CKPTWATCH_")]:
        monkeypatch.delenv(name)
    (tmp_path / "empty.toml").touch()
    without, given = Globals(None), Globals("empty.toml")
    assert database_url(without, None) == database_url(given, None)
    assert state_folder(without, None) == state_folder(given, None)
    assert LaunchSettings().device == DEFAULT_DEVICE


def test_lists_load_nothing_that_only_other_verbs_or_flags_need(tmp_path):
    small_run(tmp_path / "ckptwatch.db").close()
    assert loaded(tmp_path, ["results"], ["queue", "list"], among=OF_OTHERS | {"watcher.domain.health"}) == set()
    assert loaded(tmp_path, ["status"], among=OF_OTHERS) == set()


def test_a_list_hardly_collects_cycles_and_the_daemon_keeps_pythons_thresholds(tmp_path, monkeypatch):
    import atexit
    import gc

    from watcher import cli

    small_run(tmp_path / "ckptwatch.db").close()
    at_exit = []
    monkeypatch.setattr(atexit, "register", at_exit.append)
    usual = gc.get_threshold()
    try:
        for verb in ("run", "serve"):
            cli.root.get_command(None, verb)
            assert (gc.get_threshold(), at_exit) == (usual, [])
        cli.root.get_command(None, "results")
        assert gc.get_threshold()[0] == cli.GC_THRESHOLD
        assert at_exit == [gc.freeze]
    finally:
        gc.set_threshold(*usual)
    youngest, *_ = after(tmp_path, ["results"])["collections"]
    assert youngest < 60  # 30 while click is imported; with Python's own thresholds 110


def test_torchrun_is_imported_without_collections_and_runs_with_them():
    program = """
import atexit, gc, sys
sys.argv[1:] = ["--help"]
atexit.register(lambda: print(gc.isenabled(), gc.get_stats()[2]["collections"], gc.get_freeze_count() > 50_000))
import runpy
runpy.run_module("evalcore.worker.torchrun", run_name="__main__", alter_sys=True)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert "--nproc-per-node" in done.stdout, done.stderr  # torchrun's own help
    assert done.stdout.splitlines()[-1] == "True 0 True"
