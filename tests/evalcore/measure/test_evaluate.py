"""One number, whatever the batch, the chunk, the threads and the model's face; and what makes it no number."""

import math

import numpy as np
import pytest
import torch

import evalcore
from evalcore.data import DataError, open_stream
from evalcore.data.stream import TokenStream
from evalcore.measure.agreement import OutOfMemory
from evalcore.measure.evaluate import evaluate
from evalcore.measure.memory import is_out_of_memory, windows_that_fit
from evalcore.measure.selfcheck import selfcheck
from tests.support.models import LogitsModel, SmallModel, plain_loss, tokens_for

TOKENS = tokens_for(1000)


@pytest.mark.parametrize(("seq_len", "stride"), [(64, None), (64, 17), (33, 32), (1, None), (64, 1)])
def test_the_loss_equals_a_plain_float64_one(seq_len, stride):
    model, tokens = SmallModel(), TOKENS[:300]
    expected, targets = plain_loss(model, tokens, seq_len, stride)
    result = evaluate(model, tokens, seq_len=seq_len, stride=stride)
    assert result.loss == pytest.approx(expected, rel=1e-6)
    assert result.tokens == targets == result.window_targets.sum()
    assert result.ppl == pytest.approx(math.exp(expected), rel=1e-5) and result.finite


def test_batch_chunk_and_threads_do_not_move_it():
    model = SmallModel()
    threads = torch.get_num_threads()
    losses = []
    try:
        for batch_size, chunk, count in [
            (1, 7, 1),
            (2, 64, 2),
            (3, 1000, 1),
            (8, 13, 2),
            (64, 4096, 1),
            (None, None, 2),
        ]:
            torch.set_num_threads(count)
            losses.append(evaluate(model, TOKENS, batch_size=batch_size, chunk_tokens=chunk, stride=40).loss)
    finally:
        torch.set_num_threads(threads)
    assert max(losses) - min(losses) <= 1e-6 * losses[0]


@pytest.mark.parametrize("answer", ["tensor", "pair", "dict", "last only"])
def test_any_face_of_a_model_gives_the_same_loss(answer):
    inner = SmallModel()
    expected = evaluate(inner, TOKENS, seq_len=64).loss
    assert evaluate(LogitsModel(answer, inner), TOKENS, seq_len=64).loss == pytest.approx(expected, rel=1e-6)


def test_a_model_without_logits_is_told_what_to_offer():
    with pytest.raises(DataError, match="hidden") as caught:
        evaluate(torch.nn.Sequential(torch.nn.Embedding(300, 2), torch.nn.Flatten()), TOKENS, seq_len=8)
    assert caught.value.kind == "unsupported"
    with pytest.raises(DataError, match="vocabulary of 2") as caught:
        evaluate(torch.nn.Embedding(300, 2), TOKENS, seq_len=8)
    assert caught.value.kind == "shape"


def test_a_trainer_gets_its_model_back_as_it_was():
    model = SmallModel().train()
    frozen = model.table.weight.requires_grad_(False)
    result = evalcore.evaluate(model, torch.from_numpy(TOKENS.astype(np.int64)), dtype="bfloat16")
    assert model.training and model.output.weight.requires_grad and not frozen.requires_grad
    assert result.loss == pytest.approx(evaluate(model, TOKENS).loss, abs=2e-2)
    assert result.dtype == "bfloat16" and evaluate(model, TOKENS).dtype == "float32"


def test_weights_that_are_not_finite_are_a_result():
    model = SmallModel()
    with torch.no_grad():
        model.output.bias[7] = math.nan
    result = evaluate(model, TOKENS)
    assert math.isnan(result.loss) and not result.finite and result.ppl is None and result.loss_stderr is None
    assert "not finite in 16 of 16 windows" in result.note


def test_a_loss_above_the_float_range_of_exp_keeps_its_value():
    model = SmallModel()
    with torch.no_grad():
        model.output.weight *= 3e4
    result = evaluate(model, TOKENS)
    assert result.loss > 709 and result.finite and result.ppl is None and "float range" in result.note


def test_ids_and_windows_that_the_model_has_no_place_for_are_refused():
    model = SmallModel(vocab_size=200)
    with pytest.raises(DataError, match=r"outside the model's vocabulary of 200") as caught:
        evaluate(model, TOKENS)
    assert caught.value.kind == "shape"
    assert evaluate(model, TokenStream([np.append(TOKENS % 200, 9999)], max_tokens=1000)).tokens == 999
    with pytest.raises(DataError, match="longer than the model's 64 positions") as caught:
        evaluate(SmallModel(), TOKENS, seq_len=65)
    assert caught.value.kind == "shape"


def test_seq_len_defaults_to_the_context_and_1024_at_most():
    assert evaluate(SmallModel(positions=48), TOKENS).seq_len == 48
    assert evaluate(SmallModel(positions=4096), TOKENS).seq_len == 1024
    assert evaluate(SmallModel(positions=None), TOKENS).seq_len == 1024


class Hungry(SmallModel):
    """Refuses more than `room` windows at once, as a full device does."""

    room = 2

    def hidden(self, tokens):
        if len(tokens) > self.room:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory")
        return super().hidden(tokens)


def test_the_batch_halves_until_it_fits_and_the_number_stays():
    expected = evaluate(SmallModel(), TOKENS, batch_size=2)
    result = evaluate(Hungry(), TOKENS, batch_size=8)
    assert result.batch_size == 2 and result.loss == pytest.approx(expected.loss, rel=1e-6)
    model = Hungry()
    model.room = 0
    with pytest.raises(OutOfMemory, match="one window of 64 tokens"):
        evaluate(model, TOKENS, batch_size=8)
    assert is_out_of_memory(MemoryError()) and not is_out_of_memory(RuntimeError("shape mismatch"))


