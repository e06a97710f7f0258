"""What a newcomer does wrong first, and what is printed or left behind then."""

from __future__ import annotations

import os

import numpy as np
import pytest

from tests.support.checkpoints import save_nanogpt
from tests.support.database import small_run
from watcher.domain.health import LockFacts, LockState, judge_from_outside
from watcher.domain.timestamps import iso
from watcher.log import sentence

NOW_S = 1_800_000_000.0


def test_a_run_that_is_refused_for_its_data_leaves_nothing_behind(ckptwatch, tmp_path):
    refused = ckptwatch("run", "--dir", "nodir", "--data", "missing.bin")
    assert refused.status == 3
    assert "there is no file missing.bin" in refused.err
    assert os.listdir(tmp_path) == []


def test_a_new_database_has_no_journal_of_its_temporary_name_beside_it(ckptwatch, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    np.zeros(100, np.uint16).tofile(tmp_path / "val.bin")
    ckptwatch("run", "--once", "--dir", "checkpoints", "--data", "val.bin", "--device", "cpu")
    assert (tmp_path / "ckptwatch.db").exists()
    assert [name for name in os.listdir(tmp_path) if name.startswith(".ckptwatch.db.")] == []


def test_the_commands_of_hints_name_the_database_of_the_command_line(ckptwatch, tmp_path):
    database = small_run(tmp_path / "my results.db")
    database.job(database.checkpoint(400), "failed")
    database.close()
    of = f"--db '{tmp_path}/my results.db'"
    nothing = ckptwatch("results", "--where", "loss < 1", "--db", tmp_path / "my results.db")
    assert f"next:  ckptwatch status {of} shows what is queued or failed" in nothing.err
    no_job = ckptwatch("logs", 99, f"--db={tmp_path}/my results.db")
    assert f"ckptwatch logs {of} 4" in no_job.err
    status = ckptwatch("status", "--db", tmp_path / "my results.db")
    assert f"1: ckptwatch queue list --failed {of}\n" in status.out


def test_a_damaged_file_is_not_answered_with_a_command_that_repeats_the_error(ckptwatch, tmp_path):
    (tmp_path / "bad.pt").write_bytes(os.urandom(3000))
    np.zeros(100, np.uint16).tofile(tmp_path / "val.bin")
    refused = ckptwatch("eval", "bad.pt", "--data", "val.bin")
    assert refused.status == 8
    assert "copy the file again" in refused.err and "ckptwatch inspect" not in refused.err


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ("ck pts/step_20.pt", "did you mean ck pts/step_200.pt? {} 'ck pts/step_200.pt'"),
        ("ck pts/nope", "in its folder: ck pts/other.pt, ck pts/step_200.pt. {} 'ck pts/other.pt'"),
        ("empty/ckpt.pt", "check the path: there is no checkpoint in its folder"),
        ("gone/ckpt.pt", "check the path: there is no folder gone"),
    ],
)
def test_a_checkpoint_that_is_not_there_is_answered_with_the_nearest_that_is(ckptwatch, tmp_path, asked, hint):
    (tmp_path / "ck pts" / "logs").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    save_nanogpt(tmp_path / "ck pts" / "step_200.pt")
    save_nanogpt(tmp_path / "ck pts" / "other.pt")
    os.utime(tmp_path / "ck pts" / "step_200.pt", (NOW_S - 9e8, NOW_S - 9e8))
    np.zeros(100, np.uint16).tofile(tmp_path / "val.bin")
    inspected, evaluated = ckptwatch("inspect", asked), ckptwatch("eval", asked, "--data", "val.bin")
    assert (inspected.status, evaluated.status) == (4, 4)
    assert hint.format("ckptwatch inspect") in inspected.err and hint.format("ckptwatch eval") in evaluated.err


def test_the_last_heartbeat_of_a_daemon_that_is_down_is_given_as_an_age():
    report = {"at": iso(NOW_S - 245), "pid": 7}
    (reason,) = judge_from_outside(report, LockFacts(LockState.FREE), NOW_S).reasons
    assert sentence(reason).endswith("the last heartbeat was 4 min 5 s ago (2027-01-15 07:55:55 UTC)")
    (reason,) = judge_from_outside({"at": "yesterday"}, LockFacts(LockState.FREE), NOW_S).reasons
    assert sentence(reason).endswith("start one with `ckptwatch run`")


