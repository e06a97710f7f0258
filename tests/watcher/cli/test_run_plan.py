"""`run --dry-run` says what is new, known, left aside, and changes nothing; `--until pid:` sees the trainer end."""

from __future__ import annotations

import os
import subprocess
import time
from types import SimpleNamespace

import pytest

from tests.support.checkpoints import save_rosellm
from tests.support.database import Database
from watcher.cli.options import Globals, db_flag
from watcher.cli.run import load
from watcher.daemon import Daemon
from watcher.domain.run_name import default_run_name
from watcher.pipeline.run_end import end_of_run, has_ended


def test_a_dry_run_tells_new_files_from_known_ones(ckptwatch, tmp_path):
    folder = tmp_path / "gpt"
    folder.mkdir()
    known, new = save_rosellm(folder / "step_1.pt"), save_rosellm(folder / "step_2.pt")
    save_rosellm(folder / "optim.pt")
    status = os.stat(known)
    stat = {"dev": status.st_dev, "inode": status.st_ino, "size_bytes": status.st_size}
    times = {"mtime_ns": status.st_mtime_ns, "ctime_ns": status.st_ctime_ns}
    database = Database(tmp_path / "r.db")
    database.run(folder=folder)
    database.checkpoint(1, path=known.name, **stat, **times)
    database.close()
    before = (tmp_path / "r.db").read_bytes()
    said = ckptwatch("run", "--dry-run", "--dir", folder, "--data", "v.npy", "--db", tmp_path / "r.db", "--json")
    plans = {row["checkpoint"]: row["plan"] for row in said.json}
    assert plans[known.name].startswith("registered before")
    assert plans[new.name] == "would be evaluated"
    assert "1 ignored: built-in ignore list" in plans[None]
    assert (tmp_path / "r.db").read_bytes() == before


def test_the_folder_of_a_factory_can_be_given_without_a_file(ckptwatch, tmp_path):
    (tmp_path / "my code").mkdir()
    given = dict.fromkeys(("data", "folder")) | {"model_factory": "m:build", "python_path": ("my code",)}
    assert load(Globals(), given).model.python_path == (tmp_path / "my code",)
    said = ckptwatch("eval", "a.pt", "--data", "v.npy", "--python-path", "none")
    assert (said.status, "none" in said.err) == (2, True)


def test_one_file_under_two_spellings_is_evaluated_once(tmp_path, monkeypatch):
    from watcher.pipeline.evaluate_once import read_all

    (tmp_path / "a").mkdir()
    saved = save_rosellm(tmp_path / "step_1.pt")
    monkeypatch.chdir(tmp_path)
    files, errors = read_all(["a/../step_1.pt", "step_1.pt"])
    assert ([item.path for item in files], errors) == ([os.fspath(saved)], [])


def test_a_command_that_is_offered_can_be_copied_whatever_the_path():
    assert db_flag("/my training/r.db") == "--db '/my training/r.db'"
    assert db_flag("postgresql://me:hunter2@host/db") == "--db 'postgresql://me:***@host/db'"


def test_a_dry_run_needs_no_database_and_makes_none(ckptwatch, tmp_path):
    folder = tmp_path / "gpt"
    folder.mkdir()
    save_rosellm(folder / "step_1.pt")
    said = ckptwatch("run", "--dry-run", "--dir", folder, "--data", "v.npy")
    assert said.status == 0
    assert "would be evaluated" in said.out
    assert "1 new file(s)" in said.err
    assert not (tmp_path / "ckptwatch.db").exists()


def test_a_trainer_that_nobody_waited_for_has_ended():
    trainer = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    assert not has_ended(str(trainer.pid))
    trainer.stdin.close()
    os.waitid(os.P_PID, trainer.pid, os.WEXITED | os.WNOWAIT)  # dead, and still in /proc
    assert os.path.exists(f"/proc/{trainer.pid}")
    assert has_ended(str(trainer.pid))
    trainer.wait()
    assert has_ended(str(trainer.pid))


@pytest.mark.parametrize(
    ("since_newest_s", "settled", "ends"), [(600.0, True, True), (599.0, True, False), (9000.0, False, False)]
)
def test_until_idle_ends_after_the_seconds_without_a_new_checkpoint_once_all_work_is_done(
    since_newest_s, settled, ends
):
    daemon = SimpleNamespace(idle_s=lambda: since_newest_s, settled_down=lambda: settled)
    assert end_of_run(False, "idle:600")(daemon) is ends


def test_idle_time_counts_from_the_newest_checkpoint_of_any_run():
    intakes = [SimpleNamespace(last_new_s=time.monotonic() - ago_s) for ago_s in (5000.0, 70.0)]
    assert 70 <= Daemon.idle_s(SimpleNamespace(watching=SimpleNamespace(intakes=intakes))) < 5000


