"""The memory that a launch must find free is what a worker takes: measured on the simulated accelerator."""

import json
from dataclasses import replace

import pytest
import torch

from evalcore.device_memory import CONTEXT_BYTES, LEAST_BYTES, PASS_TOKENS, ModelSize, model_size, needed_bytes
from evalcore.measure.evaluate import evaluate
from evalcore.models.decoder import Decoder, DecoderShape
from evalcore.models.linear import linear_layers
from evalcore.models.llama import Llama, LlamaShape
from tests.support.models import tokens_for
from tests.support.simulated_accelerator import simulated

WIDTH, SEQ_LEN, GIB = 32, 8, 1 << 30
LLAMA = LlamaShape(
    *(64, SEQ_LEN, 2, 2, 2, 16, WIDTH, 85, 1e-5, False, False, False),
    rope=(("type", "default"), ("theta", 10000.0)),
)


def taken_bytes(model, dtype: str, loaded_lower: bool) -> int:
    """By the first pass over PASS_TOKENS tokens, weights included, the device's context not."""
    for parameter in model.requires_grad_(False).parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    with simulated() as device:
        if loaded_lower:
            for layer in linear_layers(model):
                layer.weight = torch.nn.Parameter(layer.weight.bfloat16(), requires_grad=False)
        on_device = model.to("sim")
        tokens = tokens_for(PASS_TOKENS + 1, 64)
        evaluate(on_device, tokens, seq_len=SEQ_LEN, batch_size=PASS_TOKENS // SEQ_LEN, dtype=dtype)
        peak = device.peak
        del on_device, model, parameter
    return peak


@pytest.mark.parametrize("vocabulary", [64, 1024])  # a block is the largest, or the head
@pytest.mark.parametrize("shape", ["gpt", "llama"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_pass_takes_what_is_reserved_or_a_little_less(shape, dtype, vocabulary, monkeypatch):
    # as a fused kernel of a GPU: nothing is allocated but its output; the values are of no interest
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", lambda q, *rest, **more: q.clone())
    gpt = DecoderShape(vocabulary, SEQ_LEN, 2, 2, WIDTH, 4 * WIDTH)
    model = Decoder(gpt) if shape == "gpt" else Llama(replace(LLAMA, vocab_size=vocabulary))
    size = ModelSize(sum(p.numel() for p in model.parameters()), vocabulary, WIDTH, True)
    reserved = needed_bytes(size, [dtype], SEQ_LEN, least=0) - CONTEXT_BYTES
    taken = taken_bytes(model, dtype, loaded_lower=dtype == "bfloat16")
    assert 0.5 * reserved <= taken <= reserved


GPT2 = model_size(124_439_808, "hf-gpt2", json.dumps({"vocab_size": 50257, "n_embd": 768}))
LLAMA_7B = model_size(6_738_415_616, "hf-llama", json.dumps({"vocab_size": 32000, "hidden_size": 4096}))


@pytest.mark.parametrize(
    ("model", "dtypes", "gib"),
    [
        # 131.1 M elements in each table: 4 bytes in both, 2 in the copy of the head. Then the linear layers, and a pass
        # over 4,096 tokens: 36 or 60 bytes for each and unit of width, or 12 and its logits.
        (LLAMA_7B, ["auto"], (131.072e6 * 10 + 6476.272e6 * 2 + 4096 * (4096 * 12 + 6 * 32000)) / GIB + 1),
        (LLAMA_7B, ["float32"], (6738.416e6 * 4 + 4096 * 4096 * 60) / GIB + 1),
        # float32 for the one set, and a copy for the other
        (LLAMA_7B, ["float32", "auto"], (131.072e6 * 10 + 6476.272e6 * 6 + 4096 * 4096 * 60) / GIB + 1),
        (GPT2, ["auto"], (38.597e6 * 10 + 47.245e6 * 2 + 4096 * (768 * 12 + 6 * 50257)) / GIB + 1),
    ],
)
def test_the_reserve_follows_the_dtypes_of_the_sets(model, dtypes, gib):
    assert needed_bytes(model, dtypes, 1024) / GIB == pytest.approx(gib, rel=1e-4)


@pytest.mark.parametrize(
    ("family", "config"),
    [("unknown", '{"vocab_size": 9, "n_embd": 9}'), ("hf-llama", None), ("hf-llama", '{"vocab_size": 32000, "hid')],
)
def test_where_sizes_are_not_known_float32_and_a_copy_are_counted(family, config):
    assert needed_bytes(model_size(7 * 10**9, family, config), ["auto"], None) == CONTEXT_BYTES + 42 * 10**9
    assert needed_bytes(None, ["auto"], None) == needed_bytes(ModelSize(9), ["auto"], None) == LEAST_BYTES
