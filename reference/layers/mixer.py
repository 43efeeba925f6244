"""One record per kind of layer: everything that the rest of the house asks about it.

A new kind on an existing operator is one file of layers/, the nn.Module and below it its record, and one line in
layers/mixers.py. Whoever needs an answer looks the record up there by the kind's word in layer_types.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference.ops.replay import Replay, take_back, without_last
from reference.ops.step import decode_step

CHUNK = 64  # tokens of a chunk of the linear operators
STATE_BYTES = 4  # recurrent states are float32 whatever the model's dtype

Draw = Callable[..., Tensor]  # draw(*shape) -> random [B, *shape]


class Sizes(Protocol):
    """The model's HybridConfig: reference.model is a floor above and can't be imported. Records read its fields."""

    def __getattr__(self, field: str) -> Any: ...


class TextBefore(Protocol):
    """What a layer may ask of the processes that read the text before this process's stretch, x [B, T_rank, ...]."""

    def count(self, x: Tensor) -> int:
        """Tokens before the stretch."""

    def tail(self, x: Tensor, n: int) -> Tensor:
        """The last n tokens of x [B, T_rank, D] before the stretch, zeros before the text begins: [B, D, n]."""

    def everything(self, x: Tensor) -> Tensor:
        """x of all tokens before the stretch: [B, T_before, ...]."""

    def memory(self, op: Callable, k: Tensor, v: Tensor, g: Tensor, beta: Tensor | None) -> Tensor:
        """The state that the operator `op` has reached before the stretch: [B, HV, Dk, Dv]."""


class Mixer:
    """What a kind of layer answers; a question without an answer raises NotImplementedError and names both.

    kind      the word in layer_types
    short     its name in tables
    softmax   whether it is softmax attention: reads what it keeps of each token. a linear layer has a state instead
    grows     whether its cache grows with every token
    needs     fields of HybridConfig that have to be whole numbers >= 1 if a layer is of this kind

    `layer` below is the nn.Module that `build` returns: layer(x [B, T, hidden_size], state, layout) -> (y, state) with
    a BatchLayout (layers/batch.py). A state is None before the first token, then a tensor or a NamedTuple of tensors
    and numbers, and is never changed in place.
    """

    kind: str
    short: str
    softmax: bool
    grows: bool
    needs: tuple[str, ...] = ()

    def __init__(self):
        for fact in ("kind", "short", "softmax", "grows"):
            if not hasattr(self, fact):
                raise NotImplementedError(f"{type(self).__name__}: a record of a kind of layer must say `{fact}`")

    def build(self, config: Sizes, index: int) -> nn.Module:
        """The model's layer at this index, with random weights."""
        raise self._lacks("build")

    def cache_bytes(self, config: Sizes, tokens: int, element_bytes: int) -> int:
        """Bytes of the state after `tokens` tokens of one text; element_bytes of the model's dtype."""
        raise self._lacks("cache_bytes")

    def flops(self, config: Sizes, position: int, *, chunked: bool) -> float:
        """Flops of the operator for the token at `position` (0 is the first), projections left out. chunked: in the
        form that reads a prompt, and not in the one that decodes."""
        raise self._lacks("flops")

    def bends(self, config: Sizes) -> tuple[int, ...]:
        """Positions where `flops`, which is made of straight lines, changes its slope."""
        return ()

    def moved_bytes(self, config: Sizes, position: int, element_bytes: int) -> float:
        """Bytes of the state that one token behind `position` others has to read and write."""
        raise self._lacks("moved_bytes")

    def filled_state(self, config: Sizes, tokens: int, draw: Draw) -> object:
        """The state after `tokens` tokens with random contents, without reading a prompt."""
        raise self._lacks("filled_state")

    def operator_step(self, config: Sizes, state: object) -> Callable[[], Tensor]:
        """The operator for one random token of each text whose state is given: no projections, no copies of a cache; a
        linear layer's state is changed in place."""
        raise self._lacks("operator_step")

    def state_before(self, layer: nn.Module, h: Tensor, before: TextBefore) -> object:
        """The state of the layer when this process's stretch of the text begins; h [B, T_rank, hidden_size] is what
        the layer reads there."""
        raise self._lacks("state_before")

    def rewind(self, config: Sizes, state: object, n: int | Sequence[int]) -> object:
        """The state as it was before its last n tokens, n >= 1, or one number >= 0 per row: then all rows end together,
        and those that went back further have so many more places of padding in front. Raises ValueError if it doesn't
        keep enough for that: what it keeps is what the layout of the layer's last call asked for, `BatchLayout.rewind`.
        """
        raise self._lacks("rewind")

    def trim(self, config: Sizes, state: object, n: int) -> object:
        """The state without the first n places of the text, which are padding in every row."""
        raise self._lacks("trim")

    def look(self, layer: nn.Module, h: Tensor) -> tuple[Tensor, Tensor]:
        """How much of value s is in what query t reads, [B, H, T, T], and the values [B, T, HV, Dv]; h [B, T,
        hidden_size] is what the layer reads."""
        raise self._lacks("look")

    def conv_channels(self, config: Sizes) -> tuple[int, ...]:
        """Channels of q, k and v in the layer's short convolution; empty: the layer has none."""
        return ()

    def shorter_tail(self, config: Sizes, tail: Tensor, n: int | Sequence[int]) -> Tensor:
        """A convolution's last tokens, [B, channels, W-1] or more, without the last n of them; it needs W-1 to go on.
        Raises ValueError if so many aren't kept."""
        most = tail.shape[-1] - (config.linear_conv_kernel_dim - 1)
        back = n if isinstance(n, int) else max(n)
        if back > most:
            raise self._too_far(n, most)
        return without_last(tail, n, 2, tail.shape[-1] - back)

    def _too_far(self, n: int | Sequence[int], most: int) -> ValueError:
        n = n if isinstance(n, int) else max(n)
        last = f"a {self.kind} layer can take back its last {most} token(s)"
        return ValueError(f"n: {last}, got {n}; a cache from new_cache(model, rewind={n}) keeps enough")

    def _lacks(self, question: str) -> NotImplementedError:
        return NotImplementedError(f"{self.kind}: its record, {type(self).__name__}, has no answer to `{question}`")


