"""Tasks in a launch: loss sets and tasks of one checkpoint in one load, on several ranks, each answered once."""

import json

import numpy as np
import pytest

from evalcore import evaluate_task
from evalcore.loading.checkpoint import load_checkpoint
from evalcore.messages import EvalSetSpec
from evalcore.tasks.item_scores import packed_of_text, unpack
from evalcore.tasks.spec import task_spec
from tests.evalcore.measure.test_ranks import start_rank
from tests.support.checkpoints import save_nanogpt
from tests.support.launches import Launch
from tests.support.models import tokens_for
from tests.support.tasks import rows_of, write_rows


@pytest.fixture
def checkpoint(tmp_path):
    return save_nanogpt(tmp_path / "ckpt.pt", block_size=256, vocab_size=257)


def task_set(tmp_path, name, rows, **fields):
    path = write_rows(tmp_path / f"{name}.jsonl", rows)
    return EvalSetSpec(name, (path,), tokenizer="bytes+eos", task=task_spec(name, **fields))


def test_two_ranks_answer_loss_sets_and_tasks_of_one_checkpoint_with_the_scores_of_one(tmp_path, checkpoint):
    np.save(tmp_path / "val.npy", tokens_for(500, 64))
    sets = [
        EvalSetSpec("val", (str(tmp_path / "val.npy"),)),
        task_set(tmp_path, "hellaswag", rows_of("hellaswag", 21)),
        task_set(tmp_path, "multiple_choice", rows_of("multiple_choice", 9), shots=2),
        task_set(tmp_path, "lambada", rows_of("lambada", 9)),
        task_set(tmp_path, "piqa", [*rows_of("piqa", 2), {"goal": "no solutions"}]),
    ]
    launch = Launch(tmp_path / "L", sets, selfcheck=True)
    attempts = launch.add(checkpoint)
    assert launch.drain(ranks=2) == 0
    outcomes = [launch.outcomes()[attempt] for attempt in attempts]
    assert [outcome.status for outcome in outcomes] == ["succeeded"] * 4 + ["failed"]
    assert outcomes[0].measurement.task is None and outcomes[0].measurement.stride == 32 * 8
    assert outcomes[4].kind == "data" and "piqa.jsonl line 3 has no text in field 'sol1'" in outcomes[4].reason
    with load_checkpoint(checkpoint) as loaded:
        for eval_set, outcome in list(zip(sets, outcomes, strict=True))[1:4]:
            expected = evaluate_task(loaded.model, eval_set.paths, "bytes+eos", task=eval_set.task)
            got = outcome.measurement
            scores = unpack(packed_of_text(got.item_scores))
            assert (got.task, got.items, got.world_size, got.stride) == (eval_set.name, len(scores), 2, None)
            assert got.accuracy == expected.accuracy and scores.correct == expected.item_scores.correct
            assert list(scores.choice_nats) == pytest.approx(list(expected.item_scores.choice_nats), rel=1e-6)
            assert got.bits_per_byte == pytest.approx(expected.bits_per_byte, rel=1e-6)
            assert "selfcheck passed" in got.note and got.window_nats == ()


def test_the_command_gives_the_number_of_the_daemon_alone_and_under_torchrun_s_variables(tmp_path, checkpoint):
    path = write_rows(tmp_path / "hellaswag_val.jsonl", rows_of("hellaswag", 12))
    flags = ["--checkpoint-path", checkpoint, "--data", path, "--tokenizer", "bytes+eos"]
    process = start_rank(0, 1, None, flags)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    answer = json.loads(out.splitlines()[-1])
    with load_checkpoint(checkpoint) as loaded:
        expected = evaluate_task(loaded.model, path, "bytes+eos")
    assert (answer["task"], answer["items"], answer["ppl"]) == ("hellaswag", 12, None)
    for name in ("accuracy", "accuracy_norm", "loss", "bits_per_byte"):
        assert answer[name] == pytest.approx(getattr(expected, name), rel=1e-6)
    assert f"accuracy: {answer['accuracy']}" in out.splitlines()


@pytest.mark.parametrize(
    ("change", "flags", "words"),
    [
        ({"text": "a text"}, [], "may hold items of hellaswag or text; give --task NAME, or --format jsonl"),
        ({}, ["--task", "helaswag"], "task 'helaswag' is not known; use one of"),
        ({}, ["--task", "hellaswag", "--shots", "5"], "its examples come from a training split"),
        ({}, ["--max-tokens", "9"], "--stride and --max-tokens are for a stream"),
    ],
)
def test_flags_that_do_not_fit_a_task_are_a_usage_error(tmp_path, checkpoint, capsys, change, flags, words):
    from evalcore.__main__ import main

    path = write_rows(tmp_path / "val.jsonl", [row | change for row in rows_of("hellaswag", 3)])
    assert main(["--checkpoint-path", str(checkpoint), "--data", path, "--device", "cpu", *flags]) == 2
    assert words in capsys.readouterr().err
