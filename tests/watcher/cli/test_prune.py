"""`ckptwatch prune`: shows first, deletes only with --apply, and never what it must not."""

from __future__ import annotations

import os

import pytest

from tests.support.database import Database
from watcher.errors import UsageError
from watcher.report.pruning import Keep, decide, parse_keep


def folder_of_checkpoints(path, folder, losses: dict[int, float | None]) -> Database:
    """Real files in a folder, registered with their own fingerprints, evaluated with these losses."""
    folder.mkdir()
    database = Database(path)
    database.run("gpt", folder)
    database.eval_set()
    for step, loss in losses.items():
        register(database, folder, step)
        if loss is not None:
            database.result(step, loss)
    return database


def register(database, folder, step, **more) -> int:
    file = folder / f"step_{step}.pt"
    file.write_bytes(b"x" * 100)
    found = file.stat()
    stat = {"dev": found.st_dev, "inode": found.st_ino, "size_bytes": found.st_size, "mtime_ns": found.st_mtime_ns}
    stat["ctime_ns"] = found.st_ctime_ns
    return database.checkpoint(step, **{"digest": f"sha256:gpt-{step}", **stat, **more})


def left(folder) -> list[int]:
    return sorted(int(name.removeprefix("step_").removesuffix(".pt")) for name in os.listdir(folder))


LOSSES = {100: 3.0, 200: 2.0, 300: 2.5, 400: 2.6, 500: 2.7, 600: 2.8}


def test_without_apply_nothing_is_deleted_and_the_plan_is_shown(ckptwatch, tmp_path):
    folder_of_checkpoints(tmp_path / "r.db", tmp_path / "ck", LOSSES)
    said = ckptwatch("prune", "--keep", "best:1,last:2,every:300", "--db", tmp_path / "r.db")
    assert said.status == 0
    assert left(tmp_path / "ck") == sorted(LOSSES)
    going = [line.split()[1] for line in said.out.splitlines() if line.endswith("delete")]
    assert going == ["100", "400"]
    assert "--apply deletes them" in said.err


def test_with_apply_the_same_files_go_and_the_results_stay(ckptwatch, tmp_path):
    folder_of_checkpoints(tmp_path / "r.db", tmp_path / "ck", LOSSES)
    said = ckptwatch("prune", "--keep", "best:1,last:2,every:300", "--apply", "--json", "--db", tmp_path / "r.db")
    assert left(tmp_path / "ck") == [200, 300, 500, 600]
    assert [line["step"] for line in said.json if line["deleted"]] == [100, 400]
    assert len(ckptwatch("results", "--json", "--db", tmp_path / "r.db").json) == 6


def test_what_waits_runs_is_pinned_or_was_never_measured_stays(ckptwatch, tmp_path):
    database = folder_of_checkpoints(tmp_path / "r.db", tmp_path / "ck", LOSSES)
    waiting, pinned = (
        register(database, tmp_path / "ck", 10),
        register(database, tmp_path / "ck", 20, spool_path="/s/20"),
    )
    running, unmeasured = register(database, tmp_path / "ck", 30), register(database, tmp_path / "ck", 40)
    assert len({waiting, pinned, running, unmeasured}) == 4
    for step in (10, 20, 30):
        database.result(step, 9.0)
    database.job(waiting, "queued")
    database.job(running, "running")
    ckptwatch("prune", "--keep", "best:1", "--apply", "--db", tmp_path / "r.db")
    assert left(tmp_path / "ck") == [10, 20, 30, 40, 200, 600]  # 600 is the newest step


def test_a_file_that_is_not_the_evaluated_one_or_no_plain_file_stays(ckptwatch, tmp_path):
    folder_of_checkpoints(tmp_path / "r.db", tmp_path / "ck", LOSSES)
    (tmp_path / "ck" / "step_100.pt").write_bytes(b"a newer version")
    elsewhere = tmp_path / "precious.pt"
    elsewhere.write_bytes(b"x" * 100)
    (tmp_path / "ck" / "step_400.pt").unlink()
    (tmp_path / "ck" / "step_400.pt").symlink_to(elsewhere)
    said = ckptwatch("prune", "--keep", "best:1", "--apply", "--json", "--db", tmp_path / "r.db")
    why = {line["step"]: line["keep"] for line in said.json}
    assert why[100] == "the file is not the one that was evaluated"
    assert why[400] == "it is no plain file"
    assert left(tmp_path / "ck") == [100, 200, 400, 600]
    assert elsewhere.exists()