class SoftmaxMixer(Mixer):
    """A kind that keeps something of every token: a token reads all that is kept and adds its own."""

    softmax, grows = True, True

    def kept_tokens(self, config: Sizes, tokens: int) -> int:
        """How many of so many tokens the next query may need."""
        return tokens

    def rewind(self, config: Sizes, state: Any, n: int | Sequence[int]) -> Any:
        """A state whose tensors have the tokens on axis 1 is cut; `seen` says how many there were."""
        fewest, most = (n, n) if isinstance(n, int) else (min(n), max(n))
        kept, seen = tensors_of(state)[0].shape[1], state.seen - fewest
        if kept - most < self.kept_tokens(config, state.seen - most):
            raise self._too_far(n, kept - self.kept_tokens(config, state.seen))
        enough = kept - most >= self.kept_tokens(config, seen)  # else nothing was evicted: what a row lacks is padding
        size = kept - most if enough else kept - fewest
        return map_tensors(state, lambda x: without_last(x, n, 1, size))._replace(seen=seen)

    def trim(self, config: Sizes, state: Any, n: int) -> Any:
        """What is kept of these places goes."""
        seen = state.seen - n
        return map_tensors(state, lambda x: x[:, max(x.shape[1] - seen, 0) :])._replace(seen=seen)

    def moved_bytes(self, config: Sizes, position: int, element_bytes: int) -> float:
        """All that is kept, read; one token, written."""
        return self.cache_bytes(config, position, element_bytes) + self.cache_bytes(config, 1, element_bytes)


