"""Lightning attention as a layer: a fixed decay per head, no delta rule."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference.layers.batch import PLAIN, BatchLayout
from reference.layers.mixer import LinearMixer, Sizes, TextBefore
from reference.layers.norm import RMSNorm
from reference.layers.projection import Projection
from reference.ops.linear import chunk_lightning_attention
from reference.ops.replay import Replay, replay_rule


def decay_slopes(n_heads: int, layer: int, n_layers: int) -> Tensor:
    """-g per head, [H]: 2^(-8 (h+1) / H), smaller in deeper layers until the last hardly forgets.

    Source: MiniMax-01 (get_slope_rate of its code); ALiBi's slopes (Press et al. 2022) with a depth factor.
    """
    head = torch.arange(1, n_heads + 1, dtype=torch.float32, device="cpu")
    depth = 1 - layer / (n_layers - 1 + 1e-5) + 1e-5
    return 2.0 ** (-8 * head / n_heads) * depth


class LightningAttention(nn.Module):
    """q, k, v = silu(W x); a decayed sum of key-value products; one norm over all heads; a sigmoid gate.

    No rotary positions, no unit keys, no scale.

    d_model   channels of x and y
    n_heads   heads
    head_dim  channels per head
    layer     index of the layer in the model, from 0: with n_layers it sets the decay
    n_layers  layers of the model
    norm_eps  eps of the norm

    forward(x [B, T, d_model], state=None, layout=PLAIN) -> (y [B, T, d_model], S), as GatedDeltaNet; the state is S
    [B, H, D, D], float32 whatever the model's dtype, or a Replay. Raises ValueError that names the argument.
    Source: MiniMax-01; parameter names are those of transformers' minimax.
    """

    def __init__(self, d_model: int, n_heads: int, head_dim: int, *, layer: int, n_layers: int, norm_eps: float = 1e-6):
        super().__init__()
        if not 0 <= layer < n_layers:
            raise ValueError(f"layer: expected 0 to n_layers - 1 = {n_layers - 1}, got {layer}")
        self.n_heads, self.head_dim = n_heads, head_dim
        self.qkv_proj = Projection(d_model, 3 * n_heads * head_dim, bias=False)
        self.output_gate = Projection(d_model, n_heads * head_dim, bias=False)
        self.norm = RMSNorm(n_heads * head_dim, eps=norm_eps)
        self.out_proj = Projection(n_heads * head_dim, d_model, bias=False)
        self.layer, self.n_layers = layer, n_layers
        self.register_buffer("g", -decay_slopes(n_heads, layer, n_layers), persistent=False)

    def reset_buffers(self, device: torch.device | str) -> None:
        """The decays anew, in float32, on device: for a model whose weights are put in place one by one."""
        self.g = -decay_slopes(self.n_heads, self.layer, self.n_layers).to(device)

    def _apply(self, fn, recurse=True):
        super()._apply(fn, recurse)  # the decays stay in float32 when the weights change their dtype
        self.reset_buffers(self.g.device)
        return self

    def forward(
        self, x: Tensor, state: Tensor | Replay | None = None, layout: BatchLayout = PLAIN
    ) -> tuple[Tensor, Tensor | Replay]:
        x = layout.without_padding(x)
        q, k, v = self.project(x)
        if layout.rewind or isinstance(state, Replay):
            rule = (q, k, v, self.g.expand(v.shape[:3]), None)
            o, S = replay_rule(chunk_lightning_attention, *rule, state, layout.rewind, scale=1.0)
        else:
            keywords = {"initial_state": state, "output_final_state": True, "cu_seqlens": layout.cu_seqlens}
            o, S = chunk_lightning_attention(q, k, v, self.g, scale=1.0, **keywords)
        return self.out_proj(self.output_gate(x).sigmoid() * self.norm(o.flatten(2))), S

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q, k, v [B, T, H, D]."""
        return F.silu(self.qkv_proj(x)).unflatten(-1, (self.n_heads, 3 * self.head_dim)).chunk(3, -1)


class LightningMixer(LinearMixer):
    """lightning_attention: decayed linear attention, the decay fixed by head and depth."""

    kind, short = "lightning_attention", "lightning"
    needs = ("num_attention_heads", "head_dim")

    def build(self, config: Sizes, index: int) -> LightningAttention:
        return LightningAttention(
            config.hidden_size,
            config.num_attention_heads,
            config.head_dim,
            layer=index,
            n_layers=config.num_hidden_layers,
            norm_eps=self.norm_eps(config),
        )

    def sizes(self, config: Sizes) -> tuple[int, int, int]:
        return config.num_attention_heads, config.head_dim, config.head_dim

    def state_before(self, layer: LightningAttention, h: Tensor, before: TextBefore) -> Tensor:
        _, k, v = layer.project(h)
        return before.memory(chunk_lightning_attention, k, v, layer.g.expand(v.shape[:3]), None)
