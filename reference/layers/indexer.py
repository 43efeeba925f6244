"""The projections of DeepSeek's lightning indexer."""

from torch import Tensor, nn

from reference.layers.rope import RopeScaling, Rotary


class Indexer(nn.Module):
    """Small queries from the query latent, one small key per token, a weight for each head.

    d_model       channels of x
    q_rank        width of the query latent
    n_heads       heads, HI
    head_dim      channels per head, DI
    rope_dim      channels at the start of a head that turn, half-split (the attention beside it pairs neighbours)
    rope_theta    base of the rotary frequencies
    rope_scaling  frequencies for texts longer than those of pretraining

    forward(x [B, T, d_model], q_latent [B, T, q_rank], positions [T] or [B, T]) -> q_idx [B, T, HI, DI], k_idx
    [B, T, DI], w_idx [B, T, HI], as lightning_indexer takes them.
    Source: DeepSeek-V3.2, eq. 1, and its inference code.
    """

    def __init__(
        self,
        d_model: int,
        q_rank: int,
        n_heads: int,
        head_dim: int,
        rope_dim: int,
        rope_theta: float,
        rope_scaling: RopeScaling | None = None,
    ):
        super().__init__()
        self.n_heads = n_heads
        self.wq_b = nn.Linear(q_rank, n_heads * head_dim, bias=False)
        self.wk = nn.Linear(d_model, head_dim, bias=False)
        self.k_norm = nn.LayerNorm(head_dim, eps=1e-6)
        self.weights_proj = nn.Linear(d_model, n_heads, bias=False)
        self.rope = Rotary(rope_dim, rope_theta, scaling=rope_scaling)

    def forward(self, x: Tensor, q_latent: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q = self.rope(self.wq_b(q_latent).unflatten(-1, (self.n_heads, -1)), positions)
        k = self.rope(self.k_norm(self.wk(x))[:, :, None], positions)[:, :, 0]
        return q, k, self.weights_proj(x) * self.n_heads**-0.5