def test_two_folders_of_one_name_become_two_runs_and_keep_their_names(tmp_path):
    """`exp1/checkpoints` and `exp2/checkpoints` in one database, as one file and as two commands."""
    from watcher.domain.timestamps import iso
    from watcher.pipeline.run_folder import adopt, free_name
    from watcher.settings.load import load_settings
    from watcher.store.migrate import open_for_writing

    folders = [tmp_path / name / "checkpoints" for name in ("exp1", "exp2")]
    for folder in folders:
        folder.mkdir(parents=True)
    store = open_for_writing(str(tmp_path / "r.db"))
    for _ in range(2):  # the second time as after a restart
        for folder, expected in zip(folders, ("exp1", "exp2"), strict=True):
            name = free_name(store, default_run_name(os.fspath(folder)), os.fspath(folder))
            assert name == expected
            adopt(store, name, os.fspath(folder), iso(0))
    assert free_name(store, "mine", os.fspath(folders[1])) == "mine"
    store.close()
    runs = "".join(f"[[run]]\ndir = '{folder}'\n" for folder in folders)
    (tmp_path / "c.toml").write_text(runs + "[[eval]]\ndata = 'v.npy'\n")
    assert [run.name for run in load_settings(tmp_path / "c.toml").run] == ["exp1", "exp2"]


def test_two_generic_folders_of_one_project_become_two_runs(tmp_path):
    """README's first two commands: `eval out/ckpt.pt`, then `run --dir checkpoints` in the same database."""
    from watcher.domain.timestamps import iso
    from watcher.pipeline.run_folder import adopt, free_name
    from watcher.store.migrate import open_for_writing

    store = open_for_writing(str(tmp_path / "r.db"))
    names = {}
    for _ in range(2):
        for leaf in ("out", "checkpoints"):
            folder = tmp_path / "nanoGPT" / leaf
            folder.mkdir(parents=True, exist_ok=True)
            names[leaf] = free_name(store, default_run_name(os.fspath(folder)), os.fspath(folder))
            adopt(store, names[leaf], os.fspath(folder), iso(0))
        assert names == {"out": "nanoGPT", "checkpoints": "nanoGPT-checkpoints"}
    store.close()


def test_a_run_that_0_1_0_named_after_its_folder_goes_on_under_that_name(tmp_path):
    from watcher.domain.timestamps import iso
    from watcher.pipeline.run_folder import adopt, free_name
    from watcher.store.migrate import open_for_writing

    folder = tmp_path / "exp1" / "checkpoints"
    folder.mkdir(parents=True)
    store = open_for_writing(str(tmp_path / "r.db"))
    adopt(store, "checkpoints", os.fspath(folder), iso(0))
    assert free_name(store, default_run_name(os.fspath(folder)), os.fspath(folder)) == "checkpoints"
    store.close()


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("/data/exp1/checkpoints", "exp1"),
        ("/data/exp1", "exp1"),
        ("/srv/nanoGPT/out", "nanoGPT"),
        ("/srv/gpt2/OUT/logs", "gpt2"),
        ("/tmp/checkpoints", "checkpoints"),
        ("/home/ada/out", "out"),
        ("/out", "out"),
    ],
)
def test_a_run_is_named_by_the_part_of_its_path_that_tells_it_apart(folder, name):
    assert default_run_name(folder) == name


def test_the_plan_shows_the_names_that_the_runs_get(ckptwatch, tmp_path):
    """Two folders by two --dir, one of whose names another folder's run has in the database."""
    from watcher.domain.timestamps import iso
    from watcher.pipeline.run_folder import adopt
    from watcher.store.migrate import open_for_writing

    for name in ("elsewhere/exp1", "a/exp1/out", "a/exp2"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("a/exp1/out", "a/exp2"):
        (tmp_path / name / "ckpt_5.pt").write_bytes(b"x")
    (tmp_path / "val.bin").write_bytes(bytes(400))
    store = open_for_writing(str(tmp_path / "r.db"))
    adopt(store, "exp1", str(tmp_path / "elsewhere/exp1"), iso(0))
    store.close()
    arguments = ("--data", "val.bin", "--db", "r.db", "--dry-run", "--json")
    told = ckptwatch("run", "--dir", "a/exp1/out", "--dir", "a/exp2", *arguments)
    assert {row["run"] for row in told.json} == {"exp1-out", "exp2"}
    refused = ckptwatch("run", "--dir", "a/exp2", "--run", "exp1", *arguments)
    assert refused.status == 3
    assert str(tmp_path / "elsewhere/exp1") in refused.err and str(tmp_path / "a/exp2") in refused.err
    assert "--run" in refused.err
    two = ckptwatch("run", "--dir", "a/exp1/out", "--dir", "a/exp2", "--run", "one", *arguments)
    assert two.status == 2 and "--run one names one run" in two.err


def test_include_and_exclude_are_flags_and_c_is_taken_after_the_verb(ckptwatch, tmp_path):
    (tmp_path / "out").mkdir()
    for name in ("a_1.pt", "b_2.pt", "b_3.pt", "c_4.bin"):
        (tmp_path / "out" / name).write_bytes(b"x")
    (tmp_path / "val.bin").write_bytes(bytes(400))
    (tmp_path / "c.toml").write_text("[[run]]\ndir = 'out'\nname = 'mine'\n[[eval]]\ndata = 'val.bin'\n")
    picked = ("--include", "b_*.pt", "--include", "*.bin", "--exclude", "b_3*", "--dry-run", "--json")
    rows = ckptwatch("run", "-c", "c.toml", *picked).json
    assert {row["checkpoint"] for row in rows if row["checkpoint"]} == {"b_2.pt", "c_4.bin"}
    assert {row["run"] for row in rows} == {"mine"}
    assert ckptwatch("config", "validate", "--config", "c.toml").status == 0
    assert ckptwatch("-c", "absent.toml", "config", "validate").status == 3