@pytest.mark.parametrize(
    ("free_gb", "expected"),
    [(80, 32), (4, 11), (0.1, 1), (0, 1)],
)
def test_windows_per_pass_follow_the_free_memory_of_the_device(free_gb, expected):
    assert windows_that_fit(32, sample=4, taken_bytes=10**9, free_bytes=int(free_gb * 1e9)) == expected


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_the_batch_is_found_by_memory_and_the_loss_stays():
    model = SmallModel(positions=None)
    tokens = tokens_for(200_000)
    expected = evaluate(model, tokens, seq_len=512, dtype="float32").loss
    result = evaluate(model.cuda(), tokens, seq_len=512, dtype="float32")
    assert result.batch_size > 1 and result.loss == pytest.approx(expected, rel=1e-5)


def test_a_real_refusal_by_the_allocator_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50)
    assert is_out_of_memory(caught.value)


def test_bits_per_byte_leaves_special_tokens_out(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.txt").write_text("some text, then more of it. " * 10)
    files = sorted(tmp_path.glob("*.txt"))
    model = SmallModel()
    stream = open_stream(files, tokenizer="bytes+eos", cache_dir=tmp_path)
    result = evaluate(model, stream)
    ids = stream.read(0, len(stream))
    special = np.flatnonzero(ids[1:] == 256)
    one_by_one = evaluate(model, ids, seq_len=64, stride=None)
    nats = one_by_one.loss * one_by_one.tokens - _nats_at(model, ids, special)
    assert result.bytes == 3 * 280 - 1  # the first byte is no target
    assert result.bits_per_byte == pytest.approx(nats / math.log(2) / result.bytes, rel=1e-5)


def _nats_at(model, ids, positions):
    total = 0.0
    for p in positions:
        start = p // 64 * 64
        logits = model.output(model.hidden(torch.from_numpy(ids[None, start : p + 1])))[0, -1]
        total -= torch.log_softmax(logits, -1)[ids[p + 1]].item()
    return total


def test_the_standard_error_groups_by_document_where_there_are_enough(tmp_path):
    model = SmallModel()
    texts = [f"document {i}: " + "abcdefg "[: 3 + i % 5] * (5 + i) for i in range(30)]
    (tmp_path / "d.jsonl").write_text("\n".join(f'{{"text": "{text}"}}' for text in texts))
    stream = open_stream(tmp_path / "d.jsonl", tokenizer="bytes+eos", cache_dir=tmp_path)
    result = evaluate(model, stream, seq_len=50)
    ids = stream.read(0, len(stream))
    nats = np.concatenate([_row(model, ids[s : min(s + 51, len(ids))]) for s in range(0, len(ids) - 1, 50)])
    document = np.searchsorted(stream.document_starts, np.arange(1, len(ids)), side="right") - 1
    sums, counts = np.bincount(document, nats), np.bincount(document)
    residual = sums - sums.sum() / counts.sum() * counts
    expected = math.sqrt(30 / 29 * (residual**2).sum()) / counts.sum()
    assert result.loss_stderr == pytest.approx(expected, rel=1e-4)


def _row(model, ids):
    with torch.no_grad():
        logits = model.output(model.hidden(torch.from_numpy(ids[None, :-1])))[0]
    return torch.nn.functional.cross_entropy(logits, torch.from_numpy(ids[1:]), reduction="none").numpy()


def test_selfcheck_passes_on_an_exact_model_and_fails_on_one_that_sees_its_batch():
    model = SmallModel()
    result = evaluate(model, TOKENS)
    assert selfcheck(model, TOKENS, result).ok

    class Leaky(SmallModel):
        def hidden(self, tokens):
            return super().hidden(tokens) + 0.1 * len(tokens)

    leaky = Leaky()
    check = selfcheck(leaky, TOKENS, evaluate(leaky, TOKENS))
    assert not check.ok and "FAILED" in check.sentence


def test_a_declared_tokenizer_with_more_text_than_the_vocabulary_gives_no_bits_per_byte(tmp_path):
    TOKENS.astype("<u2").tofile(tmp_path / "val.bin")  # ids below 256
    stream = open_stream(tmp_path / "val.bin", tokenizer="bytes")
    assert evaluate(SmallModel(vocab_size=256), stream, seq_len=64).bits_per_byte is not None
    larger = TokenStream([TOKENS % 200], id_bytes=stream.id_bytes, bytes_declared=True, tokenizer="bytes")
    result = evaluate(SmallModel(vocab_size=200), larger, seq_len=64)
    assert result.bits_per_byte is None and result.bytes is None
    assert "bits per byte unknown: bytes has 256 ids, the model 200" in result.note
    assert result.loss == evaluate(SmallModel(vocab_size=200), TOKENS % 200, seq_len=64).loss


def test_windows_of_a_model_with_unknown_context_are_named_in_the_note():
    assert "context length is not known, so windows have 1024" in evaluate(SmallModel(positions=None), TOKENS).note
    assert evaluate(SmallModel(positions=None), TOKENS, seq_len=64).note is None
    assert evaluate(SmallModel(positions=64), TOKENS).note is None


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_of_no_windows_is_refused(batch_size):
    with pytest.raises(DataError, match="at least 1"):
        evaluate(SmallModel(), TOKENS, batch_size=batch_size)


def test_negative_ids_are_refused_where_the_vocabulary_is_unknown_too():
    with pytest.raises(DataError, match="-1 in the given tokens is negative") as caught:
        evaluate(LogitsModel("tensor", SmallModel()), np.append(TOKENS[:99].astype(np.int64), -1), seq_len=8)
    assert caught.value.kind == "shape"
