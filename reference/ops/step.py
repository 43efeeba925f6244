"""One token of decoding: the state is updated where it lies, and read once.

The recurrent operators return a new state for every token, which training needs. Decoding doesn't: it
keeps one state per layer for the whole conversation, so these write into it. They look at shapes
only, not at values: no gradient, no check for NaN.
"""

import torch
from torch import Tensor

from reference.derivatives import refuse_transforms
from reference.dtypes import inner_dtype, one_dtype
from reference.kernels import choice
from reference.ops._recurrent import repeat_heads
from reference.ops._run import l2norm
from reference.ops.shapes import check_device, check_groups, check_scale, check_shapes


@torch.no_grad()
def decode_step(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None,
    beta: Tensor | None,
    state: Tensor,
    *,
    scale: float | None = None,
    use_qk_l2norm_in_kernel: bool = False,
    out: Tensor | None = None,
) -> Tensor:
    """Read and write one token; `state` is changed in place, or left alone if the new one shall go into `out`.

    q, k [B, H, Dk]; v [B, HV, Dv] with HV a multiple of H; g log decay, [B, HV] or [B, HV, Dk], or None
    (no decay); beta [B, HV], or None for an additive rule; state [B, HV, Dk, Dv], contiguous, float32
    (float64 for float64 inputs); out: another such tensor. Returns o [B, HV, Dv] in v's dtype.

    g and beta choose the operator: neither is linear attention, g alone lightning attention, beta alone
    the delta rule, both the gated delta rule, both with one g per channel KDA.
    Raises TypeError, ValueError naming the argument. Source: (4.4) to (4.6) with C = 1.
    """
    refuse_transforms("decode_step", "an operator (recurrent_* or chunk_*), which returns the new state")
    g_axes = "B HV Dk" if isinstance(g, Tensor) and g.dim() == 3 else "B HV"
    sizes = check_shapes(
        {
            "q": (q, "B H Dk"),
            "k": (k, "B H Dk"),
            "v": (v, "B HV Dv"),
            "g": (g, g_axes),
            "beta": (beta, "B HV"),
            "state": (state, "B HV Dk Dv"),
            "out": (out, "B HV Dk Dv"),
        },
        optional=("g", "beta", "out"),
    )
    check_groups(sizes)
    check_device(q=q, k=k, v=v, g=g, beta=beta, state=state, out=out)
    kept, (q, k, v), HV = v.dtype, one_dtype(q, k, v), sizes["HV"]
    dtype = inner_dtype(v)
    for name, x in (("state", state), ("out", out)):
        if x is not None and (x.dtype != dtype or not x.is_contiguous()):
            layout = "contiguous" if x.is_contiguous() else "not contiguous"
            raise TypeError(f"{name}: expected a contiguous {dtype} tensor to write into, got {x.dtype}, {layout}")
    both, v_here = torch.stack((q, k), 1).to(dtype), v.to(dtype)  # [B, 2, H, Dk]
    if use_qk_l2norm_in_kernel:
        both = l2norm(both)
    if g is None:  # nothing fades
        g = torch.zeros(v.shape[:2], dtype=dtype, device=v.device)
    into, scale = state if out is None else out, check_scale(scale, sizes["Dk"])
    if v.is_cuda and choice.takes_kernel(q, v, beta):
        return choice.host().kernel_decode(*both.unbind(1), v, g, beta, state, into, scale).to(kept)
    both = repeat_heads(both, HV)
    q, k = both.unbind(1)
    decay = (g if g.dim() == 3 else g[..., None]).to(dtype).exp()  # [B, HV, 1 or Dk]
    faded = (both * decay[:, None]).transpose(1, 2)  # the decay of the state, on the smaller side of the product
    before, known = (faded @ state).unbind(2)  # [B, HV, Dv]: one read of the state
    u = v_here if beta is None else beta.to(dtype)[..., None] * (v_here - known)  # (4.4)
    o = before + (q * k).sum(-1, keepdim=True) * u  # (4.5)
    torch.mul(state, decay[..., None], out=into).addcmul_(k[..., :, None], u[..., None, :])  # (4.6)
    return (scale * o).to(kept)
