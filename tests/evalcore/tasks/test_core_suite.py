"""The whole of CORE, 22 tasks: the bundle as it is read, and the command, the same on one rank and on three."""

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest

from evalcore.__main__ import main
from evalcore.tasks.bundle import read_bundle
from tests.evalcore.tasks.conftest import CONTEXT
from tests.evalcore.tasks.test_evaluate_task import core_predictions
from tests.support.core_bundle import CORE_TASKS, ITEMS, write_core_bundle
from tests.support.launches import ROOT


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_core_bundle(tmp_path_factory.mktemp("core") / "eval_bundle")


def test_the_22_tasks_of_core_have_their_shots_delimiters_and_baselines(bundle):
    read = read_bundle(str(bundle))
    assert [task.spec.name for task in read.tasks] == list(CORE_TASKS) and len(read.tasks) == 22
    for task, (uri, kind, shots, delimiter, baseline) in zip(read.tasks, CORE_TASKS.values(), strict=True):
        assert task.path == str(bundle / "eval_data" / uri)
        assert (task.spec.rendering, task.spec.shots, task.spec.scoring) == (kind, shots, "core")
        assert task.spec.delimiter == ("\nAnswer: " if delimiter else " ")
        assert task.spec.random_baseline == pytest.approx(baseline / 100)


def rows_in(bundle, label):
    return [json.loads(line) for line in (bundle / "eval_data" / CORE_TASKS[label][0]).read_text().splitlines()]


def test_core_is_the_same_on_one_and_three_ranks_and_the_mean_of_a_plain_loop(
    bundle, task_folder, tokenizer, plain, capsys
):
    flags = ["--checkpoint-path", str(task_folder / "ckpt.pt"), "--suite", str(bundle), "--json"]
    flags += ["--tokenizer", str(task_folder / "words.tiktoken")]
    assert main(flags) == 0
    answers = [json.loads(capsys.readouterr().out.splitlines()[-1])]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=3"]
    ran = subprocess.run(
        [sys.executable, *torchrun, "-m", "evalcore", *flags],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    answers.append(json.loads(ran.stdout.splitlines()[-1]))
    centred, errors = [], []
    for number, (label, (_, kind, shots, delimiter, baseline)) in enumerate(CORE_TASKS.items()):
        of_task = [answer["tasks"][number] for answer in answers]
        assert [row["world_size"] for row in of_task] == [1, 3]
        assert {row["task"] for row in of_task} == {label} and {row["items"] for row in of_task} == {ITEMS}
        assert len({row["accuracy"] for row in of_task}) == 1  # spread 0
        assert max(row["loss"] for row in of_task) == pytest.approx(min(row["loss"] for row in of_task), rel=1e-6)
        between = "\nAnswer: " if delimiter else " "
        right = [found for found, _ in core_predictions(kind, rows_in(bundle, label), shots, between, tokenizer, plain)]
        assert of_task[0]["accuracy"] == pytest.approx(np.mean(right))
        assert of_task[0]["accuracy_stderr"] == pytest.approx(np.std(right, ddof=1) / math.sqrt(ITEMS))
        errors.append(np.std(right, ddof=1) / math.sqrt(ITEMS) / (1 - 0.01 * baseline))
        centred.append((np.mean(right) - 0.01 * baseline) / (1 - 0.01 * baseline))
    for answer in answers:
        assert (answer["suite"], answer["members"]) == ("eval_bundle", 22)
        assert answer["value"] == pytest.approx(np.mean(centred))
        assert answer["stderr"] == pytest.approx(math.hypot(*errors) / 22)
    assert answers[0]["tasks"][0]["seq_len"] == CONTEXT


def test_flags_of_a_task_reach_it_and_those_without_a_meaning_are_refused(bundle, task_folder, tmp_path, capsys):
    from tests.support.tasks import rows_of, write_rows

    items = write_rows(tmp_path / "items.jsonl", rows_of("multiple_choice", 8))
    start = ["--checkpoint-path", str(task_folder / "ckpt.pt"), "--tokenizer", str(task_folder / "words.tiktoken")]

    def loss(*flags):
        assert main([*start, "--data", items, "--json", *flags]) == 0
        return json.loads(capsys.readouterr().out.splitlines()[-1])["loss"]

    given = loss(), loss("--no-bos"), loss("--delimiter", "\nAnswer: "), loss("--bos")
    assert given[0] == given[3] and len(set(given)) == 3
    for flags, status, words in (
        (["--suite", str(bundle), "--shots", "2"], 2, "--shots has no meaning with --suite"),
        (["--suite", str(bundle), "--data", items], 2, "--data has no meaning with --suite"),
        (["--suite", str(tmp_path / "gone")], 4, "there is no folder"),
        (["--suite", str(tmp_path)], 2, "is no bundle of tasks"),
        (["--data", str(task_folder / "words.tiktoken"), "--format", "text", "--shots", "2"], 2, "holds no items"),
    ):
        assert main([*start, *flags]) == status
        assert words in capsys.readouterr().err
