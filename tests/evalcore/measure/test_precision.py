"""bfloat16 on a CPU: near float32, the same on any number of threads, and the model comes back as it was."""

import pytest
import torch

from evalcore.measure import loss, scorer
from evalcore.measure.evaluate import evaluate
from evalcore.models.decoder import Decoder, DecoderShape
from tests.support.models import tokens_for

TOKENS = tokens_for(1500)


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def model(request) -> Decoder:
    torch.manual_seed(0)
    shape = DecoderShape(vocab_size=300, positions=64, layers=3, heads=2, width=64, inner=128, tied=request.param)
    model = Decoder(shape)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def test_bfloat16_stays_within_its_tolerance_and_threads_do_not_move_it(model):
    expected = evaluate(model, TOKENS, dtype="float32").loss
    before, losses = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            losses.append(evaluate(model, TOKENS, dtype="bfloat16", batch_size=6).loss)
    finally:
        torch.set_num_threads(before)
    assert max(losses) - min(losses) <= 1e-6 * expected
    assert 0 < abs(losses[0] - expected) <= 2e-3


def test_the_weights_are_the_same_objects_with_the_same_values_afterwards(model):
    before = {name: (p, p.clone(), p.requires_grad) for name, p in model.named_parameters()}
    precision = torch.backends.mkldnn.matmul.fp32_precision
    evaluate(model, TOKENS, dtype="bfloat16")
    for name, parameter in model.named_parameters():
        original, values, wants_gradient = before[name]
        assert parameter is original and torch.equal(parameter, values) and parameter.requires_grad == wants_gradient
    assert torch.backends.mkldnn.matmul.fp32_precision == precision
    expected = evaluate(model, TOKENS, dtype="float32").loss
    assert evaluate(model, TOKENS, dtype="float32").loss == expected


def test_an_error_leaves_the_weights_as_they_were(model, monkeypatch):
    monkeypatch.setattr(scorer, "target_nats", lambda *_, **__: 1 / 0)
    weight = model.blocks[0].up.weight
    with pytest.raises(ZeroDivisionError):
        evaluate(model, TOKENS, dtype="bfloat16")
    assert model.blocks[0].up.weight is weight and weight.dtype == torch.float32


def test_logits_are_not_rounded_to_bfloat16(model, monkeypatch):
    """Their products may be of rounded operands; the sums stay float32, so few logits are bfloat16 numbers."""
    seen = []
    honest = loss._top_and_sum_in_place
    monkeypatch.setattr(loss, "_top_and_sum_in_place", lambda logits: seen.append(logits.clone()) or honest(logits))
    evaluate(model, TOKENS, dtype="bfloat16")
    logits = torch.cat([part.flatten() for part in seen])
    assert logits.dtype == torch.float32 and (logits == logits.bfloat16().float()).float().mean() < 0.05
