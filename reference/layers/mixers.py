"""The kinds of layers that there are: one line each. A model's layer_types is made of these words."""

from reference.layers.attention import FullMixer, SlidingMixer
from reference.layers.gated_deltanet import GatedDeltaNetMixer
from reference.layers.kda import KimiDeltaMixer
from reference.layers.latent import IndexedMixer, LatentMixer
from reference.layers.lightning import LightningMixer
from reference.layers.mamba1 import Mamba1Mixer
from reference.layers.mamba2 import Mamba2Mixer
from reference.layers.mixer import Mixer
from reference.layers.parallel import ParallelMixer
from reference.layers.rg_lru import RGLRUMixer
from reference.layers.short_conv import ShortConvMixer

_RECORDS = (
    FullMixer(),
    SlidingMixer(),
    LatentMixer(),
    IndexedMixer(),
    GatedDeltaNetMixer(),
    KimiDeltaMixer(),
    LightningMixer(),
    Mamba2Mixer(),
    ShortConvMixer(),
    RGLRUMixer(),
    Mamba1Mixer(),
    ParallelMixer(),
)
MIXERS: dict[str, Mixer] = {record.kind: record for record in _RECORDS}


def mixer(kind: str) -> Mixer:
    """The record of a kind of layer. Raises ValueError that names the kinds there are."""
    if kind not in MIXERS:
        raise ValueError(f"kind: expected one of {list(MIXERS)}, got {kind!r}")
    return MIXERS[kind]
