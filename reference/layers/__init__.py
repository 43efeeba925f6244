"""Layers: parameters that project, one operator in the middle, a projection back. State in, state out."""

from reference.layers.attention import Attention, KVState
from reference.layers.batch import BatchLayout
from reference.layers.delta import DeltaState
from reference.layers.gated_deltanet import GatedDeltaNet
from reference.layers.indexer import Indexer
from reference.layers.kda import KimiDeltaAttention
from reference.layers.latent import LatentAttention, LatentState
from reference.layers.lightning import LightningAttention
from reference.layers.norm import RMSNorm
from reference.layers.rope import Rotary, apply_rope, rope_frequencies
from reference.layers.streaming import StreamingAttention

__all__ = [
    "Attention",
    "BatchLayout",
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
    "StreamingAttention",
    "apply_rope",
    "rope_frequencies",
]
