"""`init` on the parent folder of several trainings: a run for each, named as `run --dir A --dir B` names them."""

from __future__ import annotations

import os

import numpy as np
import pytest

from tests.support.checkpoints import save_nanogpt
from watcher.settings.load import load_settings


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_nanogpt(tmp_path_factory.mktemp("nanogpt") / "ckpt.pt", step=10)


@pytest.fixture
def place(tmp_path, checkpoint):
    """Puts checkpoints at these paths, beside validation data."""
    np.zeros(100, np.uint16).tofile(tmp_path / "val.bin")

    def put(*paths):
        for path in paths:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            os.link(checkpoint, tmp_path / path)

    return put


def runs_of(folder):
    return [(run.name, os.path.relpath(run.dir, folder)) for run in load_settings(folder / "ckptwatch.toml").run]


def test_init_on_the_parent_of_several_trainings_writes_a_run_for_each(ckptwatch, tmp_path, place):
    place("p/exp1/ckpt.pt", "p/exp2/checkpoints/step_1.pt", "p/exp2/checkpoints/step_2.pt")
    both = ckptwatch("init", "p", "--yes", "--json")
    assert both.status == 0, both.err
    assert [(one["name"], one["files"]) for one in both.json["found"]["trainings"]] == [("exp1", 1), ("exp2", 2)]
    assert runs_of(tmp_path) == [("exp1", "p/exp1"), ("exp2", "p/exp2/checkpoints")]
    plan = ckptwatch("run", "--dry-run", "--json").json
    assert [(row["run"], row["checkpoint"]) for row in plan] == [
        ("exp1", "ckpt.pt"), ("exp2", "step_1.pt"), ("exp2", "step_2.pt"),
    ]  # fmt: skip
    shown = ckptwatch("init", "p", "--yes", "--force").err
    assert "2 trainings, a [[run]] for each: exp1, exp2\n" in shown
    assert 'dir = "p", include = ["**/*.pt"' in shown


def test_the_runs_of_init_have_the_names_that_repeated_dir_gives(ckptwatch, tmp_path, place):
    place("p/wide/lr1/a.pt", "p/wide/lr2/a.pt", "p/deep/lr1/a.pt")
    assert ckptwatch("init", "p", "--yes").status == 0
    runs = runs_of(tmp_path)
    assert runs == [("lr1", "p/deep/lr1"), ("wide-lr1", "p/wide/lr1"), ("lr2", "p/wide/lr2")]
    folders = [flag for _, folder in runs for flag in ("--dir", folder)]
    plan = ckptwatch("run", *folders, "--data", "val.bin", "--dry-run", "--json").json
    assert {row["run"] for row in plan} == {name for name, _ in runs}


def test_folders_of_steps_are_one_training_and_each_checkpoint_belongs_to_one_run(ckptwatch, tmp_path, place):
    place("one/step_10/rank0.pt", "one/step_10/rank1.pt", "one/step_20/rank0.pt", "one/step_20/rank1.pt")
    assert ckptwatch("init", "one", "--yes").status == 0
    assert [folder for _, folder in runs_of(tmp_path)] == ["one"]
    place("p/a/step_10/rank0.pt", "p/a/step_10/rank1.pt", "p/a/best/model.pt", "p/b/model.pt")
    assert ckptwatch("init", "p", "--yes", "--force").status == 0
    assert runs_of(tmp_path) == [("a", "p/a"), ("b", "p/b")]
    plan = ckptwatch("run", "--dry-run", "--json").json
    assert sorted((row["run"], row["checkpoint"]) for row in plan) == [
        ("a", "best/model.pt"), ("a", "step_10/rank0.pt"), ("a", "step_10/rank1.pt"), ("b", "model.pt"),
    ]  # fmt: skip


def test_one_training_below_the_folder_is_one_run_of_the_folder(ckptwatch, tmp_path, place):
    place("p/exp1/ckpt.pt")
    said = ckptwatch("init", "p", "--yes")
    assert "trainings" not in said.err
    assert [folder for _, folder in runs_of(tmp_path)] == ["p"]
