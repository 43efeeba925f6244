"""The emulated grid: the words that kernels use, and the mistakes that it finds and a GPU doesn't tell."""

import numpy as np
import pytest
import torch

from reference.kernels.emulation import emulate, tl


def double(x, y, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y + i, 2 * tl.load(x + i, mask=i < n, other=0.0), mask=i < n)


def without_mask(x, y, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y + i, tl.load(x + i))


def into_one(x, y, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y, tl.load(y) + tl.sum(tl.load(x + i), 0))


def rows(n=10):
    return np.arange(n, dtype=np.float32), np.zeros(n, dtype=np.float32)


def test_programs_fill_their_own_places_and_masks_keep_the_rest():
    x, y = rows()
    ran = emulate(double, (3,), x, y, 10, BLOCK=4)
    assert np.array_equal(y, 2 * x) and ran.races == []
    assert (ran.programs, ran.reads, ran.writes) == (3, {"x": 10}, {"y": 10})
    assert ran.bytes_moved() == 80
    assert [t.program for t in ran.touches if t.is_store] == [(0,), (1,), (2,)]
    assert ran.touches[-1].places.tolist() == [8, 9]


def test_tensors_are_changed_in_place():
    x, y = torch.arange(10.0), torch.zeros(2, 5)
    emulate(double, (3,), x, y, 10, BLOCK=4)
    assert torch.equal(y.flatten(), 2 * x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_are_rounded_as_torch_rounds(dtype):
    x, y = torch.randn(64), torch.empty(64, dtype=dtype)
    emulate(double, (16,), x, y, 64, BLOCK=4)
    assert torch.equal(y, (2 * x).to(dtype))
    z = torch.empty(64)
    emulate(double, (16,), y, z, 64, BLOCK=4)
    assert torch.equal(z, 2 * y.float())


def test_a_missing_mask_names_program_argument_and_place():
    with pytest.raises(IndexError, match=r"program \(2,\) reads x at 10, which has 10 numbers: is a mask missing\?"):
        emulate(without_mask, (3,), *rows(), BLOCK=4)


def test_two_programs_at_one_number_are_a_race_whatever_the_order():
    x, y = rows(8)
    for order in ("forward", "backward"):
        ran = emulate(into_one, (2,), x, y[:1], BLOCK=4, order=order)
        assert len(ran.races) == 1 and ran.races[0].startswith("y[0] is read by program")
    assert emulate(into_one, (1,), x, y[:1], BLOCK=8).races == []


def test_reading_together_is_no_race():
    def broadcast(x, y):
        i = tl.program_id(0)
        tl.store(y + i, tl.load(x))

    x, y = rows(4)
    assert emulate(broadcast, (4,), x, y).races == []


def test_writing_what_another_reads_is_a_race():
    def shift(x, y):
        i = tl.program_id(0)
        tl.store(x + i + 1, tl.load(x + i))

    for order in ("forward", "backward"):
        x, y = rows(5)
        assert len(emulate(shift, (4,), x, y, order=order).races) == 1


@pytest.mark.parametrize(
    ("mistake", "error", "words"),
    [
        (lambda x: tl.arange(0, 3), ValueError, "power of two, got 3"),
        (lambda x: tl.load(x + tl.arange(0, 4))[1], IndexError, "no single entries"),
        (lambda x: tl.load(3), TypeError, "expected an address"),
        (lambda x: tl.dot(tl.zeros([2, 4], tl.float32), tl.zeros([2, 4], tl.float32)), ValueError, "m, k"),
        (lambda x: tl.load(x - 1), TypeError, "unsupported"),
    ],
)
def test_what_triton_refuses_is_refused(mistake, error, words):
    with pytest.raises(error, match=words):
        emulate(mistake, (1,), rows()[0])


def test_a_kernel_runs_only_inside_a_launch():
    with pytest.raises(RuntimeError, match="call emulate"):
        tl.program_id(0)
    with pytest.raises(ValueError, match="order"):
        emulate(double, (1,), *rows(), 10, BLOCK=16, order="sideways")
    with pytest.raises(ValueError, match="x: expected a contiguous array"):
        emulate(double, (1,), rows(20)[0][::2], rows()[1], 10, BLOCK=16)


def test_the_words_do_what_torch_does():
    def words(x, y, C: tl.constexpr):
        r = tl.arange(0, C)
        at = r[:, None] * C + r[None, :]
        X = tl.load(x + at)
        below = tl.where(r[:, None] > r[None, :], X, 0.0)
        found = tl.dot(below, tl.trans(X), input_precision="ieee") + tl.cumsum(X, 0) + tl.cumsum(X, 1, reverse=True)
        tl.store(y + at, tl.exp(tl.minimum(found, 1.0)) + tl.max(X, 1)[:, None] + tl.sum(X, 0)[None, :])

    x, y = torch.randn(4, 4), torch.empty(4, 4)
    ran = emulate(words, (1,), x, y, C=4)
    found = x.tril(-1) @ x.T + x.cumsum(0) + x.flip(1).cumsum(1).flip(1)
    assert torch.allclose(y, found.clamp(max=1).exp() + x.amax(1)[:, None] + x.sum(0), atol=1e-5)
    assert ran.multiply_adds == 64


@pytest.mark.parametrize(("precision", "bits"), [("ieee", 24), ("tf32", 11), ("bf16", 8)])
def test_products_round_what_they_multiply(precision, bits):
    def product(x, y, C: tl.constexpr, PRECISION: tl.constexpr):
        at = tl.arange(0, C)[:, None] * C + tl.arange(0, C)[None, :]
        tl.store(y + at, tl.dot(tl.load(x + at), tl.load(x + at), input_precision=PRECISION))

    x, y = torch.randn(16, 16), torch.empty(16, 16)
    emulate(product, (1,), x, y, C=16, PRECISION=precision)
    right = x.double() @ x.double()
    assert ((y - right).abs().max() / right.abs().max() > 1e-5) == (bits < 24)
    if bits == 8:
        assert torch.allclose(y, x.bfloat16().float() @ x.bfloat16().float(), atol=1e-5)
    with pytest.raises(ValueError, match="ieee, tf32, bf16, got 'tf33'"):
        emulate(product, (1,), x, y, C=16, PRECISION="tf33")
