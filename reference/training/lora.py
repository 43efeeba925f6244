"""LoRA: a trained model stays as it is, and small matrices beside its projections learn.

y = W x becomes y = W x + (alpha / rank) B A x with A [rank, in] and B [out, rank]. B starts at zero, so that nothing
changes before the first step. Which projections a family has is in appendix/checkpoints.md: a list made for softmax
attention (q_proj, k_proj, v_proj, o_proj) names nothing in a linear layer. Source: Hu et al. 2021.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from reference.arguments import check_positive_int, cut_short
from reference.model.hybrid import HybridLM


class LowRank(nn.Module):
    """A linear module that stays as it is, and two small matrices that learn.

    base   the module
    rank   rows of A and columns of B
    alpha  what B A x is multiplied by, divided by the rank

    forward as base.
    """

    def __init__(self, base: nn.Linear, rank: int, alpha: float):
        super().__init__()
        like = {"dtype": base.weight.dtype, "device": base.weight.device}
        self.base, self.scale = base, alpha / rank
        self.A = nn.Parameter(torch.empty(rank, base.in_features, **like))
        self.B = nn.Parameter(torch.zeros(base.out_features, rank, **like))
        nn.init.kaiming_uniform_(self.A, a=5**0.5)

    @property
    def weight(self) -> Tensor:
        """The matrix that the two sum up to, for layers that take a projection apart."""
        return self.base.weight + self.scale * self.B @ self.A

    def forward(self, x: Tensor) -> Tensor:
        """base(x) and what was learned beside it."""
        return self.base(x) + self.scale * (x @ self.A.mT @ self.B.mT)


def add_adapters(
    model: HybridLM, targets: Sequence[str], *, rank: int = 8, alpha: float = 16.0, partial: bool = False
) -> list[str]:
    """Freeze the model and put a LowRank in the place of each linear module of its layers whose name is a target.

    targets  last words of our modules' names, such as "q_proj", "in_proj_qkv", "down_proj"
    partial  whether layers may go without one in their mixer

    Returns the names that were replaced. Raises ValueError that names a target that no layer has, or the layers whose
    mixer would learn nothing, which is what a list for softmax attention does to a hybrid.
    """
    check_positive_int("rank", rank)
    found = {name: module for name, module in model.layers.named_modules() if isinstance(module, nn.Linear)}
    known = sorted({name.rpartition(".")[2] for name in found})
    for target in targets:
        if target not in known:
            raise ValueError(f"targets: no linear module is called {cut_short(target)}; there are {', '.join(known)}")
    chosen = [name for name in found if name.rpartition(".")[2] in targets]
    if not partial:
        _check_every_mixer(model, found, chosen)
    model.requires_grad_(False)
    for name in chosen:
        parent, _, last = name.rpartition(".")
        setattr(model.layers.get_submodule(parent), last, LowRank(found[name], rank, alpha))
    return [f"layers.{name}" for name in chosen]


def merge_adapters(model: HybridLM) -> None:
    """Add what was learned to the weights; the model is then one without adapters again, to save or to serve."""
    for name, module in list(model.named_modules()):
        if isinstance(module, LowRank):
            with torch.no_grad():
                module.base.weight.copy_(module.weight)
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, module.base)


def _check_every_mixer(model: HybridLM, found: dict[str, nn.Linear], chosen: list[str]) -> None:
    for layer, kind in enumerate(model.config.layer_types):
        inside = f"{layer}.mixer."
        if not any(name.startswith(inside) for name in chosen):
            names = sorted({name.rpartition(".")[2] for name in found if name.startswith(inside)})
            raise ValueError(
                f"targets: layer {layer}, {kind}, would learn nothing; its projections are {', '.join(names)}. "
                "partial=True if that is meant"
            )
