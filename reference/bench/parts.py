"""Where a model's time goes: shares of projections, operator, convolution, softmax, norms, gates, head, copies, Python.

torch.profiler says how long each operation takes. Which part it belongs to is said by the module or function that it
runs in, or else by its name; an operation of a backward pass belongs to the part of the one that it differentiates.
"""

import importlib
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

from torch import nn
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function

MODEL_PARTS = ("projections", "operator", "convolution", "softmax", "norms", "gates", "head", "copies", "Python")
OUR_FUNCTIONS = {
    ("reference.layers.gated_deltanet", "chunk_gated_delta_rule"): "operator",
    ("reference.layers.delta", "decode_step"): "operator",
    ("reference.layers.delta", "causal_conv"): "convolution",
    ("reference.layers.delta", "causal_conv_step"): "convolution",
}
THEIRS = "transformers.models.qwen3_5.modeling_qwen3_5"
THEIR_FUNCTIONS = {
    (THEIRS, "torch_chunk_gated_delta_rule"): "operator",
    (THEIRS, "torch_recurrent_gated_delta_rule"): "operator",
    (THEIRS, "causal_conv1d_fn"): "convolution",
    (THEIRS, "causal_conv1d_update"): "convolution",
}
COPIES = ("copy_", "clone", "cat", "fill_", "zero_", "index_select", "stack", "AccumulateGrad")
PRODUCT_NAMES = ("mm", "addmm", "bmm", "linear", "_linear_pointwise")
_MARK = "part: "


def shares(work: Callable[[], object], model: nn.Module, functions: dict[tuple[str, str], str]) -> dict[str, float]:
    """The share of each part in the time of one call of work, which runs the model; their sum is 1.

    functions: (module, name) -> part, for the functions that the model calls by these names.
    """
    with _marked(model, functions), profile(activities=[ProfilerActivity.CPU]) as found:
        began = time.perf_counter()
        work()
        whole = time.perf_counter() - began
    return shares_of_events(found.events(), 1e6 * whole)


def shares_of_events(events: list[FunctionEvent], whole: float) -> dict[str, float]:
    """The same from a profile, and from the time of all, in microseconds. What no operation took is Python's."""
    times = dict.fromkeys(MODEL_PARTS, 0.0)
    forward = {}  # the number that a forward operation shares with its backward one -> the part
    for event in events:
        part = _marked_part(event)
        if part is not None and event.sequence_nr >= 0:
            forward[event.sequence_nr] = part  # the last one: those before it passed the number on
    for event in events:
        if "::" in event.name and not event.name.startswith("autograd::"):
            part = _marked_part(event) or _part_of_gradient(event, forward) or _part_by_name(event)
            times[part] += event.self_cpu_time_total
    times["Python"] = max(whole - sum(times.values()), 0.0)
    total = sum(times.values())
    return {part: spent / total for part, spent in times.items()}


@contextmanager
def _marked(model: nn.Module, functions: dict[tuple[str, str], str]) -> Iterator[None]:
    """Inside, the profiler sees the parts that modules and functions belong to."""
    with ExitStack() as stack:
        for name, module in model.named_modules():
            part = "head" if name == "lm_head" else _part_of_module(module)
            if part is not None:
                stack.enter_context(patch.object(module, "forward", _inside(part, module.forward)))
        for (module, name), part in functions.items():
            owner = importlib.import_module(module)
            stack.enter_context(patch.object(owner, name, _inside(part, getattr(owner, name))))
        yield


def _inside(part: str, function: Callable) -> Callable:
    def marked(*args, **keywords):
        with record_function(_MARK + part):
            return function(*args, **keywords)

    return marked


def _part_of_module(module: nn.Module) -> str | None:
    if isinstance(module, nn.Linear):
        return "projections"
    return "norms" if "RMSNorm" in type(module).__name__ else None


def _marked_part(event: FunctionEvent) -> str | None:
    """The outermost mark around an event: what an operator calls belongs to the operator."""
    found = None
    while event is not None:
        found = event.name.removeprefix(_MARK) if event.name.startswith(_MARK) else found
        event = event.cpu_parent
    return found


def _part_of_gradient(event: FunctionEvent, forward: dict[int, str]) -> str | None:
    while event is not None:
        if event.name.startswith("autograd::engine::evaluate_function"):
            return forward.get(event.sequence_nr)
        event = event.cpu_parent
    return None


def _part_by_name(event: FunctionEvent) -> str:
    name = event.name.split("::")[-1]
    if "scaled_dot_product" in name:
        return "softmax"
    if name in COPIES:
        return "copies"
    return "projections" if name in PRODUCT_NAMES else "gates"
