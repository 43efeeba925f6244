"""Softmax attention and Mamba-2 side by side in one layer: both read the same tokens, and what they return is added."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from reference.layers.attention import Attention, FullMixer, KVState
from reference.layers.batch import PLAIN, BatchLayout
from reference.layers.delta import DeltaState
from reference.layers.mamba2 import Mamba2, Mamba2Mixer
from reference.layers.mixer import Draw, Sizes, SoftmaxMixer, TextBefore

NO_FACTORS = (1.0, 1.0, 1.0, 1.0, 1.0)


class ParallelState(NamedTuple):
    """What both halves remember."""

    kv: KVState | None
    ssm: DeltaState


class AttentionBesideMamba(nn.Module):
    """a · attention(b · x) + c · mamba(d · x).

    attention, mamba  the two layers
    factors           (b, a, d, c) of the formula, fixed numbers

    forward(x [B, T, d_model], state=None, layout=PLAIN) -> (y [B, T, d_model], ParallelState).
    Source: Zuo et al. 2025 (Falcon-H1).
    """

    def __init__(self, attention: Attention, mamba: Mamba2, factors: tuple[float, float, float, float] = (1.0,) * 4):
        super().__init__()
        self.attention, self.mamba, self.factors = attention, mamba, factors

    def forward(
        self, x: Tensor, state: ParallelState | None = None, layout: BatchLayout = PLAIN
    ) -> tuple[Tensor, ParallelState]:
        kv, ssm = (None, None) if state is None else state
        into_attention, out_of_attention, into_mamba, out_of_mamba = self.factors
        a, kv = self.attention(into_attention * x, kv, layout)
        m, ssm = self.mamba(into_mamba * x, ssm, layout)
        return out_of_attention * a + out_of_mamba * m, ParallelState(kv, ssm)


class ParallelMixer(SoftmaxMixer):
    """attention_beside_mamba2: full attention and Mamba-2 in one layer; it keeps and costs what both do."""

    kind, short = "attention_beside_mamba2", "softmax + Mamba-2"
    halves = FullMixer(), Mamba2Mixer()
    needs = (*FullMixer.needs, *Mamba2Mixer.needs)

    def build(self, config: Sizes, index: int) -> AttentionBesideMamba:
        attention, mamba = (half.build(config, index) for half in self.halves)
        into, keys, out, *of_mamba = config.mixer_multipliers or NO_FACTORS
        attention.scale *= keys
        return AttentionBesideMamba(attention, mamba, (into, out, *of_mamba))

    def cache_bytes(self, config: Sizes, tokens: int, element_bytes: int) -> int:
        """Keys and values of every token, and the state."""
        return sum(half.cache_bytes(config, tokens, element_bytes) for half in self.halves)

    def flops(self, config: Sizes, position: int, *, chunked: bool) -> float:
        """Those of both."""
        return sum(half.flops(config, position, chunked=chunked) for half in self.halves)

    def moved_bytes(self, config: Sizes, position: int, element_bytes: int) -> float:
        """What both read and write."""
        return sum(half.moved_bytes(config, position, element_bytes) for half in self.halves)

    def filled_state(self, config: Sizes, tokens: int, draw: Draw) -> ParallelState:
        return ParallelState(*(half.filled_state(config, tokens, draw) for half in self.halves))

    def operator_step(self, config: Sizes, state: ParallelState) -> Callable[[], Tensor]:
        steps = [half.operator_step(config, part) for half, part in zip(self.halves, state, strict=True)]
        return lambda: [step() for step in steps][-1]

    def state_before(self, layer: AttentionBesideMamba, h: Tensor, before: TextBefore) -> ParallelState:
        attention, mamba = self.halves
        into, _, into_mamba, _ = layer.factors
        kv = attention.state_before(layer.attention, into * h, before)
        return ParallelState(kv, mamba.state_before(layer.mamba, into_mamba * h, before))

    def rewind(self, config: Sizes, state: ParallelState, n: int | Sequence[int]) -> ParallelState:
        return ParallelState(*(half.rewind(config, part, n) for half, part in zip(self.halves, state, strict=True)))

    def trim(self, config: Sizes, state: ParallelState, n: int) -> ParallelState:
        return ParallelState(*(half.trim(config, part, n) for half, part in zip(self.halves, state, strict=True)))

    def look(self, layer: AttentionBesideMamba, h: Tensor) -> tuple[Tensor, Tensor]:
        """The attention's; the other half is left out."""
        return self.halves[0].look(layer.attention, layer.factors[0] * h)

    def conv_channels(self, config: Sizes) -> tuple[int, ...]:
        return self.halves[1].conv_channels(config)
