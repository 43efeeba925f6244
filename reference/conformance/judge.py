"""Run another implementation's functions on the cases and say in words what is wrong with them."""

import inspect
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from reference.conformance.cases import build_inputs, torch_keywords, vector_cases
from reference.conformance.museum import MUSEUM, RIGHT, run_recurrence
from reference.ops import OPERATORS

OPERATOR_TOLERANCE = 2e-5  # of the largest entry: float32 with products of float32
GRADIENT_TOLERANCE = 1e-4
FORMS = ("chunk_{}", "recurrent_{}", "{}")
NO_FUNCTION = "expected a function named after an operator of reference.ops, such as chunk_gated_delta_rule"


class Judgement(NamedTuple):
    """One case of one function. state: "right", "wrong", or "not tried"; said: why, in a sentence; resembles: pieces of
    the museum that give the same wrong answers."""

    function: str
    case: str
    state: str
    said: str
    resembles: tuple[str, ...] = ()

    @classmethod
    def of_error(cls, function: str, case: str, error: Exception) -> "Judgement":
        """The judgement on a function that raised `error`."""
        return cls(function, case, "wrong", f"raised {type(error).__name__}: {str(error)[:300]}")


def functions_of(module: ModuleType) -> dict[str, tuple[str, Callable]]:
    """The functions to judge: name -> (operator, function). ValueError if there is none."""
    found = {}
    for operator in OPERATORS:
        for form in FORMS:
            function = getattr(module, form.format(operator), None)
            if callable(function):
                found[form.format(operator)] = (operator, function)
    if not found:
        raise ValueError(f"mine: {module.__name__} has nothing to check; {NO_FUNCTION}")
    return found


def judge(
    name: str, operator: str, function: Callable, *, arrays: str = "torch", tolerance: float = OPERATOR_TOLERANCE
) -> Iterator[Judgement]:
    """Yield a Judgement per case of `operator`. arrays: "torch" or "numpy", what `function` takes.

    The function is called as function(q, k, v[, g][, beta], **keywords) and returns o or (o, final_state). Keywords
    that its signature lacks are left out; a case that can't be asked without them is "not tried".
    """
    takes = _takes(function)
    for title, about in vector_cases():
        if about["operator"] == operator:
            yield _judge_case(name, title, about, function, takes, arrays, tolerance)


def _takes(function: Callable) -> Callable[[str], bool]:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return lambda keyword: False
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return lambda keyword: True
    return lambda keyword: keyword in parameters


def _judge_case(name, title, about, function, takes, arrays, tolerance) -> Judgement:
    case = title.partition("-")[2]
    if missing := [key for key in about["keywords"] if not takes(key)]:
        return Judgement(name, case, "not tried", f"the function takes no {', '.join(missing)}")
    n_states = len(about["keywords"].get("cu_seqlens", [0, 1])) - 1
    inputs = build_inputs(about["operator"], about["sizes"], about["change"], n_states, about["seed"])
    keywords = dict(about["keywords"])
    state = inputs.pop("initial_state")
    given = {"initial_state": state} if takes("initial_state") else {}
    plain = {key: x.numpy().copy() for key, x in (inputs | given).items()}
    asked = {"output_final_state": True} if takes("output_final_state") else {}
    before = {key: x.clone() for key, x in (inputs | given).items()}
    try:
        o, final, leaves = call(function, inputs, given, keywords | asked, arrays)
    except Exception as error:  # the reader's code may raise anything: tell it, and go on to the next case
        return Judgement.of_error(name, case, error)
    wanted, wanted_state = run_recurrence(plain, keywords)
    problem = difference_in_words("o", o, wanted, tolerance)
    if problem is None and final is not None:
        problem = difference_in_words("final_state", final, wanted_state, tolerance)
    if problem is not None:
        return Judgement(name, case, "wrong", problem, _resembles(o, final, plain, keywords, tolerance))
    changed = [key for key, x in before.items() if not torch.equal(x, (inputs | given)[key].detach())]
    if changed:
        return Judgement(name, case, "wrong", f"right, but it has changed its argument {', '.join(changed)}")
    problem = _compare_gradients(about, leaves, o, given, keywords)
    if problem is not None:
        return Judgement(name, case, "wrong", problem)
    what = ["o"] + ["final_state"] * (final is not None) + ["gradients"] * _has_gradient(o)
    return Judgement(name, case, "right", f"{', '.join(what)}: {about['awkward']}")


def call(function: Callable, inputs: dict, given: dict, keywords: dict, arrays: str) -> tuple:
    """(o, final_state or None, the tensors that o may have gradients for) of one call."""
    if arrays == "numpy":
        tensors = {key: x.numpy().copy() for key, x in inputs.items()}
        extra = {key: x.numpy().copy() for key, x in given.items()}
        packed = {key: np.asarray(x) if key == "cu_seqlens" else x for key, x in keywords.items()}
        answer = function(*tensors.values(), **extra, **packed)
        leaves = {}
    else:
        leaves = {key: x.requires_grad_() for key, x in inputs.items()}
        answer = function(*leaves.values(), **given, **torch_keywords(keywords))
    o, final = answer if isinstance(answer, tuple | list) else (answer, None)
    return as_tensor("o", o), None if final is None else as_tensor("final_state", final), leaves