def test_db_check_names_the_journal_mode_that_doctor_names(ckptwatch, tmp_path):
    from watcher.store.engine import journal_mode

    small_run(tmp_path / "ckptwatch.db").close()
    assert journal_mode(tmp_path / "ckptwatch.db").lower() in ckptwatch("db", "check").out


def test_status_gives_no_time_after_saving_for_a_value_that_is_older_than_the_file():
    from watcher.cli.status import _between_s

    row = {"evaluated_at": iso(NOW_S), "saved_at": iso(NOW_S + 60)}
    assert _between_s(row) is None
    assert _between_s({**row, "saved_at": iso(NOW_S - 60)}) == pytest.approx(60)


def test_data_stats_names_the_window_length_that_it_counted_with(ckptwatch, tmp_path):
    np.arange(1000, dtype=np.uint16).tofile(tmp_path / "val.bin")
    assert "windows  4 of 256 tokens (--seq-len)" in ckptwatch("data", "stats", "val.bin", "--seq-len", "256").out


def test_eval_without_its_data_file_is_status_4_as_without_its_checkpoint(ckptwatch, tmp_path):
    save_nanogpt(tmp_path / "ckpt.pt")
    for call in (("eval", "ckpt.pt", "--data", "missing.bin"), ("eval", "missing.pt", "--data", "ckpt.pt")):
        refused = ckptwatch(*call)
        assert (refused.status, "missing." in refused.err) == (4, True)
    assert os.listdir(tmp_path) == ["ckpt.pt"]


def test_eval_of_a_folder_of_checkpoints_names_the_command_that_evaluates_them(ckptwatch, tmp_path):
    (tmp_path / "out").mkdir()
    for step in (1, 2):
        save_nanogpt(tmp_path / f"out/ckpt_{step}.pt", step=step)
    (tmp_path / "out/optimizer.pt").touch()
    refused = ckptwatch("eval", "out", "--data", "val.bin")
    assert refused.status == 8
    assert "ckptwatch eval out/*.pt --data FILE evaluates its 2 .pt files" in refused.err
    for step in (1, 2):
        save_hf_folder(tmp_path / f"trainer/checkpoint-{step}")
    refused = ckptwatch("eval", "trainer", "--data", "val.bin")
    assert "ckptwatch eval trainer/*/ --data FILE evaluates the 2 checkpoint folders in it" in refused.err
    (tmp_path / "peft").mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / "peft" / name).write_text("{}")
    refused = ckptwatch("eval", "peft", "--data", "val.bin")
    assert refused.status == 8 and "merge it into the base model first" in refused.err


def save_hf_folder(folder):
    """The names that make a folder of the Hugging Face Trainer; nothing reads into them here."""
    folder.mkdir(parents=True)
    for name in ("config.json", "trainer_state.json"):
        (folder / name).write_text("{}")
    (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")


def test_a_run_that_ends_by_itself_without_a_checkpoint_tells_so(ckptwatch, tmp_path):
    np.zeros(100, np.uint16).tofile(tmp_path / "val.bin")
    for name in ("exp1", "exp2"):
        (tmp_path / "p" / name).mkdir(parents=True)
        save_nanogpt(tmp_path / "p" / name / "ckpt.pt")
    ended = ckptwatch("run", "--dir", "p", "--data", "val.bin", "--device", "cpu", "--until", "idle:0")
    assert ended.status == 0
    assert f"nothing was evaluated: there is no checkpoint in {tmp_path}/p; 2 .pt files in subfolders" in ended.err
    assert f"a run for each folder: --dir {tmp_path}/p/exp1 --dir {tmp_path}/p/exp2" in ended.err
    absent = ckptwatch("run", "--dir", "later", "--data", "val.bin", "--device", "cpu", "--until", "idle:0")
    assert absent.status == 0 and f"nothing was evaluated: there is no checkpoint in {tmp_path}/later" in absent.err


def test_a_run_that_ends_by_itself_with_its_results_does_not_call_itself_empty(ckptwatch, tmp_path):
    np.zeros(100, np.uint16).tofile(tmp_path / "val.bin")
    (tmp_path / "out").mkdir()
    save_nanogpt(tmp_path / "out" / "ckpt.pt")
    settle = ("--settle-s", "0.1", "--backfill", "none")  # registered, and skipped: no worker is needed
    ended = ckptwatch("run", "--dir", "out", "--data", "val.bin", "--device", "cpu", *settle, "--until", "idle:1")
    assert ended.status == 0 and "nothing was evaluated" not in ended.err
