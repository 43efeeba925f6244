"""Layers: parameters that project, one operator in the middle, a projection back. State in, state out."""

from reference.layers.attention import Attention, KVState
from reference.layers.gated_deltanet import DeltaState, GatedDeltaNet, KimiDeltaAttention
from reference.layers.latent import Indexer, LatentAttention, LatentState
from reference.layers.lightning import LightningAttention
from reference.layers.norm import RMSNorm
from reference.layers.rope import Rotary, apply_rope, rope_frequencies

__all__ = [
    "Attention",
    "DeltaState",
    "GatedDeltaNet",
    "Indexer",
    "KVState",
    "KimiDeltaAttention",
    "LatentAttention",
    "LatentState",
    "LightningAttention",
    "RMSNorm",
    "Rotary",
    "apply_rope",
    "rope_frequencies",
]
