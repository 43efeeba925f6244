"""Two models that should compute the same and don't: which activation differs first?"""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Difference(NamedTuple):
    """An activation of both models; size: the largest difference over the standard deviation of theirs."""

    ours: str
    theirs: str
    size: float


@torch.no_grad()
def compare_activations(ours: nn.Module, theirs: nn.Module, ids: Tensor, inside: int | None = None) -> list[Difference]:
    """Run both on ids [B, T] and compare, in order of computation: the embedding, each block, the last norm, logits.

    inside: a block's number; its norms, mixer and MLP are compared too, each on the input that its own model gives it.
    theirs is a causal language model of transformers. Raises ValueError if the two have different numbers of blocks.
    """
    core = getattr(theirs, theirs.base_model_prefix)
    core = getattr(core, "language_model", core)
    norm = next(getattr(core, name) for name in LAST_NORMS if hasattr(core, name))
    pairs = [("embed_tokens", ours.embed_tokens, core.get_input_embeddings())]
    for n, (here, there) in enumerate(zip(ours.layers, _their_blocks(ours, core.layers), strict=True)):
        if n == inside:
            pairs += [(f"layers.{n}.{name}", a, b) for name, a, b in _parts(here, there)]
        pairs.append((f"layers.{n}", here, there[-1]))
    pairs += [("norm", ours.norm, norm), ("lm_head", ours.lm_head, theirs.lm_head)]
    seen: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, inputs: tuple, output: object) -> None:
        seen[module] = output if isinstance(output, Tensor) else output[0]

    hooks = [module.register_forward_hook(keep) for _, *both in pairs for module in both]
    try:
        ours(ids)
        theirs(ids)
    finally:
        for hook in hooks:
            hook.remove()
    factor = getattr(core.get_input_embeddings(), "scalar_embed_scale", 1.0)  # Gemma's module multiplies, too
    seen[ours.embed_tokens] = factor * seen[ours.embed_tokens]
    names = {module: name for name, module in theirs.named_modules()}
    return [Difference(name, names[b], _size(seen[a], seen[b])) for name, a, b in pairs if a in seen and b in seen]


def first_difference(ours: nn.Module, theirs: nn.Module, ids: Tensor, *, bound: float = 1e-3) -> Difference | None:
    """The first activation that differs by more than bound: the block first, then the part of it. None: all agree."""
    found = next((x for x in compare_activations(ours, theirs, ids) if not x.size <= bound), None)
    if found is None or not found.ours.startswith("layers."):
        return found
    inside = compare_activations(ours, theirs, ids, int(found.ours.split(".")[1]))
    return next(x for x in inside if not x.size <= bound)


LAST_NORMS = ("norm", "norm_f", "final_layernorm", "embedding_norm", "final_norm")
# What transformers calls the parts of a block, by our names.
PARTS_OF_A_BLOCK = {
    "input_layernorm": ("input_layernorm", "norm", "operator_norm", "temporal_pre_norm"),
    "mixer": ("linear_attn", "mamba", "conv", "self_attn", "mixer", "temporal_block"),
    "mixer.attention": ("self_attn",),  # where it has halves
    "mixer.mamba": ("mamba",),
    "post_attention_layernorm": (
        "post_attention_layernorm",
        "pre_ff_layernorm",
        "post_operator_norm",
        "ffn_norm",
        "channel_pre_norm",
    ),
    "mlp": ("mlp", "feed_forward", "mlp_block"),
    "pre_feedforward_layernorm": ("pre_feedforward_layernorm", "ffn_norm"),
    "post_feedforward_layernorm": ("post_feedforward_layernorm", "post_ffn_norm"),
}
HALF_OF_THE_MLP = {"post_attention_layernorm": ("norm",), "mlp": ("mixer",)}  # where that is a layer of its own


def _their_blocks(ours: nn.Module, layers: nn.ModuleList) -> list[list[nn.Module]]:
    """The modules that make up each of our blocks: one, or two where their MLPs are layers of their own."""
    if len(layers) == len(ours.layers):
        return [[layer] for layer in layers]
    parts = [1 if block.mlp is None else 2 for block in ours.layers]
    if len(layers) != sum(parts):
        raise ValueError(f"theirs: expected {len(ours.layers)} blocks as ours has, got {len(layers)}")
    rest = iter(layers)
    return [[next(rest) for _ in range(part)] for part in parts]


def _parts(here: nn.Module, there: list[nn.Module]) -> list[tuple[str, nn.Module, nn.Module]]:
    found = []
    for name, theirs in PARTS_OF_A_BLOCK.items():
        layer = there[0]
        if len(there) == 2 and name in HALF_OF_THE_MLP:
            layer, theirs = there[1], HALF_OF_THE_MLP[name]
        a, b = _inside(here, name), next(filter(None, (getattr(layer, x, None) for x in theirs)), None)
        if name == "mixer" and _inside(here, "mixer.attention") is not None:
            continue
        found += [] if a is None or b is None else [(name, a, b)]
    return found


def _inside(module: nn.Module, path: str) -> nn.Module | None:
    for name in path.split("."):
        module = getattr(module, name, None)
    return module


def _size(got: Tensor, wanted: Tensor) -> float:
    if got.shape != wanted.shape:
        return float("inf")
    return ((got.float() - wanted.float()).abs().max() / wanted.float().std()).item()
