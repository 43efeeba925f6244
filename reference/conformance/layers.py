"""Another implementation's layers beside ours: y = f(x, weights, config), in float64 on our side."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from types import ModuleType

import torch
from torch import Tensor

from reference.conformance.judge import Judgement, as_tensor, difference_in_words
from reference.model.block import build_mixer
from reference.model.config import HybridConfig, preset

LAYERS = ("linear_attention", "kda", "lightning_attention", "full_attention")  # words of layer_types
LAYER_CASES = {
    "one_token": (1, 1, "nothing before it: the convolution reads zeros"),
    "two_rows": (2, 7, "rows of a batch don't meet"),
    "longer_than_a_chunk": (1, 70, "more tokens than a chunk of 64"),
}
LAYER_SEED = 3
LAYER_TOLERANCE = 1e-4


def _shifted(name: str, by: float) -> Callable[[dict], dict]:
    return lambda w: {key: x + by if key.endswith(name) else x for key, x in w.items()}


def _changed(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[dict], dict]:
    return lambda w: {key: change(x) if key.endswith(name) else x for key, x in w.items()}


# what a wrong layer does -> the weights with which the right one gives the same y
LAYER_MUSEUM = {
    "the norm before the output multiplies by 1 + weight; here it is weight": _shifted("norm.weight", 1.0),
    "q_norm and k_norm multiply by weight; they are zero-centred, 1 + weight": _shifted("_norm.weight", -1.0),
    "the convolution's weights are applied in reverse: the last one belongs to the newest token": _changed(
        "conv1d.weight", lambda x: x.flip(-1)
    ),
    "dt_bias is left out": _changed("dt_bias", torch.zeros_like),
    "A_log is left out: A = exp(A_log)": _changed("A_log", torch.zeros_like),
}


def judge_layers(module: ModuleType, *, tolerance: float = LAYER_TOLERANCE) -> Iterator[Judgement]:
    """Yield a Judgement per case of every layer that the module defines under a word of layer_types.

    The function is called as f(x [B, T, hidden_size], weights, config) with float32 tensors; weights: the layer's
    parameters by our names; config: a HybridConfig. It returns y [B, T, hidden_size]. ValueError if there is none.
    """
    found = {kind: function for kind in LAYERS if callable(function := getattr(module, kind, None))}
    if not found:
        raise ValueError(f"mine: {module.__name__} has no layer to check; expected one of {', '.join(LAYERS)}")
    for kind, function in found.items():
        config = replace(preset("tiny"), layer_types=(kind,))
        for n, case in enumerate(LAYER_CASES):
            yield _judge_case(kind, function, config, case, LAYER_SEED + n, tolerance)


def _judge_case(
    kind: str, function: Callable, config: HybridConfig, case: str, seed: int, tolerance: float
) -> Judgement:
    B, T, awkward = LAYER_CASES[case]
    made = torch.Generator().manual_seed(seed)
    layer = build_mixer(config, 0).double()
    weights = {
        name: p.detach() + 0.2 * torch.randn(p.shape, generator=made, dtype=torch.float64)
        for name, p in layer.named_parameters()
    }
    weights = {name: x.float() for name, x in weights.items()}
    x = torch.randn(B, T, config.hidden_size, generator=made)
    try:
        y = as_tensor("y", function(x.clone(), {name: w.clone() for name, w in weights.items()}, config))
    except Exception as error:  # the reader's code may raise anything: tell it, and go on to the next case
        return Judgement.of_error(kind, case, error)
    problem = difference_in_words(
        "y", y[:, :, None] if y.ndim == 3 else y, _run(layer, weights, x)[:, :, None].numpy(), tolerance
    )
    if problem is None:
        return Judgement(kind, case, "right", awkward)
    near = tuple(
        words for words, change in LAYER_MUSEUM.items() if _matches(layer, change(weights), weights, x, y, tolerance)
    )
    return Judgement(kind, case, "wrong", problem, near)


@torch.no_grad()
def _run(layer: torch.nn.Module, weights: dict[str, Tensor], x: Tensor) -> Tensor:
    layer.load_state_dict({name: w.double() for name, w in weights.items()}, strict=False)
    return layer(x.double())[0]


def _matches(layer, changed: dict, weights: dict, x: Tensor, y: Tensor, tolerance: float) -> bool:
    if all(torch.equal(changed[name], weights[name]) for name in weights):
        return False  # this layer has no such weight
    wanted = _run(layer, changed, x)
    return y.shape == wanted.shape and bool((y.double() - wanted).abs().max() <= tolerance * wanted.abs().max())
