"""Pure tensor functions, no parameters: every operator as the plain recurrence and in chunks.

They share one layout, one set of keywords and one skeleton:

    o, final_state = chunk_gated_delta_rule(q, k, v, g, beta, scale=None, initial_state=None, ...)

    q, k   [B, T, H, Dk]     v, o   [B, T, HV, Dv], HV a multiple of H      state   [B, HV, Dk, Dv]
    beta   [B, T, HV]        g      [B, T, HV] log decay <= 0, KDA: [B, T, HV, Dk]
    p      [B, T, H, Dk]     b, w   [B, T, HV, Dk], [B, T, HV, Dv]: rules that erase with another key than they write
    x, g   [B, T, D]         hgrn: a memory without keys, whose state is [B, D]

Rosetta table: the same things in other people's words. Checked against flash-linear-attention's naive
functions, transformers 5.23 (qwen3_next, kimi_linear) and mlx-lm (gated_delta.py).

    here             papers                    fla                      transformers             mlx-lm
    ---------------  ------------------------  -----------------------  -----------------------  -----------------
    q, k, v          q, k, v                   q, k, v                  query, key, value        q, k, v
      layout         one head, columns         [B, T, H, D]             [B, T, H, D]             [B, T, H, D]
    HV value heads   -                         HV (also HV = H only     num_v_heads              Hv
      of H                                     in delta_rule)
    g  log decay     ln alpha_t; KDA Diag(a)   g                        g ("decay" inside)       g is exp(log decay):
      [B, T, HV]                                                                                 pass g.exp()
    beta             beta_t                    beta                     beta                     beta
      [B, T, HV]     scalar per head           [B, T, HV]               [B, T, HV]               [B, T, Hv]
    p  erase key     GDN-2: b ⊙ k              p in comba; b, w in      none                     none
                                               gdn2; a, b in rwkv7
    argument order   -                         q, k, v, g, beta;        query, key, value, g,    q, k, v, g, beta,
      q,k,v,g,beta                             delta rule: q, k, v,     beta                     state
                                               beta
    scale            1/sqrt(dk) in GDN, KDA    scale=None: Dk**-0.5     always Dk**-0.5          in the layer
    state S          [Dv, Dk] (GDN: S_t =      [B, HV, Dk, Dv]; layers  [B, HV, Dk, Dv]          [B, Hv, Dv, Dk]
      [Dk, Dv]       S(I - beta k k^T)),       may ask for [Dv, Dk]
                     [Dk, Dv] (KDA)
    u corrected      u, then u - w S           v_new                    v_new                    delta
      value          ("pseudo-value")
    log_decay sum    gamma = e^G               g.cumsum                 cum_decay                -
    X (4.7)          T, "UT transform"         A (its inverse)          ut_system (inverted)     -
    chunk_size       C                         BT, chunk_size           chunk_size               none: no chunked form
    l2norm           q/|q|, k/|k|              use_qk_l2norm_in_kernel  use_qk_l2norm_in_kernel  in the layer
    cu_seqlens       -                         cu_seqlens               ignored by the fallback  -

Where flash-linear-attention differs, for calls that move over from it (reference.integrations.fla takes the keywords
of the gate, of beta and of the state's layout as fla does):

    fla                                  here
    -----------------------------------  ------------------------------------------------------------------------------
    scale, initial_state, ... also by    by keyword only: fla's orders differ (its recurrent gated delta rule has gk and
      position                           gv before beta)
    beta=None or g=None (recurrent)      TypeError: give ones for beta, zeros for g
    q, k, v of several dtypes            the longest is computed in, and o has v's
    g > 0                                ValueError: a log decay above 0 is most often a decay that wasn't a logarithm
    NaN or infinity in an argument       ValueError: chunks multiply it by zeros, so it would reach earlier tokens
    head_first (removed there, too)      no such keyword. If every tensor is [B, H, T, ...], they are read as
                                         [B, T, H, ...] and nothing is said: no shape can tell
    state_v_first (or its older name     the state is [B, HV, Dk, Dv] always: give and take state.mT
      transpose_state_layout)
    use_gate_in_kernel, A_log, dt_bias,  in the layer: g = -A_log.exp() * softplus(g + dt_bias); reference.layers has
      safe_gate, lower_bound             this gate and the bounded one
    use_beta_sigmoid_in_kernel,          in the layer: beta.sigmoid(), times 2 for negative eigenvalues
      allow_neg_eigval
    cu_seqlens_cpu, chunk_indices,       no such keywords: they change time, memory or devices, not the numbers
      disable_recompute, cp_context
    return_intermediate_states           no such keyword: take final states of pieces, or replay_rule
    g_gamma [H] of simple_gla and        g [HV] of lightning attention; with both, give their sum [B, T, HV]
      retention
    chunk_lightning_attn(layer_idx,      g [HV], whose slopes the caller computes
      num_layers)
    normalize of linear_attn, True by    never normalized: linear attention here is (2.1), the norm is the layer's
      default in chunks
    causal_conv1d: activation "swish",   "silu" is the same function; the state is the W-1 tokens that can still be read
      a state of W tokens, residual      (state[..., 1:] of fla's); add the residual outside
    parallel_attn: window_size,          window, sinks of softmax_attention; a window is at least 1, a query needs a key
      sink_bias, cu_seqlens, g           (fla: zeros); for packed rows call it for each; no forgetting gate
    dsa: topk, w_idx=None, activation    top_k, w_idx is required, the activation is always ReLU
    chunk_size 16, 32, 64                any whole number from 1

Both take equal boundaries in cu_seqlens (an empty sequence keeps its initial state), and both return o in v's dtype and
a final state of None unless output_final_state. The state here is float32 (float64 for float64), whatever
initial_state's dtype. transformers' fallbacks ignore cu_seqlens and keywords they don't know;
reference.integrations.transformers does as they do, reference.ops refuses them by name.

Every public operator raises TypeError or ValueError that names the argument, what came and what was
expected. The chunked forms and causal_conv have a backward that is written by hand. torch.func.grad, vjp, jacrev and
vmap, in any order, take it; second derivatives and forward mode (jvp) raise an error that says what to use:
the recurrent forms have them, and for causal_conv PyTorch's conv1d.
"""

