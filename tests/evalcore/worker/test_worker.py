"""Real workers on real launch folders: every task answered once, and what a fault costs."""

import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from evalcore.loading.checkpoint import load_checkpoint
from evalcore.measure.evaluate import evaluate
from evalcore.messages import EvalSetSpec, Item, from_json, to_json
from tests.support.checkpoints import ROSELLM, save_nanogpt, save_rosellm
from tests.support.launches import Launch, wait_until
from tests.support.models import tokens_for


@pytest.fixture
def val(tmp_path):
    np.save(tmp_path / "val.npy", tokens_for(500, 64))
    return EvalSetSpec("val", (str(tmp_path / "val.npy"),))


@pytest.fixture
def text(tmp_path):
    (tmp_path / "text.txt").write_bytes(bytes(range(1, 60)) * 8)
    return EvalSetSpec("text", (str(tmp_path / "text.txt"),), tokenizer="bytes", seq_len=16, stride=8)


def _expected(path, tokens=None):
    with load_checkpoint(path) as loaded:
        return evaluate(loaded.model, tokens_for(500, 64) if tokens is None else tokens).loss


def test_a_backlog_is_drained_and_a_bad_file_costs_itself_only(tmp_path, val, text):
    launch = Launch(tmp_path / "L", [val, text])
    good = [save_rosellm(tmp_path / f"step_{i}.pt", seed=i, step=i) for i in (10, 20)]
    other = save_nanogpt(tmp_path / "ckpt.pt", step=7)
    (tmp_path / "bad.pt").write_bytes(b"no checkpoint at all")
    for path in (good[0], tmp_path / "bad.pt", tmp_path / "gone.pt", other, good[1]):
        launch.add(path)
    missing = launch.add(good[0], sets=["nobody"])
    assert launch.drain() == 0
    outcomes = launch.outcomes()
    assert list(outcomes) == launch.started() == list(range(1, 12)) and launch.folder.closed.exists()
    assert [outcomes[a].kind for a in (3, 4, 5, 6, *missing)] == ["corrupt"] * 2 + ["vanished"] * 2 + ["protocol"]
    for attempt, path, step in ((1, good[0], 10), (7, other, 7), (9, good[1], 20)):
        found = outcomes[attempt].measurement
        assert found.loss == pytest.approx(_expected(path), rel=1e-9) and found.step == step
        assert found.tokens == 499 and sum(found.window_targets) == 499 and found.seq_len == 32
        assert sum(found.window_nats) == pytest.approx(found.loss * 499)
        assert found.torch_version == torch.__version__ and outcomes[attempt].token == f"token-{attempt}"
    assert outcomes[2].measurement.bits_per_byte == pytest.approx(outcomes[2].measurement.loss / np.log(2))
    assert outcomes[2].measurement.stride == 8


def test_two_ranks_give_the_bits_of_one(tmp_path, val, text):
    path = save_rosellm(tmp_path / "a.pt")
    answers = []
    for ranks in (1, 2):
        launch = Launch(tmp_path / f"L{ranks}", [val, text], batch_size=3)
        launch.add(path)
        (tmp_path / "bad.pt").write_bytes(b"PK")
        launch.add(tmp_path / "bad.pt")
        assert launch.drain(ranks) == 0
        answers.append(launch.outcomes())
    for attempt in (1, 2):
        one, two = (answer[attempt].measurement for answer in answers)
        assert (one.world_size, two.world_size) == (1, 2)
        assert one.window_nats == two.window_nats and one.loss == two.loss and one.tokens == two.tokens
    assert answers[1][3].kind == "corrupt"


def test_items_that_arrive_while_it_runs_are_taken_up(tmp_path, val):
    launch = Launch(tmp_path / "L", [val], linger_s=30)
    launch.add(save_rosellm(tmp_path / "a.pt", step=1))
    process = launch.start()
    try:
        wait_until(lambda: launch.outcomes())
        launch.add(save_rosellm(tmp_path / "b.pt", step=2, seed=5))
        wait_until(lambda: len(launch.outcomes()) == 2)
        assert launch.outcomes()[2].measurement.step == 2
        assert not launch.folder.closed.exists() and process.poll() is None
        launch.folder.cancel.touch()
        process.communicate(timeout=20)
        assert process.returncode == 0 and not launch.folder.closed.exists()
    finally:
        process.kill()


