"""Turn a trained softmax model into a hybrid: carry the projections over, then let the new layers imitate the old ones.

    student = convert(teacher, keep=[2])              # layer 2 stays softmax, the others become Gated DeltaNet
    distil_layers(student, teacher, batches, lr=1e-2) # each new layer by itself: what the old one returned
    distil(student, teacher, batches, lr=1e-3)        # the whole model: the teacher's probabilities

Sources: Wang et al. 2024 (The Mamba in the Llama) for the weights that are carried over, Chen et al. 2026 (HALO) for
the two stages. `HybridLM.generate`, caches and saving know nothing of where a model came from.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference.arguments import cut_short, is_whole_number
from reference.layers.attention import Attention
from reference.layers.gated_deltanet import GatedDeltaNet
from reference.model.config import HybridConfig
from reference.model.hybrid import HybridLM
from reference.training.trainer import build_optimizer, learning_rate

WARM_UP = 20  # steps of either stage


def convert(model: HybridLM, keep: Collection[int]) -> HybridLM:
    """A copy of the model in which full_attention layers became Gated DeltaNet, but for those in `keep`.

    keep  indices of the full_attention layers that stay as they are; all other kinds of layers stay, too

    The new layers have as many heads and channels as the old ones. Carried over are the projections of q, k, v and o;
    a key and value head that served several query heads is repeated for each. New are the gates, the decay and the
    convolution, which begins as the identity: at first a token's q, k and v are its own (behind silu). Left out are
    QK-norms (the layer gives q and k unit length), positions, sink logits and the output gate of the old layer.
    With all full_attention layers kept, the copy's logits are the model's.
    Raises ValueError that names the argument or the field of the configuration that can't be carried over.
    """
    config = converted_config(model.config, keep)
    student = HybridLM(config).to(model.embed_tokens.weight)
    changed = converted_layers(model, student)
    prefixes = tuple(f"layers.{layer}.mixer." for layer in changed)
    whole = {name: x for name, x in model.state_dict().items() if not name.startswith(prefixes)}
    student.load_state_dict(whole, strict=False)
    for layer in changed:
        carry_projections(model.layers[layer].mixer, student.layers[layer].mixer)
    return student.train(model.training)


@torch.no_grad()
def put_back(student: HybridLM, teacher: HybridLM, keep: Collection[int]) -> HybridLM:
    """convert(teacher, keep) whose new layers are those of the student, which has them already: to try which layers
    stay without training again. All else is the teacher's. ValueError as convert's, or if the student lacks a layer."""
    mixed = convert(teacher, keep)
    for n in converted_layers(teacher, mixed):
        if student.layers[n].kind != "linear_attention":
            raise ValueError(f"student: its layer {n} is {student.layers[n].kind}, and it isn't among those to keep")
        mixed.layers[n].mixer.load_state_dict(student.layers[n].mixer.state_dict())
    return mixed


def converted_config(config: HybridConfig, keep: Collection[int]) -> HybridConfig:
    """The configuration of convert(model, keep); errors as there."""
    softmax = [n for n, kind in enumerate(config.layer_types) if kind == "full_attention"]
    for n in keep:
        if not is_whole_number(n, 0) or n not in softmax:
            raise ValueError(f"keep: expected indices of full_attention layers, {softmax}, got {cut_short(n)}")
    changed = [n for n in softmax if n not in keep]
    if not changed:
        return config
    for field in ("attention_bias", "softmax_norm_after", "normed_residual"):
        if getattr(config, field):
            raise ValueError(
                f"model: {field} has no counterpart in a Gated DeltaNet layer, so it can't be carried over"
            )
    H, D = config.num_attention_heads, config.head_dim
    sizes = {"linear_num_key_heads": H, "linear_num_value_heads": H}
    sizes |= {"linear_key_head_dim": D, "linear_value_head_dim": D}
    if set(config.layer_types) & {"linear_attention", "kda", "mamba2"}:
        for field, wanted in sizes.items():
            if getattr(config, field) != wanted:
                raise ValueError(
                    f"model: its linear layers have {field} = {getattr(config, field)}, "
                    f"and its softmax layers need {wanted}"
                )
    kinds = ["linear_attention" if n in changed else kind for n, kind in enumerate(config.layer_types)]
    return replace(config, layer_types=tuple(kinds), **sizes)


def converted_layers(teacher: HybridLM, student: HybridLM) -> list[int]:
    """Layers that are softmax attention in the teacher and Gated DeltaNet in the student. ValueError if the two differ
    in the number of layers."""
    if len(teacher.layers) != len(student.layers):
        raise ValueError(f"student: expected {len(teacher.layers)} layers as in the teacher, got {len(student.layers)}")
    both = enumerate(zip(teacher.layers, student.layers, strict=True))
    return [n for n, (old, new) in both if (old.kind, new.kind) == ("full_attention", "linear_attention")]


@torch.no_grad()
def carry_projections(old: Attention, new: GatedDeltaNet) -> None:
    """Copy the weights of q, k, v and o, heads of keys and values repeated; the convolution becomes the identity."""
    H, D, d_model = old.n_heads, old.head_dim, old.q_proj.in_features
    q = old.q_proj.weight.view(H, -1, d_model)[:, :D].reshape(H * D, d_model)  # behind it stands the output gate's
    k, v = (
        x.weight.view(-1, D, d_model).repeat_interleave(H // old.n_kv_heads, 0).flatten(0, 1)
        for x in (old.k_proj, old.v_proj)
    )
    new.in_proj_qkv.weight.copy_(torch.cat([q, k, v]))
    new.out_proj.weight.copy_(old.o_proj.weight)
    new.conv1d.weight.zero_()
    new.conv1d.weight[:, :, -1] = 1


def layer_errors(student: HybridLM, teacher: HybridLM, ids: Tensor) -> list[Tensor]:
    """Of each converted layer the mean squared difference to what the teacher's layer returns, divided by the mean
    square of that; both read what the teacher's layer reads. ids [B, T] -> numbers, with gradients of the student."""
    changed, errors = converted_layers(teacher, student), []
    with torch.no_grad():
        x = teacher.embed(ids)
    for n, block in enumerate(teacher.layers):
        with torch.no_grad():
            h, before = block.input_layernorm(x), x
            x, _ = block(before, None)
            wanted = block.mixer(h)[0] if n in changed else None
        if wanted is not None:
            errors.append(F.mse_loss(student.layers[n].mixer(h)[0], wanted) / wanted.square().mean())
    return errors


