"""Windows side by side on a CPU: the same bits as one after the other, and nothing left behind."""

import threading

import pytest
import torch

from evalcore.measure.evaluate import evaluate
from evalcore.measure.thread_pool import BatchThreadPool
from evalcore.models.decoder import Decoder, DecoderShape
from tests.support.models import SmallModel, tokens_for

TOKENS = tokens_for(1000)


@pytest.fixture(autouse=True)
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def decoder() -> Decoder:
    torch.manual_seed(0)
    model = Decoder(DecoderShape(vocab_size=300, positions=64, layers=2, heads=2, width=32, inner=64))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


class Watched(Decoder):
    """A decoder that notes which threads called it and how many threads an operation had there.

    The first three parts wait for each other, so that no thread of the pool can do another's part.
    """

    def hidden(self, tokens):
        threads = torch.get_num_threads()
        if threads == 1 and len({name for name, count in self.seen if count == 1}) < 3:
            self.meeting.wait(60)
        self.seen.add((threading.current_thread().name, threads))
        return super().hidden(tokens)


def watched(stateless: bool) -> Watched:
    model = decoder()
    model.__class__ = Watched
    model.seen, model.stateless, model.meeting = set(), stateless, threading.Barrier(3)
    return model


@pytest.mark.parametrize("batch_size", [3, 4, 7, None])
def test_threads_give_the_very_bits_of_one(batch_size):
    side_by_side, alone = watched(True), watched(False)
    loss = evaluate(side_by_side, TOKENS, seq_len=64, stride=40, batch_size=batch_size).loss
    assert loss == evaluate(alone, TOKENS, seq_len=64, stride=40, batch_size=batch_size).loss
    pool_threads = {name for name, threads in side_by_side.seen if threads == 1}
    assert len(pool_threads) == 3 and "MainThread" not in pool_threads
    assert alone.seen == {("MainThread", 3)}


def test_a_batch_of_fewer_windows_than_cores_keeps_all_cores_on_each():
    model = watched(True)
    evaluate(model, TOKENS, seq_len=64, batch_size=2)
    assert model.seen == {("MainThread", 3)}


def test_a_model_of_somebody_else_is_never_called_by_two_threads():
    callers = set()

    class Foreign(SmallModel):
        def hidden(self, tokens):
            callers.add(threading.current_thread().name)
            return super().hidden(tokens)

    evaluate(Foreign(), TOKENS, seq_len=64)
    assert callers == {"MainThread"}


def test_afterwards_the_caller_has_its_threads_and_the_pool_is_gone():
    evaluate(decoder(), TOKENS, seq_len=64)
    assert torch.get_num_threads() == 3
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("lane")]


def test_what_a_thread_raises_comes_out_when_all_have_ended():
    ended = []

    def work(rows):
        ended.append(len(rows))
        if rows[0] == 0:
            raise torch.OutOfMemoryError("no room")
        return rows

    with BatchThreadPool(3) as pool_threads, pytest.raises(torch.OutOfMemoryError, match="no room"):
        pool_threads.run(work, [torch.arange(7)])
    assert sorted(ended) == [2, 2, 3]
