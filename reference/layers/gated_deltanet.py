"""Gated DeltaNet as a layer."""

from torch import Tensor, nn

from reference.layers.batch import PLAIN, BatchLayout
from reference.layers.blocks import by_tokens
from reference.layers.delta import DeltaInputs, DeltaMixer, DeltaState, convolve, mix
from reference.layers.gated_norm import GatedRMSNorm
from reference.layers.gates import initial_A_log, initial_dt_bias, log_decay
from reference.layers.mixer import Sizes
from reference.layers.projection import Projection
from reference.ops.gated_delta import chunk_gated_delta_rule


class GatedDeltaNet(nn.Module):
    """Project, convolve, write and read the memory, norm and gate, project back.

    d_model          channels of x and y
    n_key_heads      heads of queries and keys
    n_value_heads    heads of values, decays, write strengths and memories: a multiple of n_key_heads
    key_dim          channels per key head
    value_dim        channels per value head
    conv_width       tokens that the convolution of q, k and v reads
    beta_max         largest write strength: 1, or 2 to allow negative eigenvalues (Olmo Hybrid)
    norm_activation  of the gate in the norm behind the operator: "silu" (Qwen3-Next) or "sigmoid"
    norm_eps         eps of that norm

    forward(x [B, T, d_model], state=None, layout=PLAIN) -> (y [B, T, d_model], DeltaState). With a state, x continues
    the text that the state has read; the state that is passed in is not changed. Packed texts have one state each.
    Raises ValueError that names the argument.
    Source: Yang et al. 2025; parameter names are those of transformers' qwen3_5 (qwen3_next fuses some).
    """

    def __init__(
        self,
        d_model: int,
        n_key_heads: int,
        n_value_heads: int,
        key_dim: int,
        value_dim: int,
        *,
        conv_width: int = 4,
        beta_max: float = 1.0,
        norm_activation: str = "silu",
        norm_eps: float = 1e-6,
    ):
        super().__init__()
        if n_value_heads % n_key_heads:
            raise ValueError(f"n_value_heads: expected a multiple of n_key_heads = {n_key_heads}, got {n_value_heads}")
        if not 0 < beta_max <= 2:
            raise ValueError(f"beta_max: the delta rule is stable up to 2, got {beta_max}")
        self.key_dim, self.value_dim, self.beta_max = key_dim, value_dim, beta_max
        self.channels = [n_key_heads * key_dim, n_key_heads * key_dim, n_value_heads * value_dim]  # q, k, v
        self.in_proj_qkv = Projection(d_model, sum(self.channels), bias=False)
        self.in_proj_z = Projection(d_model, self.channels[2], bias=False)
        self.in_proj_b = Projection(d_model, n_value_heads, bias=False)
        self.in_proj_a = Projection(d_model, n_value_heads, bias=False)
        self.conv1d = nn.Conv1d(
            sum(self.channels), sum(self.channels), conv_width, groups=sum(self.channels), bias=False
        )
        self.A_log = nn.Parameter(initial_A_log(n_value_heads))
        self.dt_bias = nn.Parameter(initial_dt_bias(n_value_heads))
        self.norm = GatedRMSNorm(value_dim, activation=norm_activation, eps=norm_eps)
        self.out_proj = Projection(self.channels[2], d_model, bias=False)

    def forward(
        self, x: Tensor, state: DeltaState | None = None, layout: BatchLayout = PLAIN
    ) -> tuple[Tensor, DeltaState]:
        x = layout.without_padding(x)
        conv, S = (None, None) if state is None else state
        inputs = self.project(x, conv, layout)
        o, S = mix(chunk_gated_delta_rule, inputs, S, layout)
        return by_tokens(self.output, x, o), DeltaState(inputs.conv, S)

    def output(self, x: Tensor, o: Tensor) -> Tensor:
        """What the memory has told, o [B, T, HV, Dv], normed, gated by x [B, T, d_model] and projected back."""
        z = self.in_proj_z(x).unflatten(-1, (-1, self.value_dim))
        return self.out_proj(self.norm(o, z).flatten(2))

    def project(self, x: Tensor, conv: Tensor | None = None, layout: BatchLayout = PLAIN) -> DeltaInputs:
        """From x [B, T, d_model] and the convolution's state before it to the operator's arguments."""
        qkv, conv = convolve(self.project_qkv(x), self.conv1d.weight[:, 0], conv, layout)
        q, k, v = qkv.split_with_sizes(self.channels, -1)
        q, k = (y.unflatten(-1, (-1, self.key_dim)) for y in (q, k))
        beta = self.beta_max * self.in_proj_b(x).sigmoid()
        g = log_decay(self.in_proj_a(x), self.A_log, self.dt_bias)
        return DeltaInputs(q, k, v.unflatten(-1, (-1, self.value_dim)), g, beta, conv)

    def project_qkv(self, x: Tensor) -> Tensor:
        """q, k and v side by side, before the convolution: [B, T, channels]."""
        return self.in_proj_qkv(x)


class GatedDeltaNetMixer(DeltaMixer):
    """linear_attention: Gated DeltaNet."""

    kind, short = "linear_attention", "GDN"
    needs = ("linear_num_key_heads", "linear_key_head_dim", "linear_value_head_dim")
    needs += ("linear_num_value_heads", "linear_conv_kernel_dim")
    op = staticmethod(chunk_gated_delta_rule)

    def build(self, config: Sizes, index: int) -> GatedDeltaNet:
        return GatedDeltaNet(
            config.hidden_size,
            config.linear_num_key_heads,
            config.linear_num_value_heads,
            config.linear_key_head_dim,
            config.linear_value_head_dim,
            conv_width=config.linear_conv_kernel_dim,
            beta_max=2.0 if config.linear_allow_neg_eigval else 1.0,
            norm_activation=config.linear_gate,
            norm_eps=self.norm_eps(config),
        )

    def sizes(self, config: Sizes) -> tuple[int, int, int]:
        return config.linear_num_value_heads, config.linear_key_head_dim, config.linear_value_head_dim

    def conv_channels(self, config: Sizes) -> tuple[int, ...]:
        keys = config.linear_num_key_heads * config.linear_key_head_dim
        return keys, keys, config.linear_num_value_heads * config.linear_value_head_dim