def distil_layers(student: HybridLM, teacher: HybridLM, batches: Iterable[Tensor], *, lr: float) -> list[list[float]]:
    """Train each converted layer of the student by itself to return what the teacher's layer returns (layer_errors).

    batches  ids [B, T], one per step
    lr       the highest learning rate of AdamW, reached after WARM_UP steps; then it falls to a tenth

    Nothing else of the student changes. Returns the errors of each step, one per converted layer.
    """
    mixers = nn.ModuleList(student.layers[n].mixer for n in converted_layers(teacher, student))
    if not mixers:
        return []

    def loss(ids: Tensor) -> tuple[Tensor, list[float]]:
        errors = torch.stack(layer_errors(student, teacher, ids))
        return errors.sum(), errors.tolist()

    return _train(mixers, batches, lr, loss)


def distil(
    student: HybridLM,
    teacher: HybridLM,
    batches: Iterable[Tensor],
    *,
    lr: float,
    look: Callable[[int], None] | None = None,
) -> list[float]:
    """Train all of the student towards the teacher's probabilities of the next token; arguments as in distil_layers.

    look  called after each step with the number of steps done

    Returns the mean divergence KL(teacher, student) in nats per token, one per step.
    """

    def loss(ids: Tensor) -> tuple[Tensor, float]:
        with torch.no_grad():
            wanted = teacher(ids).log_softmax(-1)
        said = student(ids).log_softmax(-1)
        gap = F.kl_div(said.flatten(0, 1), wanted.flatten(0, 1), log_target=True, reduction="batchmean")
        return gap, gap.item()

    return _train(student, batches, lr, loss, look)


def _train(
    module: nn.Module,
    batches: Iterable[Tensor],
    lr: float,
    loss: Callable[[Tensor], tuple],
    look: Callable[[int], None] | None = None,
) -> list:
    """One step per batch on loss(ids)[0]; what loss(ids)[1] was, step by step."""
    batches = list(batches)
    optimizer, found = build_optimizer(module, lr, 0.0), []
    for step, ids in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, peak=lr, warm_up=WARM_UP, steps=len(batches) - 1)
        optimizer.zero_grad()
        value, said = loss(ids)
        value.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        found.append(said)
        if look is not None:
            look(step + 1)
    return found
