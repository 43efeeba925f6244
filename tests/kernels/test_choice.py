"""Kernel or PyTorch on a GPU: the reason is always said, once."""

import sys
import warnings
from types import SimpleNamespace

import pytest
import torch

from reference.kernels import choice


@pytest.fixture
def machine(monkeypatch):
    """An H100 with Triton, nothing said yet, no switch."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda: shared(227))
    monkeypatch.setitem(sys.modules, "triton", sys)
    monkeypatch.setattr(choice, "_said", set())
    monkeypatch.delenv(choice.SWITCH, raising=False)
    return monkeypatch


def shared(KiB):
    return SimpleNamespace(shared_memory_per_block_optin=KiB * 1024)


def arguments(Dk=64, Dv=128, dtype=torch.float32):
    return torch.zeros(1, 3, 2, Dk, dtype=dtype), torch.zeros(1, 3, 4, Dv, dtype=dtype), torch.zeros(1, 3, 4)


def test_a_call_that_suits_goes_to_the_kernel_without_a_word(machine):
    assert choice.takes_kernel(*arguments())
    assert choice.takes_kernel(*arguments(dtype=torch.bfloat16))


def test_an_additive_rule_has_a_kernel_where_nobody_wants_a_gradient(machine):
    q, v, _ = arguments()
    assert choice.takes_kernel(q, v, None, True)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (arguments(Dk=48), "Dk is 48"),
        (arguments(Dk=256), "Dk is 256, and the kernels take 16, 32, 64, 128"),
        (arguments(Dv=512), "Dv is 512"),
        (arguments(dtype=torch.float64), "float64"),
        ((*arguments()[:2], None), "additive rules"),
    ],
)
def test_a_call_that_does_not_suit_is_said_once(machine, inputs, words):
    with pytest.warns(UserWarning, match=f"slower PyTorch form on this GPU: .*{words}"):
        assert not choice.takes_kernel(*inputs)
    assert not choice.takes_kernel(*inputs)  # a warning would be an error here


def test_without_triton_or_with_an_old_or_a_small_gpu_it_is_said(machine):
    machine.setitem(sys.modules, "triton", None)
    with pytest.warns(UserWarning, match="Triton can't be imported"):
        assert not choice.takes_kernel(*arguments())
    machine.setitem(sys.modules, "triton", sys)
    machine.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    with pytest.warns(UserWarning, match="capability 7.5"):
        assert not choice.takes_kernel(*arguments())
    machine.setattr(torch.cuda, "get_device_capability", lambda: (8, 9))
    machine.setattr(torch.cuda, "get_device_properties", lambda: shared(99))
    with pytest.warns(UserWarning, match="99 KiB of shared memory"):
        assert not choice.takes_kernel(*arguments())


def test_who_turned_them_off_needs_no_warning(machine):
    machine.setenv(choice.SWITCH, "off")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not choice.takes_kernel(*arguments())
    assert choice.machine_lacks() == "REFERENCE_KERNELS=off turns them off"