def as_tensor(name: str, x: object) -> Tensor:
    """A tensor, or an array as one. TypeError for anything else."""
    if isinstance(x, Tensor):
        return x
    try:
        return torch.from_numpy(np.array(x, dtype=np.float64))
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected a tensor or an array, got {type(x).__name__}") from None


def difference_in_words(name: str, found: Tensor, wanted: np.ndarray, tolerance: float) -> str | None:
    """What is wrong with [B, T, HV, Dv] (final_state: [N, HV, Dk, Dv]), in words; None if nothing is."""
    got = found.detach().double().cpu().numpy()
    if got.shape != wanted.shape:
        return f"{name} has the shape {list(got.shape)}, expected {list(wanted.shape)}"
    wrong = ~(np.abs(got - wanted) <= tolerance * np.abs(wanted).max())
    if not wrong.any():
        return None
    if not np.isfinite(got).all():
        return f"{name} has NaN or infinity {_where(name, ~np.isfinite(got))}"
    error = np.abs(got - wanted).max() / np.abs(wanted).max()
    return f"{name} is off by {error:.1e} of its largest entry {_where(name, wrong)}"


def _where(name: str, wrong: np.ndarray) -> str:
    """Which tokens and heads are wrong, in words."""
    if name == "final_state":
        return f"in head(s) {', '.join(map(str, np.flatnonzero(wrong.any(axis=(0, 2, 3)))))}"
    tokens, heads = (np.flatnonzero(wrong.any(axis=axes)) for axes in ((0, 2, 3), (0, 1, 3)))
    first, T, HV = tokens[0], wrong.shape[1], wrong.shape[2]
    said = "at every token" if len(tokens) == T else f"at {len(tokens)} of {T} tokens, first at token {first}"
    if len(heads) < HV:
        said += f", in head(s) {', '.join(map(str, heads))} of {HV}"
    if name == "o" and first and first % 16 == 0:
        said += f" (tokens 0 to {first - 1} are right: look at what passes from chunk to chunk)"
    return said


def _resembles(o: Tensor, final: Tensor | None, inputs: dict, keywords: dict, tolerance: float) -> tuple[str, ...]:
    """The pieces of the museum that give the same wrong answers."""
    got, right = o.detach().double().cpu().numpy(), run_recurrence(inputs, keywords, RIGHT)[0]
    state = None if final is None else final.detach().double().cpu().numpy()
    found = []
    for words, how in MUSEUM.items():
        with np.errstate(all="ignore"):
            wrong, wrong_state = run_recurrence(inputs, keywords, how)
        size = max(np.abs(wrong).max(), 1e-30)
        near = tolerance if how.rounds == RIGHT.rounds else 0.2 * np.abs(wrong - right).max() / size
        if got.shape != wrong.shape or not np.abs(got - wrong).max() <= near * size:
            continue
        if state is not None and (
            state.shape != wrong_state.shape
            or not np.abs(state - wrong_state).max() <= max(near, tolerance) * np.abs(wrong_state).max()
        ):
            continue
        found.append(words)
    return tuple(found)


def _has_gradient(o: Tensor) -> bool:
    return o.requires_grad


def _compare_gradients(about: dict, leaves: dict, o: Tensor, given: dict, keywords: dict) -> str | None:
    """Gradients of a random loss against those of our recurrence in float64; None if right, or if there are none."""
    if not leaves or not _has_gradient(o) or keywords.get("cu_seqlens") is not None:
        return None
    arriving = torch.from_numpy(np.random.default_rng(about["seed"] + 1).normal(size=tuple(o.shape)))
    found = torch.autograd.grad(o, list(leaves.values()), arriving.to(o.dtype), allow_unused=True)
    exact = {key: x.detach().double().requires_grad_() for key, x in leaves.items()}
    state = {key: x.double() for key, x in given.items()}
    right, _ = OPERATORS[about["operator"]].recurrent(**exact, **state, **torch_keywords(keywords))
    wanted = torch.autograd.grad(right, list(exact.values()), arriving)
    for key, got, want in zip(leaves, found, wanted, strict=True):
        if got is None:
            return f"the gradient of {key} is missing"
        want = want.nan_to_num(0.0)  # e^-inf has no slope, but autograd forms 0 times infinity there
        error = (got.double() - want).abs().max() / want.abs().max().clamp(min=1e-30)
        if not error <= GRADIENT_TOLERANCE:
            return f"o is right, but the gradient of {key} is off by {float(error):.1e} of its largest entry"
    return None
