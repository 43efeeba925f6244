"""Our operators under the keywords of flash-linear-attention: for code that calls fla and shall run without a GPU.

    chunk_gated_delta_rule = fla_form(reference.ops.chunk_gated_delta_rule)

What fla computes inside its kernels around the rule is computed here before it: the decay gate, the sigmoid of beta,
the layout of the state. Keywords that change only time or memory are passed over; every other one is refused by name.
"""

from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor

from reference.layers.gates import bounded_log_decay, log_decay
from reference.ops import OPERATORS

PASSED_OVER = ("cu_seqlens_cpu", "chunk_indices", "disable_recompute")
REFUSED = {
    "head_first": "tensors are [B, T, H, ...]; fla has removed this keyword",
    "transpose_state_layout": "its name today is state_v_first",
    "cp_context": "one process only; reference.distributed passes states between processes",
    "return_intermediate_states": "take the final states of pieces, or replay_rule",
    "gk": "a decay per key channel is KDA's g",
    "gv": "no rule here decays the value channels",
    "g_gamma": "a fixed decay is the g [HV] of lightning attention",
    "backend": "there is one",
}


def fla_form(op: Callable) -> Callable:
    """op with fla's arguments: chunk_ or recurrent_gated_delta_rule or _kda of reference.ops.

    f(q, k, v, g, beta, scale=None, initial_state=None, output_final_state=False, use_qk_l2norm_in_kernel=False, ...)

    use_gate_in_kernel          g becomes -e^{A_log} softplus(g + dt_bias): A_log [HV], dt_bias [HV], for KDA [HV·Dk],
                                or None. With lower_bound < 0 it becomes lower_bound · sigmoid(e^{A_log} (g + dt_bias)),
                                and A_log may be None (zeros)
    safe_gate                   fla's promise that g >= -5, which lets it take quotients apart; nothing here needs it,
                                but the gate must be bounded: lower_bound in [-5, 0)
    use_beta_sigmoid_in_kernel  beta becomes its sigmoid, twice that with allow_neg_eigval
    state_v_first               states are [.., HV, Dv, Dk], in and out
    cu_seqlens                  as ours

    cu_seqlens_cpu, chunk_indices and disable_recompute are passed over. Raises ValueError for another op and where
    keywords contradict each other, TypeError for those that have no counterpart; else what op raises.
    Source: fla.ops.gated_delta_rule and fla.ops.kda, as of fla 0.5.2.
    """
    kinds = [x for x in OPERATORS.values() if op in (x.recurrent, x.chunk) and x.extras == ("g", "beta")]
    if not kinds:
        raise ValueError(f"op: expected a form of the gated delta rule or of KDA, got {getattr(op, '__name__', op)}")
    channels = kinds[0].channel_decay

    @wraps(op)
    def form(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        g: Tensor,
        beta: Tensor,
        scale: float | None = None,
        initial_state: Tensor | None = None,
        output_final_state: bool = False,
        use_qk_l2norm_in_kernel: bool = False,
        *,
        use_gate_in_kernel: bool = False,
        A_log: Tensor | None = None,
        dt_bias: Tensor | None = None,
        safe_gate: bool = False,
        lower_bound: float | None = None,
        use_beta_sigmoid_in_kernel: bool = False,
        allow_neg_eigval: bool = False,
        state_v_first: bool = False,
        cu_seqlens: Tensor | None = None,
        **others: object,
    ) -> tuple[Tensor, Tensor | None]:
        for name in others.keys() - set(PASSED_OVER):
            raise TypeError(f"{name}: {REFUSED.get(name, 'no such keyword, here or in fla')}")
        if allow_neg_eigval and not use_beta_sigmoid_in_kernel:
            raise ValueError("allow_neg_eigval: it doubles the sigmoid of use_beta_sigmoid_in_kernel, which is off")
        if use_gate_in_kernel:
            g = _gate(g, A_log, dt_bias, lower_bound, safe_gate=safe_gate, channels=channels)
        elif not (A_log is None and dt_bias is None and lower_bound is None):
            raise ValueError("A_log, dt_bias, lower_bound: they belong to use_gate_in_kernel, which is off")
        if use_beta_sigmoid_in_kernel:
            beta = (2.0 if allow_neg_eigval else 1.0) * beta.float().sigmoid()
        if state_v_first and initial_state is not None:
            initial_state = initial_state.mT
        o, state = op(
            q,
            k,
            v,
            g,
            beta,
            scale=scale,
            initial_state=initial_state,
            output_final_state=output_final_state,
            use_qk_l2norm_in_kernel=use_qk_l2norm_in_kernel,
            cu_seqlens=cu_seqlens,
        )
        return o, state.mT if state_v_first and state is not None else state

    return form


def _gate(g, A_log, dt_bias, lower_bound, *, safe_gate: bool, channels: bool) -> Tensor:
    if lower_bound is None and (A_log is None or safe_gate):
        missing = "lower_bound: safe_gate needs it" if safe_gate else "A_log: use_gate_in_kernel needs it"
        raise ValueError(f"{missing}, got None")
    if lower_bound is not None and not (lower_bound < 0 and (lower_bound >= -5 or not safe_gate)):
        wanted = "a number from -5 to below 0" if safe_gate else "a number below 0"
        raise ValueError(f"lower_bound: expected {wanted}, got {lower_bound}")
    A_log = g.new_zeros(g.shape[2], dtype=torch.float32) if A_log is None else A_log
    dt_bias = g.new_zeros(g.shape[2:], dtype=torch.float32) if dt_bias is None else dt_bias.view(g.shape[2:])
    A_log = A_log.view(-1, 1) if channels else A_log.view(-1)
    if lower_bound is None:
        return log_decay(g, A_log, dt_bias)
    return bounded_log_decay(g, A_log, dt_bias, lower_bound)