def test_cancel_ends_an_evaluation_without_an_outcome(tmp_path, val):
    launch = Launch(tmp_path / "L", [val])
    launch.add(save_rosellm(tmp_path / "a.pt"))
    process = launch.start(failpoint="mid_eval:hang")
    try:
        wait_until(lambda: launch.started())
        launch.folder.cancel.touch()
        process.communicate(timeout=60)
        assert launch.outcomes() == {} and process.returncode == 0
    finally:
        process.kill()


def test_sigterm_ends_it_at_once_without_an_outcome(tmp_path, val):
    launch = Launch(tmp_path / "L", [val])
    launch.add(save_rosellm(tmp_path / "a.pt"))
    process = launch.start(failpoint="mid_eval:hang")
    try:
        wait_until(lambda: launch.folder.progress.exists() and "evaluating" in launch.folder.progress.read_text())
        process.terminate()
        process.communicate(timeout=10)
        assert process.returncode == -signal.SIGTERM and launch.outcomes() == {}
    finally:
        process.kill()


def test_a_killed_worker_has_charged_only_the_attempt_in_hand(tmp_path, val):
    launch = Launch(tmp_path / "L", [val])
    for i in range(3):
        launch.add(save_rosellm(tmp_path / f"{i}.pt"))
    assert launch.drain(failpoint="before_outcome:kill9") == -signal.SIGKILL
    assert launch.outcomes() == {} and launch.started() == [1] and not launch.folder.closed.exists()


def test_a_rank_that_dies_charges_only_the_attempt_in_hand(tmp_path, val):
    launch = Launch(tmp_path / "L", [val])
    for i in range(3):
        launch.add(save_rosellm(tmp_path / f"{i}.pt"))
    assert launch.drain(ranks=2, failpoint="mid_eval@1:kill9") != 0
    assert launch.outcomes() == {} and launch.started() == [1]


def test_an_error_on_one_rank_is_an_outcome_and_the_next_item_goes_on(tmp_path, val, text):
    launch = Launch(tmp_path / "L", [val])
    for i in range(2):
        launch.add(save_rosellm(tmp_path / f"{i}.pt", seed=i))
    assert launch.drain(ranks=2, failpoint="mid_eval@1:raise") == 0
    outcomes = launch.outcomes()
    assert [o.kind for o in outcomes.values()] == ["crash", "crash"]
    assert "rank 1: RuntimeError: failpoint" in outcomes[1].reason


def test_a_file_that_is_not_what_was_registered_is_superseded(tmp_path, val):
    path = save_rosellm(tmp_path / "a.pt")
    with load_checkpoint(path) as loaded:
        digest = loaded.digest
    launch = Launch(tmp_path / "L", [val])
    launch.add(path, digest, path.stat().st_size)
    launch.add(path, "sha256:" + "0" * 64, path.stat().st_size)
    launch.add(path, digest, path.stat().st_size)
    process = launch.start(failpoint="after_load:sleep3")
    try:
        wait_until(lambda: 3 in launch.started())
        # the third is loaded after this mark, or being loaded: either way what it holds afterwards is not the digest
        save_rosellm(path, seed=9)
        process.communicate(timeout=90)
    finally:
        process.kill()
    assert [o.status for o in launch.outcomes().values()] == ["succeeded", "superseded", "superseded"]


def test_names_that_are_no_utf8_are_opened(tmp_path, val):
    name = os.fsencode(tmp_path) + b"/st\xe9p\n5.pt"
    os.rename(save_rosellm(tmp_path / "a.pt", step=5), name)
    launch = Launch(tmp_path / "L", [val])
    launch.add(name)
    text = launch.folder.item(1).read_text(encoding="utf-8", errors="surrogateescape")
    assert to_json(from_json(Item, text)) == text
    assert launch.drain() == 0
    assert launch.outcomes()[1].measurement.step == 5


