"""bfloat16 linear layers on a CPU: bias and activation are computed before the product is rounded."""

import pytest
import torch
import torch.nn.functional as F

from evalcore.models.linear import ACTIVATIONS, Linear, add_to_stream, has_fused_products

ROWS, INNER, OUTER = 96, 64, 160


def layer(bias=True):
    torch.manual_seed(0)
    made = Linear(INNER, OUTER, bias=bias).requires_grad_(False)
    made.weight = torch.nn.Parameter(made.weight.bfloat16() * 8, requires_grad=False)
    return made


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
def test_the_product_is_the_one_of_float64_rounded_once_and_squared_relu_after_another_rounding(activation, bias):
    of_layer, x = layer(bias), torch.randn(3, ROWS, INNER)
    with torch.autocast("cpu", torch.bfloat16):  # of a CPU without oneDNN's products
        product, y = of_layer(x), of_layer(x, activation)
    wide = F.linear(
        x.bfloat16().double(), of_layer.weight.double(), of_layer.bias.bfloat16().double() if bias else None
    )
    before = wide if has_fused_products() and activation != "relu2" else product.double()
    expected = wide if activation is None else ACTIVATIONS[activation](before)
    assert y.dtype == torch.bfloat16
    assert ((y.double() - expected).abs() <= 2**-8 * expected.abs() + 1e-4).all()


def test_a_row_has_the_same_bits_in_any_batch():
    of_layer, x = layer(), torch.randn(8 * ROWS, INNER).bfloat16()
    of_layer.bias = torch.nn.Parameter(of_layer.bias.bfloat16(), requires_grad=False)
    whole = of_layer(x, "gelu")
    for count in (1, 2, 4):
        assert torch.equal(of_layer(x[: count * ROWS], "gelu"), whole[: count * ROWS])


def test_float32_and_gradients_go_through_torchs_own_layer():
    of_layer, x = Linear(INNER, OUTER), torch.randn(4, INNER)
    assert torch.equal(of_layer(x, "gelu"), F.gelu(F.linear(x, of_layer.weight, of_layer.bias)))
    lower = Linear(INNER, OUTER, dtype=torch.bfloat16)
    lower(x.bfloat16(), "silu").sum().backward()
    assert lower.weight.grad is not None


def test_a_part_in_bfloat16_is_added_in_float32_with_the_same_bits():
    x, part = torch.randn(4, 8), torch.randn(4, 8).bfloat16()
    kept = part.clone()
    assert torch.equal(add_to_stream(x, part), x + part) and torch.equal(part, kept)
    assert torch.equal(add_to_stream(x, x), x + x)
