"""`run --dry-run` says what is new, known, left aside, and changes nothing; `--until pid:` sees the trainer end."""

from __future__ import annotations

import os
import subprocess

from tests.support.checkpoints import save_rosellm
from tests.support.database import Database
from watcher.cli.options import Globals, db_flag
from watcher.cli.run import load
from watcher.pipeline.run_end import has_ended


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
        names = [free_name(store, "checkpoints", os.fspath(folder)) for folder in folders]
        assert names[0] == "checkpoints"
        for folder, name in zip(folders, names, strict=True):
            adopt(store, free_name(store, "checkpoints", os.fspath(folder)), os.fspath(folder), iso(0))
    assert free_name(store, "checkpoints", os.fspath(folders[1])) == "exp2-checkpoints"
    assert free_name(store, "mine", os.fspath(folders[1])) == "mine"
    store.close()
    runs = "".join(f"[[run]]\ndir = '{folder}'\n" for folder in folders)
    (tmp_path / "c.toml").write_text(runs + "[[eval]]\ndata = 'v.npy'\n")
    assert [run.name for run in load_settings(tmp_path / "c.toml").run] == ["checkpoints", "exp2-checkpoints"]
