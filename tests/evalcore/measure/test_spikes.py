"""What stands behind a loss: sums by position, the highest windows, their documents and their costliest passage."""

import json

import numpy as np
import pytest
import torch

from evalcore.data import open_stream
from evalcore.data.stream import TokenStream
from evalcore.data.windows import plan_windows
from evalcore.measure.evaluate import evaluate
from evalcore.measure.process_group import ProcessGroup
from evalcore.measure.spikes import SpikeKeeper, describe
from evalcore.spikes import spikes_of, spikes_text
from tests.support.models import SmallModel, tokens_for


def target_nats(model, tokens, start, stop):
    """Of the targets of one window, by torch's own cross entropy in float64."""
    with torch.no_grad():
        logits = model.output(model.hidden(torch.from_numpy(tokens[None, start:stop])))[0].double()
    return torch.nn.functional.cross_entropy(
        logits, torch.from_numpy(tokens[start + 1 : stop + 1]), reduction="none"
    ).numpy()


@pytest.mark.parametrize(("seq_len", "stride"), [(16, 16), (16, 6)])
def test_nats_and_targets_of_each_position_are_summed_over_all_windows(seq_len, stride):
    model, tokens = SmallModel(), tokens_for(75).astype(np.int64)
    nats, targets = np.zeros(seq_len), np.zeros(seq_len, dtype=int)
    scored = 0
    for start in range(0, 74, stride):  # the definition, window by window
        stop = min(start + seq_len, 74)
        for place, value in enumerate(target_nats(model, tokens, start, stop)):
            if start + place >= scored:
                nats[place] += value
                targets[place] += 1
        scored = stop
        if stop == 74:
            break
    result = evaluate(model, tokens, seq_len=seq_len, stride=stride, batch_size=3)
    assert result.position_targets.tolist() == targets.tolist() and targets.sum() == 74
    assert result.position_nats == pytest.approx(nats, rel=1e-5)
    assert result.position_nats.sum() == pytest.approx(result.window_nats.sum(), rel=1e-12)


def test_the_highest_windows_are_kept_with_their_documents(tmp_path):
    texts = ["a" * 50, "b" * 30, "zq" * 20, "c" * 45]
    (tmp_path / "d.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    stream = open_stream(tmp_path / "d.jsonl", tokenizer="bytes+eos", cache_dir=tmp_path)
    result = evaluate(SmallModel(), stream, seq_len=20)
    losses = result.window_nats / result.window_targets
    assert [spike.window for spike in result.spikes] == np.argsort(-losses, kind="stable")[:5].tolist()
    starts = [0, 51, 82, 123]  # each document ends with one end-of-text token
    assert stream.document_starts.tolist() == starts
    for spike in result.spikes:
        assert spike.nats == pytest.approx(result.window_nats[spike.window]) and spike.first == 20 * spike.window + 1
        behind = {}
        for at in range(spike.first, spike.first + spike.targets):
            number = max(place for place, start in enumerate(starts, 1) if start <= at)
            behind.setdefault(number, []).append(at)
        assert {each.document: (each.first, each.targets) for each in spike.documents} == {
            number: (ats[0] - starts[number - 1], len(ats)) for number, ats in behind.items()
        }
        passage = stream.read(spike.text_first, spike.text_first + spike.text_tokens)
        assert spike.text_tokens == spike.targets == len(passage)
        assert spike.text == "".join("<|endoftext|>" if token == 256 else chr(token) for token in passage)
        assert sum(each.nats for each in spike.documents) == pytest.approx(spike.nats)
    assert spikes_of(spikes_text(result.spikes)) == result.spikes


def test_the_passage_with_the_most_nats_is_found_and_a_window_that_is_not_finite_comes_first():
    windows = plan_windows(1001, 500)
    rows = np.full((2, 500), 0.5)
    rows[0, 300:340] = 9.0
    rows[1, 123] = np.nan
    keeper = SpikeKeeper()
    keeper.add(windows, rows)
    stream = TokenStream([np.arange(1001)], decode=lambda ids: f"{ids[0]} to {ids[-1]}")
    broken, costly = describe(keeper.reduced(ProcessGroup(torch.device("cpu"))), windows, stream)
    assert (broken.window, broken.text_first, broken.text) == (1, 501 + 123, "624 to 719")
    assert costly.window == 0 and costly.text_tokens == 96
    assert costly.text_first <= 301 and costly.text_first + 96 >= 341  # all forty costly targets
    assert costly.text_nats == pytest.approx(40 * 9.0 + 56 * 0.5)
    assert costly.n_documents is None and costly.documents == ()
