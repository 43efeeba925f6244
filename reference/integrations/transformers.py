"""These operators in place of transformers' fallbacks, for machines on which its fast kernels don't run.

    model = AutoModelForCausalLM.from_pretrained(...)       # Qwen3-Next, Qwen3.5, Olmo Hybrid, Kimi Linear, ...
    with fast_linear_attention():
        model.generate(...)                                 # same numbers up to rounding, several times faster

Written for and tested with transformers 5.23. Its models call their operators by a name in their own module;
that name is what changes, for as long as the block lasts and in every thread.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from reference.dtypes import inner_dtype
from reference.ops import chunk_gated_delta_rule, chunk_kda, decode_step

Mixed = tuple[Tensor, Tensor | None]


def _adapter(chunked: Callable[..., Mixed]) -> Callable[..., Mixed]:
    """chunked behind the signature that transformers' fallbacks share, chunked and recurrent alike."""

    def mix(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        g: Tensor,
        beta: Tensor,
        chunk_size: int = 64,
        initial_state: Tensor | None = None,
        output_final_state: bool = False,
        use_qk_l2norm_in_kernel: bool = False,
        **ignored: object,  # cu_seqlens and flash-attention arguments, which the fallbacks ignore as well
    ) -> Mixed:
        one_token = query.shape[1] == 1 and initial_state is not None and not torch.is_grad_enabled()
        if one_token:
            state = initial_state.to(inner_dtype(value), copy=True, memory_format=torch.contiguous_format)
            now = (x[:, 0] for x in (query, key, value, g, beta))
            o = decode_step(*now, state, use_qk_l2norm_in_kernel=use_qk_l2norm_in_kernel)
            return o[:, None], state if output_final_state else None
        return chunked(
            query,
            key,
            value,
            g,
            beta,
            chunk_size=chunk_size,
            initial_state=initial_state,
            output_final_state=bool(output_final_state),
            use_qk_l2norm_in_kernel=bool(use_qk_l2norm_in_kernel),
        )

    return mix


REPLACEMENTS = {
    "torch_chunk_gated_delta_rule": _adapter(chunk_gated_delta_rule),
    "torch_recurrent_gated_delta_rule": _adapter(chunk_gated_delta_rule),
    "chunk_kimi_delta_attention": _adapter(chunk_kda),
    "recurrent_kimi_delta_attention": _adapter(chunk_kda),
}


@contextmanager
def fast_linear_attention() -> Iterator[list[str]]:
    """Within the block, loaded transformers models run their delta rules through `reference.ops`.

    Yields the names that were replaced, "module.function" each. The originals come back at the end, also after
    an error; blocks may be nested. Load the model first: a family that is not imported yet is not replaced, and
    if there is none at all a RuntimeError says so.
    """
    replaced: list[tuple[object, str, object]] = []
    for module in [m for name, m in sorted(sys.modules.items()) if name.startswith("transformers.models.")]:
        replaced += [(module, name, vars(module)[name]) for name in REPLACEMENTS if name in vars(module)]
    if not replaced:
        raise RuntimeError("no loaded transformers model has a delta rule to replace: load the model first")
    try:
        for module, name, _ in replaced:
            setattr(module, name, REPLACEMENTS[name])
        yield [f"{module.__name__}.{name}" for module, name, _ in replaced]
    finally:
        for module, name, original in replaced:
            setattr(module, name, original)