def test_the_newest_of_a_run_stays_whatever_the_rules_say(ckptwatch, tmp_path):
    folder_of_checkpoints(tmp_path / "r.db", tmp_path / "ck", LOSSES)
    ckptwatch("prune", "--keep", "every:100000", "--apply", "--db", tmp_path / "r.db")
    assert left(tmp_path / "ck") == [600]


def test_a_file_that_cannot_be_deleted_is_status_5_and_named(ckptwatch, tmp_path, monkeypatch):
    folder_of_checkpoints(tmp_path / "r.db", tmp_path / "ck", LOSSES)

    def refuse(name, *, dir_fd):
        raise PermissionError(13, "Permission denied", name)

    monkeypatch.setattr(os, "unlink", refuse)  # root may delete anything, so the refusal is made here
    said = ckptwatch("prune", "--keep", "best:1", "--apply", "--db", tmp_path / "r.db")
    assert said.status == 5
    assert "Permission denied" in said.err
    assert left(tmp_path / "ck") == sorted(LOSSES)


@pytest.mark.parametrize("text", ["", "best", "best:0", "best:x", "worst:3", "best:1,best:2"])
def test_rules_that_say_nothing_or_nonsense_are_usage_errors(ckptwatch, tmp_path, text):
    with pytest.raises(UsageError):
        parse_keep(text)
    assert ckptwatch("prune", "--keep", text, "--db", tmp_path / "r.db").status == 2


def test_rules_are_read_in_any_order():
    assert parse_keep("every:1000, best:3,last:5") == Keep(3, 5, 1000)


def checkpoint(step, on_disk=True):
    known = {"id": step, "run": "gpt", "path": f"step_{step}.pt", "digest": f"d{step}", "step": step}
    return {**known, "observed_at": step, "on_disk": on_disk, "unfinished": 0, "spool_path": None, "measured": 1}


def test_the_best_of_a_task_is_the_one_with_the_highest_accuracy():
    def score(step, accuracy, loss):
        known = {"run": "gpt", "eval_set": "hellaswag", "weights": None, "checkpoint": f"step_{step}.pt", "step": step}
        of_task = {"task": "hellaswag", "accuracy": accuracy, "loss": loss, "finite": 1}
        return {**known, **of_task, "checkpoint_digest": f"d{step}"}

    scores = [score(100, 0.25, 3.0), score(200, 0.40, 3.5), score(300, 0.40, 3.4), score(400, 0.30, 2.0)]
    plan = decide([checkpoint(step) for step in (100, 200, 300, 400)], scores, Keep(best=1))
    assert {row["step"]: why for row, why in plan} == {
        100: None,
        200: "one of the best 1",
        300: None,
        400: "the newest of its run",
    }


@pytest.mark.parametrize("on_disk", [True, False])
def test_the_members_of_the_best_mean_stay_while_all_of_them_are_on_disk(on_disk):
    def mean(step, loss):
        known = {"run": "gpt", "eval_set": "val", "weights": "mean2", "checkpoint": f"step_{step}.pt#mean2"}
        return {**known, "step": step, "task": None, "loss": loss, "finite": 1, "checkpoint_digest": f"m{step}"}

    members = {
        ("gpt", "step_200.pt#mean2", "m200"): [200, 100],
        ("gpt", "step_300.pt#mean2", "m300"): [300, 200],
    }
    files = [checkpoint(100, on_disk), *map(checkpoint, (200, 300, 400))]
    plan = decide(files, [mean(200, 2.0), mean(300, 2.5)], Keep(best=1), members)
    best = {100, 200} if on_disk else {200, 300}  # a mean that cannot be made again replaces none
    assert {row["step"] for row, why in plan if why == "one of the best 1"} == best
