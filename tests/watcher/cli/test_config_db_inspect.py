"""`config`, `db`, `inspect`, `completion`: what they print, and the status they end with."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from tests.support.checkpoints import save_rosellm
from tests.support.database import small_run
from watcher.state.folder import StateFolder
from watcher.state.lock import Lock

ROOT = Path(__file__).parents[3]


def test_two_misspelt_keys_are_both_named_with_the_right_ones(ckptwatch, tmp_path):
    (tmp_path / "bad.toml").write_text('[[run]]\ndir = "x"\nsettel_s = 1\n[lunch]\nnproc = 1\n')
    said = ckptwatch("-c", "bad.toml", "config", "validate")
    assert said.status == 3
    assert "did you mean `settle_s`?" in said.err
    assert "did you mean `launch`?" in said.err
    assert ckptwatch("-c", "bad.toml", "config", "validate", "--json").json["valid"] is False


def test_a_right_file_is_said_to_be_right_and_a_missing_folder_is_a_note(ckptwatch, tmp_path):
    (tmp_path / "ckptwatch.toml").write_text('[[run]]\ndir = "ck"\n[[eval]]\ndata = "v.npy"\n')
    said = ckptwatch("config", "validate")
    assert said.status == 0
    assert "1 run(s), 1 eval set(s), no problems" in said.err
    assert "does not exist yet" in said.err
    assert ckptwatch("config", "show", "--json").json["run"][0]["dir"] == str(tmp_path / "ck")


def test_the_environment_shows_in_the_settings_in_force(ckptwatch, monkeypatch):
    monkeypatch.setenv("CKPTWATCH_LAUNCH_NPROC", "7")
    assert ckptwatch("config", "show", "--json").json["launch"]["nproc"] == 7


def test_the_schema_is_a_json_schema_with_every_section(ckptwatch):
    said = ckptwatch("config", "schema")
    assert set(said.json["properties"]) >= {"run", "eval", "launch", "store", "web"}


def test_db_path_prints_the_path_alone_so_that_sqlite3_can_take_it(ckptwatch, tmp_path):
    small_run(tmp_path / "ckptwatch.db").close()
    said = ckptwatch("db", "path")
    assert said.out == f"{tmp_path / 'ckptwatch.db'}\n"
    with closing(sqlite3.connect(said.out.strip())) as database:
        assert database.execute("SELECT count(*) FROM results").fetchone() == (3,)


def test_db_check_of_a_sound_database_says_ok_and_its_schema(ckptwatch, tmp_path):
    small_run(tmp_path / "r.db").close()
    said = ckptwatch("db", "check", "--json", "--db", tmp_path / "r.db")
    assert said.status == 0
    assert said.json["sound"] is True
    assert said.json["integrity"] == said.json["references"] == said.json["tables"] == "ok"


def test_db_check_refuses_foreign_and_damaged_files_with_status_7_and_leaves_them(ckptwatch, tmp_path):
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.executescript("CREATE TABLE t (x); INSERT INTO t VALUES (1)")
    before = (tmp_path / "other.db").read_bytes()
    said = ckptwatch("db", "check", "--db", tmp_path / "other.db")
    assert said.status == 7
    assert "another program" in said.err
    assert (tmp_path / "other.db").read_bytes() == before
    small_run(tmp_path / "r.db").close()
    whole = bytearray((tmp_path / "r.db").read_bytes())
    whole[5 * 4096 : 6 * 4096] = b"\xff" * 4096
    (tmp_path / "r.db").write_bytes(whole)
    assert ckptwatch("db", "check", "--db", tmp_path / "r.db").status == 7
    assert (tmp_path / "r.db").read_bytes() == bytes(whole)


def test_db_check_finds_a_table_that_is_gone(ckptwatch, tmp_path):
    small_run(tmp_path / "r.db").close()
    with closing(sqlite3.connect(tmp_path / "r.db")) as other:
        other.executescript("DROP VIEW best; DROP TABLE exports")
    said = ckptwatch("db", "check", "--json", "--db", tmp_path / "r.db")
    assert said.status == 7
    assert said.json["tables"] == "missing: best, exports"


def test_a_backup_is_a_database_of_its_own_and_overwrites_nothing(ckptwatch, tmp_path):
    database = small_run(tmp_path / "r.db")
    said = ckptwatch("db", "backup", tmp_path / "copy.db", "--db", tmp_path / "r.db")
    assert said.out.strip() == str(tmp_path / "copy.db")
    database.result(400, 2.0)
    assert len(ckptwatch("results", "--json", "--db", tmp_path / "copy.db").json) == 3
    assert ckptwatch("db", "backup", tmp_path / "copy.db", "--db", tmp_path / "r.db").status == 2


def test_a_backup_into_a_folder_that_is_not_there_is_status_7_with_the_path(ckptwatch, tmp_path):
    small_run(tmp_path / "r.db").close()
    said = ckptwatch("db", "backup", tmp_path / "none" / "copy.db", "--db", tmp_path / "r.db")
    assert said.status == 7
    assert str(tmp_path / "none" / "copy.db") in said.err


def test_a_database_whose_name_has_signs_of_an_url_is_found_and_checked(ckptwatch, tmp_path):
    odd = tmp_path / "100% of #1?.db"
    small_run(odd).close()
    assert ckptwatch("db", "check", "--db", odd).status == 0
    assert len(ckptwatch("results", "--json", "--db", odd).json) == 3
    assert ckptwatch("db", "backup", "--db", odd).status == 0
    assert len(list(tmp_path.glob("*.backup-*"))) == 1


def test_migrate_waits_for_no_daemon_but_names_it(ckptwatch, tmp_path):
    small_run(tmp_path / "r.db").close()
    assert ckptwatch("db", "migrate", "--db", tmp_path / "r.db").status == 0
    folder = StateFolder.beside(str(tmp_path / "r.db"))
    lock = Lock(folder.lock)
    lock.take()
    said = ckptwatch("db", "migrate", "--db", tmp_path / "r.db")
    lock.release()
    assert said.status == 6
    assert str(os.getpid()) in said.err


def test_inspect_tells_step_configuration_and_tensors(ckptwatch, tmp_path):
    save_rosellm(tmp_path / "ckpt.pt", step=1234)
    said = ckptwatch("inspect", tmp_path / "ckpt.pt", "--json")
    assert said.status == 0
    facts = said.json
    assert {"format", "step", "step_source", "config", "parameters", "tensors"} <= set(facts)
    assert (facts["step"], facts["step_source"], facts["family"]) == (1234, "payload:step", "rosellm")
    assert facts["config"]["n_layers"] == 2
    embedding = next(tensor for tensor in facts["tensors"] if tensor["name"] == "token_embedding.weight")
    assert embedding == {"name": "token_embedding.weight", "dtype": "float32", "shape": [64, 16]}
    text = ckptwatch("inspect", tmp_path / "ckpt.pt").out
    assert "1,234  (payload:step)" in text
    assert "more (--all shows them)" in text


def test_inspect_of_nothing_is_4_and_of_junk_is_8_with_a_sentence_and_a_hint(ckptwatch, tmp_path):
    said = ckptwatch("inspect", tmp_path / "none.pt")
    assert (said.status, said.out) == (4, "")
    (tmp_path / "junk.pt").write_bytes(os.urandom(5000))
    said = ckptwatch("inspect", tmp_path / "junk.pt", "--json")
    assert (said.status, said.out) == (8, "")
    assert str(tmp_path / "junk.pt") in said.err
    assert "next:" in said.err


def test_inspect_loads_neither_torch_nor_numpy(tmp_path):
    save_rosellm(tmp_path / "ckpt.pt")
    program = (
        "import sys; from watcher.cli import main; status = main(['inspect', sys.argv[1], '--json']);"
        "assert not {'torch', 'numpy', 'tiktoken', 'sqlalchemy'} & set(sys.modules); sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "ckpt.pt"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["family"] == "rosellm"