def test_data_that_does_not_fit_the_model_is_an_outcome_of_its_own_kind(tmp_path, val):
    np.save(tmp_path / "wide.npy", tokens_for(100, 900))
    sets = [
        EvalSetSpec("gone", (str(tmp_path / "nothing.npy"),)),
        EvalSetSpec("wide", (str(tmp_path / "wide.npy"),)),
        EvalSetSpec("long", val.paths, seq_len=33),
        val,
    ]
    launch = Launch(tmp_path / "L", sets, selfcheck=True)
    launch.add(save_rosellm(tmp_path / "a.pt"))
    assert launch.drain() == 0
    outcomes = launch.outcomes()
    assert [o.kind for o in outcomes.values()] == ["data", "shape", "shape", None]
    assert "outside the model's vocabulary of 64" in outcomes[2].reason
    assert "longer than the model's 32 positions" in outcomes[3].reason
    assert "selfcheck passed" in outcomes[4].measurement.note


def test_not_enough_memory_is_its_own_kind(tmp_path, val):
    launch = Launch(tmp_path / "L", [val])
    launch.add(save_rosellm(tmp_path / "a.pt"))
    assert launch.drain(failpoint="mid_eval:oom") == 0
    assert launch.outcomes()[1].kind == "oom"


def test_a_diverged_checkpoint_is_a_result(tmp_path, val):
    path = save_rosellm(tmp_path / "a.pt")
    saved = torch.load(path, weights_only=True)
    saved["model"]["ln_f.weight"].fill_(float("nan"))
    torch.save(saved, path)
    launch = Launch(tmp_path / "L", [val])
    launch.add(path)
    assert launch.drain() == 0
    found = launch.outcomes()[1]
    assert found.status == "succeeded" and not found.measurement.finite and found.measurement.ppl is None
    assert np.isnan(found.measurement.loss) and "not finite" in found.measurement.note


def test_a_worker_dies_with_its_parent_and_loads_no_torch_before_that_is_sure(tmp_path, val):
    launch = Launch(tmp_path / "L", [val], linger_s=60)
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-m', 'evalcore.worker', sys.argv[1]])\n"
        "print(child.pid, flush=True)\n"
        "child.wait()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(launch.folder.root)], stdout=subprocess.PIPE, text=True)
    worker = int(parent.stdout.readline())
    wait_until(lambda: launch.folder.progress.exists())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: _is_gone(worker))
    check = "import sys, evalcore.worker; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0


def _is_gone(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().split(")")[-1].split()[0] in "ZX"
    except OSError:
        return True


def test_a_broken_launch_is_an_environment_error_and_a_broken_item_is_left_aside(tmp_path, val):
    launch = Launch(tmp_path / "L", [val])
    launch.folder.item(1).write_text("{")
    launch.items = 1
    launch.add(save_rosellm(tmp_path / "a.pt", config={"n_layers": 1}))
    assert launch.drain() == 0
    assert list(launch.outcomes()) == [1] and launch.outcomes()[1].status == "succeeded"
    launch.folder.spec.write_text("[]")
    assert launch.drain() == 7
    assert ROSELLM["n_layers"] == 2  # the support's default was not changed by the override above


def test_sets_of_both_precisions_in_one_launch_each_get_their_own_value(tmp_path, val):
    """Float32 weights serve both; where all is bfloat16 they are loaded so, with the same value."""
    half = replace(val, name="half", dtype="bfloat16")
    path = save_rosellm(tmp_path / "a.pt", step=1)
    model = load_checkpoint(path).model
    expected = {dtype: evaluate(model, tokens_for(500, 64), dtype=dtype).loss for dtype in ("float32", "bfloat16")}
    assert expected["float32"] != expected["bfloat16"]
    launch = Launch(tmp_path / "L", [val, half])
    launch.add(path)
    launch.add(path, sets=["half"])
    assert launch.drain() == 0
    measured = [outcome.measurement.loss for outcome in launch.outcomes().values()]
    assert measured == pytest.approx([expected["float32"], expected["bfloat16"], expected["bfloat16"]], rel=1e-9)
