"""A projection gives what nn.Linear gives, in every way it goes."""

import pytest
import torch
from torch.nn import functional as F

from reference.layers import projection
from reference.layers.projection import Projection

needs_onednn = pytest.mark.skipif(not projection.HAS_ONEDNN, reason="oneDNN on x86 alone")


@pytest.fixture(autouse=True)
def choose_the_library_anew():
    projection.product_library.cache_clear()
    yield
    projection.product_library.cache_clear()


def make(bias, dtype=torch.float32):
    torch.manual_seed(0)
    return Projection(256, 512, bias=bias).to(dtype)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(1, 256), (1, 1, 256), (256,), (7, 256), (2, 33, 256), (0, 256)])
@torch.no_grad()
def test_without_gradients(shape, bias):
    layer, x = make(bias), torch.randn(shape)
    y = layer(x)
    assert y.shape == (*shape[:-1], 512)
    torch.testing.assert_close(y, F.linear(x, layer.weight, layer.bias), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 256), (2, 33, 256)])
def test_gradients(shape):
    layer, x, dy = make(True), torch.randn(shape), torch.randn(*shape[:-1], 512)
    found, wanted = [], []
    for values, leaves, out in (
        (found, (x.clone().requires_grad_(), layer.weight, layer.bias), layer),
        (wanted, tuple(y.detach().double().requires_grad_() for y in (x, layer.weight, layer.bias)), None),
    ):
        y = out(leaves[0]) if out else F.linear(*leaves)
        values += torch.autograd.grad(y, leaves, dy.to(y.dtype))
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-5)


@needs_onednn
@pytest.mark.filterwarnings("ignore")  # of the switch itself
def test_the_switch_and_what_does_not_suit_it(monkeypatch):
    calls = []
    inner = projection.onednn_product
    monkeypatch.setattr(projection, "onednn_product", lambda *args: calls.append(1) or inner(*args))
    x = torch.randn(3, 256)
    make(False)(x)
    assert len(calls) == 1
    with torch.backends.mkldnn.flags(enabled=False):
        make(False)(x)
    monkeypatch.setenv(projection.LIBRARY_SWITCH, "torch")
    make(False)(x)
    assert len(calls) == 2, "the variable is read once"
    projection.product_library.cache_clear()
    make(False)(x)
    assert len(calls) == 2
    monkeypatch.setenv(projection.LIBRARY_SWITCH, "onednn")
    projection.product_library.cache_clear()
    make(False, torch.float64)(x.double())
    Projection(8, 8)(x[:, :8])
    with torch.autocast("cpu", torch.bfloat16):
        assert make(False)(x).dtype == torch.bfloat16
    assert len(calls) == 2


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_keep_theirs(dtype):
    layer, x = make(True, dtype), torch.randn(5, 256, dtype=dtype)
    assert torch.equal(layer(x), F.linear(x, layer.weight, layer.bias))


def test_second_derivatives_are_those_of_a_plain_product():
    x, layer = torch.randn(1, 256, 256, requires_grad=True), Projection(256, 256, bias=False)
    found = []
    for y in (layer(x), x @ layer.weight.t()):
        (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        found.append(torch.autograd.grad(first.square().sum(), (x, layer.weight)))
    for ours, wanted in zip(*found, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-3 * wanted.abs().max().item())


@needs_onednn
@torch.no_grad()
@pytest.mark.parametrize("tokens", [1, 5, 200])
def test_the_libraries_differ_by_rounding_only(tokens, monkeypatch):
    layer, x, found = make(False), torch.randn(tokens, 256), {}
    for name in projection.PRODUCTS:
        monkeypatch.setenv(projection.LIBRARY_SWITCH, name)
        projection.product_library.cache_clear()
        found[name] = layer(x)
    exact = x.double() @ layer.weight.double().t()
    for y in found.values():
        assert (y - exact).abs().max() < 1e-5
    assert torch.equal(found["torch"], F.linear(x, layer.weight))


def test_the_switch_of_the_library_names_what_it_takes(monkeypatch):
    monkeypatch.setenv(projection.LIBRARY_SWITCH, "mkl")
    with pytest.raises(ValueError, match=r"REFERENCE_PRODUCTS: expected one of .* got 'mkl'"):
        projection.product_library()
    monkeypatch.delenv(projection.LIBRARY_SWITCH)
    assert projection.product_library() == ("onednn" if projection.HAS_ONEDNN else "torch")