from collections.abc import Callable
from typing import NamedTuple

from reference.ops.blocks import block_indexer, block_sparse_attention
from reference.ops.compressed import (
    Compression,
    chunk_compression,
    compressed_attention,
    compressed_indexer,
    recurrent_compression,
)
from reference.ops.conv import causal_conv, causal_conv_step
from reference.ops.delta import chunk_delta_rule, recurrent_delta_rule
from reference.ops.gated_delta import chunk_gated_delta_rule, recurrent_gated_delta_rule
from reference.ops.gdn2 import chunk_gdn2, recurrent_gdn2
from reference.ops.hgrn import chunk_hgrn, recurrent_hgrn
from reference.ops.kda import chunk_kda, recurrent_kda
from reference.ops.linear import (
    chunk_lightning_attention,
    chunk_linear_attention,
    recurrent_lightning_attention,
    recurrent_linear_attention,
)
from reference.ops.product import chunk_gated_delta_product
from reference.ops.replay import Replay, replay_rule, state_of, take_back
from reference.ops.rwkv7 import chunk_rwkv7, recurrent_rwkv7
from reference.ops.softmax import attention_weights, softmax_attention
from reference.ops.sparse import index_scores, indexer_loss, lightning_indexer, sparse_attention
from reference.ops.step import decode_step
from reference.ops.two_keys import chunk_two_key_rule, recurrent_two_key_rule


class Operator(NamedTuple):
    """One member of the family: its two forms, and the arguments that follow q, k, v."""

    recurrent: Callable
    chunk: Callable
    extras: tuple[str, ...]
    channel_decay: bool = False


OPERATORS = {
    "linear_attention": Operator(recurrent_linear_attention, chunk_linear_attention, ()),
    "lightning_attention": Operator(recurrent_lightning_attention, chunk_lightning_attention, ("g",)),
    "delta_rule": Operator(recurrent_delta_rule, chunk_delta_rule, ("beta",)),
    "gated_delta_rule": Operator(recurrent_gated_delta_rule, chunk_gated_delta_rule, ("g", "beta")),
    "kda": Operator(recurrent_kda, chunk_kda, ("g", "beta"), channel_decay=True),
    "gdn2": Operator(recurrent_gdn2, chunk_gdn2, ("g", "b", "w"), channel_decay=True),
    "two_key_rule": Operator(recurrent_two_key_rule, chunk_two_key_rule, ("p", "g", "beta")),
}

__all__ = [
    "OPERATORS",
    "Compression",
    "Operator",
    "Replay",
    "attention_weights",
    "block_indexer",
    "block_sparse_attention",
    "causal_conv",
    "causal_conv_step",
    "chunk_compression",
    "chunk_delta_rule",
    "chunk_gated_delta_product",
    "chunk_gated_delta_rule",
    "chunk_gdn2",
    "chunk_hgrn",
    "chunk_kda",
    "chunk_lightning_attention",
    "chunk_linear_attention",
    "chunk_rwkv7",
    "chunk_two_key_rule",
    "compressed_attention",
    "compressed_indexer",
    "decode_step",
    "index_scores",
    "indexer_loss",
    "lightning_indexer",
    "recurrent_compression",
    "recurrent_delta_rule",
    "recurrent_gated_delta_rule",
    "recurrent_gdn2",
    "recurrent_hgrn",
    "recurrent_kda",
    "recurrent_lightning_attention",
    "recurrent_linear_attention",
    "recurrent_rwkv7",
    "recurrent_two_key_rule",
    "replay_rule",
    "softmax_attention",
    "sparse_attention",
    "state_of",
    "take_back",
]
