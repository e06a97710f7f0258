"""Samples in a launch: after the losses, the same texts on any number of ranks, put off while a loss waits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from evalcore.data.tokenizers import build_tokenizer
from evalcore.loading.checkpoint import load_checkpoint
from evalcore.messages import EvalSetSpec
from evalcore.sampling.sample_model import SampleRun
from evalcore.sampling.spec import sample_spec
from tests.support.checkpoints import save_nanogpt
from tests.support.launches import Launch, wait_until
from tests.support.models import tokens_for

SPEC = sample_spec(("The ship", "a", "b"), max_new_tokens=6, temperature=0.9, seed=4)


@pytest.fixture
def sets(tmp_path):
    np.save(tmp_path / "val.npy", tokens_for(200, 64))
    return [EvalSetSpec("texts", (), tokenizer="bytes", sample=SPEC), EvalSetSpec("val", (str(tmp_path / "val.npy"),))]


def texts_of(checkpoint):
    """In this process, float32."""
    with load_checkpoint(checkpoint) as loaded:
        facts = (loaded.model, loaded.vocab_size, loaded.context_length, loaded.config)
        return SampleRun(*facts, build_tokenizer("bytes"), torch.device("cpu")).texts(SPEC)


def test_two_ranks_write_the_texts_of_one_after_the_loss_and_a_failure_costs_itself_alone(tmp_path, sets):
    checkpoint = save_nanogpt(tmp_path / "ckpt.pt", vocab_size=256)
    (tmp_path / "t.tiktoken").write_text("changed since")
    stale = replace(sets[0], name="stale", stamps=("another stamp",), companions=(str(tmp_path / "t.tiktoken"),))
    wrong = replace(sets[0], name="wrong", tokenizer="bytes+eos", sample=replace(SPEC, prompts=("x" * 9, "")))
    launch = Launch(tmp_path / "L", [*sets, stale, wrong, replace(sets[0], name="none", tokenizer=None)])
    attempts = dict(zip(launch.sets, launch.add(checkpoint), strict=True))
    assert launch.drain(ranks=2) == 0
    outcomes = {name: launch.outcomes()[attempt] for name, attempt in attempts.items()}
    assert outcomes["texts"].content_digest == outcomes["val"].measurement.content_digest
    assert outcomes["texts"].samples == texts_of(checkpoint) and outcomes["texts"].measurement is None
    assert outcomes["val"].status == "succeeded" and outcomes["val"].samples == ()
    assert (outcomes["stale"].kind, outcomes["none"].kind, outcomes["wrong"].kind) == ("data", "data", "shape")
    assert "changed after they were hashed" in outcomes["stale"].reason
    assert "has token id 256, and the model's vocabulary is 256" in outcomes["wrong"].reason
    written = {attempt: (launch.folder.outcome(attempt)).stat().st_mtime_ns for attempt in attempts.values()}
    assert min(written, key=written.__getitem__) == attempts["val"]  # though it was asked for second


def test_samples_are_given_back_unread_while_a_checkpoint_waits_for_its_loss(tmp_path, sets):
    launch = Launch(tmp_path / "L", sets)
    paths = [save_nanogpt(tmp_path / f"ckpt_{step}.pt", step=step, vocab_size=256) for step in (1, 2)]
    (first,), second = launch.add(paths[0], sets=["texts"]), launch.add(paths[1])
    assert launch.drain() == 0
    outcomes = launch.outcomes()
    assert (outcomes[first].status, outcomes[first].reason) == ("released", "a checkpoint waits for its loss")
    assert first not in launch.started()
    assert [outcomes[attempt].status for attempt in second] == ["succeeded", "succeeded"]


def test_samples_of_float32_behind_a_loss_of_bfloat16_are_of_float32_weights(tmp_path, sets):
    launch = Launch(tmp_path / "L", [replace(sets[0], dtype="float32"), replace(sets[1], dtype="bfloat16")])
    path = save_nanogpt(tmp_path / "ckpt.pt", vocab_size=256)
    (_val,), (texts,) = launch.add(path, sets=["val"]), launch.add(path, sets=["texts"])
    assert launch.drain() == 0
    assert launch.outcomes()[texts].samples == texts_of(path)


def test_samples_are_of_the_bytes_that_lie_at_the_path_now(tmp_path, sets):
    """A model is kept for the samples behind its loss, but not for another file of the same name."""
    launch = Launch(tmp_path / "L", sets, linger_s=20.0)
    path = save_nanogpt(tmp_path / "ckpt.pt", vocab_size=256)
    (val,) = launch.add(path, sets=["val"])
    (texts,) = launch.add(path, sets=["texts"])
    worker = launch.start()
    try:
        wait_until(lambda: len(launch.outcomes()) == 2)
        save_nanogpt(tmp_path / "new.pt", vocab_size=256, seed=9).rename(path)  # other bytes under the same name
        (again,) = launch.add(path, sets=["texts"])
        wait_until(lambda: len(launch.outcomes()) == 3)
    finally:
        worker.kill()
        worker.wait()
    outcomes = launch.outcomes()
    assert outcomes[texts].content_digest == outcomes[val].measurement.content_digest
    assert outcomes[again].content_digest != outcomes[texts].content_digest
    assert outcomes[again].samples != outcomes[texts].samples