class LinearMixer(Mixer):
    """A kind whose memory is one matrix per head; the costs follow from its sizes.

    erases         whether a token's error is read before it is written (the delta rule)
    channel_decay  whether each key channel has its own decay, and not each head one
    """

    softmax, grows = False, False
    erases = False
    channel_decay = False

    def sizes(self, config: Sizes) -> tuple[int, int, int]:
        """Heads of the memory, Dk, Dv."""
        raise self._lacks("sizes")

    def memory(self, state: object) -> Tensor:
        """The matrices in a state of this kind: [B, HV, Dk, Dv]."""
        return state

    def rewind(self, config: Sizes, state: object, n: int | Sequence[int]) -> object:
        """A state that is one memory: a matrix can't go back, a Replay can."""
        most = state.tokens if isinstance(state, Replay) else 0
        if (n if isinstance(n, int) else max(n)) > most:
            raise self._too_far(n, most)
        return take_back(state, n)

    def trim(self, config: Sizes, state: object, n: int) -> object:
        """Padding has left nothing."""
        return state

    def norm_eps(self, config: Sizes) -> float:
        """eps of the norm behind the operator."""
        return config.rms_norm_eps if config.linear_norm_eps is None else config.linear_norm_eps

    def cache_bytes(self, config: Sizes, tokens: int, element_bytes: int) -> int:
        """The memory, and the convolution's last tokens if the layer has one: the same for every length."""
        H, Dk, Dv = self.sizes(config)
        channels = sum(self.conv_channels(config))
        tail = channels * (config.linear_conv_kernel_dim - 1) * element_bytes if channels else 0
        return tail + H * Dk * Dv * STATE_BYTES

    def flops(self, config: Sizes, position: int, *, chunked: bool) -> float:
        """6 Dk Dv a head (error, write, read), 4 without an erase. In chunks of C tokens these have to do with each
        other as well: 4 C (Dk + Dv) and the triangular system's C^2; half of it and no system without an erase. A
        decay per channel halves the pairs by construction: C Dk for each of its two matrices of scores."""
        H, Dk, Dv = self.sizes(config)
        token = (6 if self.erases else 4) * Dk * Dv  # (11.2)
        if not chunked:
            return H * token
        pairs = CHUNK * ((2 if self.channel_decay else 4) * Dk + 4 * Dv)
        return H * (token + (pairs + CHUNK**2 if self.erases else pairs / 2))  # (11.3)

    def moved_bytes(self, config: Sizes, position: int, element_bytes: int) -> float:
        """The state, read and written."""
        return 2 * self.cache_bytes(config, position + 1, element_bytes)

    def filled_state(self, config: Sizes, tokens: int, draw: Draw) -> object:
        return draw(*self.sizes(config))

    def operator_step(self, config: Sizes, state: object) -> Callable[[], Tensor]:
        S = self.memory(state)
        B, H, Dk, Dv = S.shape
        q, k, v = (F.normalize(torch.randn(B, H, D), dim=-1) for D in (Dk, Dk, Dv))
        g = -torch.rand(B, H, Dk) if self.channel_decay else -torch.rand(B, H)
        beta = torch.rand(B, H) if self.erases else None
        return lambda: decode_step(q, k, v, g, beta, S)


def tensors_of(state: object) -> list[Tensor]:
    """The tensors of a layer's state, in tuples inside it as well; none before the first token. Raises TypeError for
    anything else."""
    found: list[Tensor] = []
    map_tensors(state, found.append)
    return found


def map_tensors(state: Any, change: Callable[[Tensor], Any]) -> Any:
    """The state with `change` of each of its tensors; numbers and None stay. Raises TypeError as tensors_of."""
    if isinstance(state, Tensor):
        return change(state)
    if isinstance(state, tuple):
        parts = [map_tensors(x, change) if isinstance(x, Tensor | tuple) else x for x in state]
        return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)
    if state is None:
        return None
    raise TypeError(f"state: expected None, a tensor or a tuple of tensors and numbers, got {type(state).__name__}")
