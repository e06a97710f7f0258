"""The tiled head equals the plain cross entropy, whatever the tile and the chunk."""

import math

import pytest
import torch
import torch.nn.functional as F

from evalcore.measure.loss import Head, nats_of_logits, target_nats


def _case(vocab=301, width=24, n=37, scale=1.0, dtype=torch.float32):
    make = torch.Generator().manual_seed(3)
    hidden = torch.randn(n, width, generator=make) * scale
    weight = torch.randn(vocab, width, generator=make)
    return hidden.to(dtype), weight.to(dtype), torch.randint(0, vocab, (n,), generator=make)


@pytest.mark.parametrize("tile", [1, 7, 100, 301, 4096])
@pytest.mark.parametrize("chunk", [1, 5, 1024])
@pytest.mark.parametrize("with_bias", [False, True])
def test_nats_equal_float64_cross_entropy(tile, chunk, with_bias):
    hidden, weight, targets = _case()
    bias = torch.linspace(-3, 3, len(weight)) if with_bias else None
    nats = target_nats(hidden, Head(weight, bias), targets, chunk, tile)
    logits = hidden.double() @ weight.double().t() + (0 if bias is None else bias.double())
    expected = F.cross_entropy(logits, targets, reduction="none")
    assert torch.allclose(nats.double(), expected, rtol=2e-6, atol=2e-6)


def test_logits_far_beyond_exp_stay_finite():
    hidden, weight, targets = _case(scale=400.0)
    nats = target_nats(hidden, Head(weight), targets, 8, 50)
    expected = F.cross_entropy(hidden.double() @ weight.double().t(), targets, reduction="none")
    assert expected.max() > 709
    assert torch.allclose(nats.double(), expected, rtol=1e-5, atol=1e-2)


def test_a_certain_target_never_costs_less_than_nothing():
    weight = torch.eye(64) * 50
    nats = target_nats(torch.eye(64), Head(weight), torch.arange(64), 16, 8)
    assert (nats >= 0).all() and nats.max() < 1e-6


def test_bad_weights_spoil_only_their_own_rows():
    hidden, weight, targets = _case()
    hidden[3] = math.nan
    hidden[5, 0] = math.inf
    nats = target_nats(hidden, Head(weight), targets, 8, 50)
    clean = [i for i in range(len(hidden)) if i not in (3, 5)]
    assert not nats[3].isfinite() and not nats[5].isfinite() and nats[clean].isfinite().all()


def test_half_width_heads_answer_in_float32_near_the_exact_value():
    hidden, weight, targets = _case(width=64, dtype=torch.bfloat16)
    nats = target_nats(hidden, Head(weight), targets, 8, 50)
    expected = F.cross_entropy(hidden.double() @ weight.double().t(), targets, reduction="none")
    assert nats.dtype == torch.float32
    assert abs(nats.double().mean() - expected.mean()) < 0.05


def test_whole_logits_give_the_same_nats():
    hidden, weight, targets = _case()
    whole = nats_of_logits((hidden @ weight.t())[None], targets[None], 6)
    assert whole.shape == (1, len(targets))
    assert torch.allclose(whole[0], target_nats(hidden, Head(weight), targets), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tile", [None, 64])
def test_a_loss_near_zero_keeps_its_digits_beside_large_logits(tile):
    """The log-sum-exp rounded at 24, less the target's logit, would leave an error of 1e-6 on a loss of 1e-6."""
    torch.manual_seed(0)
    logits = torch.randn(50, 400)
    targets = torch.arange(50)
    logits[targets, targets] = torch.linspace(12, 24, 50)
    expected = torch.nn.functional.cross_entropy(logits.double(), targets, reduction="none")
    assert 1e-8 < float(expected.min()) < 1e-7 and float(expected.max()) > 1e-3
    for nats in (
        nats_of_logits(logits, targets),
        target_nats(torch.eye(50), Head(logits.T.contiguous()), targets, tile=tile),
    ):
        assert float((nats.double() - expected).abs().max()) < 6e-7
        assert float(nats.min()) >= 0
