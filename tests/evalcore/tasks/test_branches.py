"""Choices that share the forward pass of their context have the nats of choices that are computed alone."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from evalcore import evaluate_task
from evalcore.loading.checkpoint import load_checkpoint
from evalcore.tasks.encoding import EncodedItem, Request
from evalcore.tasks.packing import batches, pack
from evalcore.tasks.prepare import PreparedTask
from evalcore.tasks.spec import task_spec
from tests.evalcore.models import test_hf_relatives as relatives
from tests.evalcore.models import test_litgpt as litgpt
from tests.evalcore.models import test_nanochat as nanochat
from tests.evalcore.models.test_right_or_refused import LLAMA, llama_state

VOCABULARY = 29


def made_task():
    """12 items with contexts of 1 to 20 tokens; the choices of the last have nothing in common."""
    draw = np.random.default_rng(4)
    items = []
    for index in range(12):
        context = draw.integers(3, VOCABULARY, draw.integers(1, 21))
        choices = [draw.integers(3, VOCABULARY, draw.integers(1, 12)) for _ in range(4)]
        wholes = [np.concatenate((context if index < 11 else context + n % 2, c)) for n, c in enumerate(choices)]
        requests = tuple(Request(whole.astype(np.int32), len(context), len(context)) for whole in wholes)
        items.append(EncodedItem(f"item {index}", index, index % 4, requests, 0, (1,) * 4))
    return PreparedTask(task_spec("multiple_choice"), tuple(items), (VOCABULARY - 1, "an item"), 0.25, None, ())


def by_whole_logits(model, task):
    """Nats of every choice: one forward pass each, the whole logits."""
    nats = []
    with torch.inference_mode():
        for request in (request for item in task.items for request in item.requests):
            tokens = torch.from_numpy(request.tokens.astype(np.int64))
            logits = model(tokens[None, :-1])[0, request.start - 1 :]
            nats.append(F.cross_entropy(logits, tokens[request.start :], reduction="sum").item())
    return nats


def assert_branches_change_nothing(path, monkeypatch):
    task = made_task()
    with load_checkpoint(path) as loaded:
        model, seen = loaded.model, []
        hidden = model.hidden
        monkeypatch.setattr(model, "hidden", lambda tokens, *layout: (seen.append(layout), hidden(tokens, *layout))[1])
        shared = evaluate_task(model, task)
        assert seen and all(len(layout) == 2 for layout in seen)  # positions and mask: the choices do share
        monkeypatch.undo()
        expected = by_whole_logits(model, task)
        assert list(shared.item_scores.choice_nats) == pytest.approx(expected, rel=1e-6, abs=2e-5)
        chosen = [int(np.argmin(np.array(expected[4 * i : 4 * i + 4]) / choice_tokens(task, i))) for i in range(12)]
        assert list(shared.item_scores.chosen) == chosen


def choice_tokens(task, item):
    return [len(request.tokens) - request.start for request in task.items[item].requests]


@pytest.mark.parametrize("kind", ["llama with yarn", "mistral", "qwen3", "smollm3 with windows", "gemma2", "gemma3"])
def test_rotary_families_of_transformers_share_the_context(kind, tmp_path, monkeypatch):
    """Windows of 9 tokens, capped scores, layers without rotation, other tables in layers with windows."""
    model_type, more = relatives.KINDS[kind]
    model = relatives.model_of(model_type, **more)
    torch.save({"model": model.state_dict(), "config": model.config.to_dict(), "step": 3}, tmp_path / "a.pt")
    assert_branches_change_nothing(tmp_path / "a.pt", monkeypatch)


def test_neighbouring_rotary_pairs_share_the_context(tmp_path, monkeypatch):
    torch.save({"model": llama_state(True), "model_args": LLAMA, "iter_num": 9, "config": {}}, tmp_path / "ckpt.pt")
    assert_branches_change_nothing(tmp_path / "ckpt.pt", monkeypatch)


@pytest.mark.parametrize("kind", ["pythia", "phi", "gemma2"])
def test_models_of_litgpt_share_the_context(kind, tmp_path, monkeypatch):
    config = litgpt.BASE | litgpt.KINDS[kind]
    assert_branches_change_nothing(litgpt.save(tmp_path, litgpt.state_of(config), config), monkeypatch)


@pytest.mark.parametrize("version", ["first", "smeared"])
def test_versions_of_nanochat_share_the_context(version, tmp_path, monkeypatch):
    """smeared: a choice's first token takes its share from the context's last one, wherever that stands."""
    config = {k: v for k, v in nanochat.CONFIG.items() if version != "first" or k != "window_pattern"}
    assert_branches_change_nothing(nanochat.save(tmp_path, nanochat.state_of(version), config), monkeypatch)


def test_batches_hold_every_sequence_once_with_little_padding():
    packed = pack(made_task().items, None, True)
    cut = batches(packed.sequences, 200)
    assert [sequence for batch in cut for sequence in batch] == list(packed.sequences)
    for batch in cut:
        padded = len(batch) * len(batch[0])
        assert len(batch) == 1 or padded <= 200
        full = sum(map(len, batch[:-1]))
        assert full < 0.25 * 200 or padded - sum(map(len, batch)) <= 0.04 * padded
    assert max(map(len, cut)) > 1 and {len(b) for b in batches(packed.sequences, 200, 7)} <= {7, 12 % 7}
