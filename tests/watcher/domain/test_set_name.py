"""Default names of eval sets: short, readable, no two alike; a database keeps the names that it has."""

from __future__ import annotations

import numpy as np
import pytest

from evalcore.messages import EvalSetSpec
from tests.support.database import small_run
from watcher.domain.set_name import default_set_name, former_set_name
from watcher.domain.timestamps import iso
from watcher.log import Log
from watcher.pipeline.stored_names import with_stored_set_names
from watcher.settings.load import load_settings
from watcher.store.migrate import open_for_reading
from watcher.store.write.eval_sets import adopt_eval_sets


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("val.npy", "val"),
        ("/data/shards/*val*.npy", "val"),
        ("shards/fineweb_val_*.bin", "fineweb_val"),
        ("edu_fineweb10B/edufineweb_val_000000.npy", "edufineweb_val_000000"),
        ("edu_fineweb10B/edufineweb_val_0000*.npy", "edufineweb_val"),
        ("wiki/*.npy", "wiki"),
        ("wiki/**/*.npy", "wiki"),
        ("c4/validation-0000*-of-00008.parquet", "validation"),
        ("ds/validation/data-*.arrow", "validation"),
        ("data/val-??-gpt2.bin", "val-gpt2"),
        ("val[0-9].bin", "val"),
        ("data/*.bin", "val"),
        ("*.npy", "val"),
        ("shards/shard_00003.bin", "shard_00003"),
        ("valid.v2.txt", "valid"),
        ("step_2024.bin", "step_2024"),
    ],
)
def test_a_set_is_named_after_the_stem_of_its_file_or_what_is_constant_in_its_glob(path, name):
    assert default_set_name(path) == name


def sets_of(*data):
    return [section.name for section in load_settings(None, {"eval": [{"data": path} for path in data]}).eval]


def test_a_second_set_of_the_same_short_name_gets_the_long_one_and_the_first_keeps_its_own():
    assert sets_of("a/val_*.bin") == ["val"]
    assert sets_of("a/val.bin", "a/val_*.bin") == ["val", "val_"]
    named = load_settings(None, {"eval": [{"data": "val_*.bin"}, {"data": "x.bin", "name": "val"}]})
    assert [section.name for section in named.eval] == ["val_", "val"]


def test_a_set_keeps_the_name_that_it_has_in_the_database_and_takes_no_other_sets(tmp_path):
    for name in ("s/fineweb_val_7.npy", "wiki/0001.npy"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    data = [{"data": str(tmp_path / glob)} for glob in ("s/fineweb_val_*.npy", "wiki/*.npy")]
    alert = {"on": ["best"], "command": ["true"], "eval_set": "fineweb_val"}
    settings = load_settings(None, {"eval": data, "alert": [alert]})
    database = small_run(tmp_path / "r.db")  # it has a set `val`, which is not wiki's
    fresh = with_stored_set_names(database.store, settings, Log(-1))
    assert [section.name for section in fresh.eval] == ["fineweb_val", "wiki"]
    spec = EvalSetSpec("fineweb_val_", ("/elsewhere/fineweb_val_7.npy",))
    adopt_eval_sets(database.store, "gpt", [(spec, "sha256:1")], iso(0))
    kept = with_stored_set_names(database.store, settings, Log(-1))
    assert [section.name for section in kept.eval] == ["fineweb_val_", "wiki"]
    assert kept.alert[0].eval_set == "fineweb_val_"
    database.close()


def test_a_run_on_a_database_of_before_goes_on_under_the_name_of_its_set(ckptwatch, tmp_path):
    (tmp_path / "shards").mkdir()
    (tmp_path / "out").mkdir()
    np.zeros(100, np.uint16).tofile(tmp_path / "shards" / "fineweb_val_000000.bin")
    flags = ("--dir", "out", "--device", "cpu", "--until", "idle:0")
    assert former_set_name("shards/fineweb_val_*.bin") == "fineweb_val_"
    assert ckptwatch("run", *flags, "--data", "fineweb_val_=shards/fineweb_val_*.bin").status == 0
    assert ckptwatch("run", *flags, "--data", "shards/fineweb_val_*.bin").status == 0
    store = open_for_reading(str(tmp_path / "ckptwatch.db"))
    with store.read() as tx:
        names = tx.exec_driver_sql("SELECT name, current FROM eval_sets").fetchall()
    store.close()
    assert names == [("fineweb_val_", 1)]
