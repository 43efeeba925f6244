"""What a family of checkpoints is: one table of how it differs from Llama. `translate` reads the table both ways."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from reference.checkpoints.given import REQUIRED, Given
from reference.checkpoints.pieces import Layout
from reference.model.config import HybridConfig


class Field(NamedTuple):
    """A field of config.json; default: what the family means where it is left out, a value or f(fields read so far)."""

    theirs: str
    default: object = REQUIRED


def same(*names: str, **defaults: object) -> dict[str, Field]:
    """Fields that have one name in both."""
    return {name: Field(name) for name in names} | {name: Field(name, x) for name, x in defaults.items()}


TRUNK = same(
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    max_position_embeddings=2048,
    num_key_value_heads=lambda ours: ours["num_attention_heads"],
    head_dim=lambda ours: ours["hidden_size"] // ours["num_attention_heads"],
    rms_norm_eps=1e-6,
    tie_word_embeddings=False,
    initializer_range=0.02,
)


class Published(NamedTuple):
    """A model of the family, for tables and counts.

    model     its name on huggingface.co
    year      of the release
    licence   of the weights
    after     what its makers did next
    billions  of parameters, as its name or card states them
    fields    its config.json, without what it leaves to the family's defaults
    """

    model: str
    year: int
    licence: str
    after: str
    billions: float
    fields: dict

    @property
    def source(self) -> str:
        """Address of the model's card."""
        return f"https://huggingface.co/{self.model}"


ABSENT = object()  # in `tiny`: a field that config.json of this family doesn't have


@dataclass(frozen=True, kw_only=True)
class Family:
    """A model_type in config.json, and how its files differ from Llama's.

    What it is
      name            model_type in config.json
      architecture    the class in transformers, as config.json names it
      also            other values of model_type that mean the same
      published       a model of the family
      tiny            sizes of the smallest model that has all its parts; the rest is in checkpoints/tiny.py
    Its config.json
      restate         first of all: (given) -> None, puts what the family says in its own way into fields of the table
      fields          our field -> theirs, read in this order
      always          what the family fixes without saying so in config.json, in our fields
      only            their fields that are implemented with these values only; the first is what we write
      mixers          their layer_types -> our kinds of layer
      default_layers  (number of layers, their fields) -> layer_types, where config.json leaves them out
      says_layers     whether its config.json has layer_types
      positions       whether its config.json says anything of rotary positions; without, no layer has them
      rope_by_kind    whether rope_parameters says one thing for full_attention, another for sliding_attention
      window_theta    rope_theta of layers with windows where it is left out; None: that of the others
      default_theta   rope_theta where it is left out
      default_rope    rope_parameters where the file has none
      null_theta      whether a rope_theta of null means no positions
      partial_rotary  partial_rotary_factor where it is left out; None: the family has no such field
      read            what no table can say: (given, our fields so far) -> None, changes ours. `given.take(name,
                      default)` reads one of their fields; `given.check` and `given.fail` refuse a value
      write           the other way: (our config, their fields so far) -> None, changes theirs
    Its tensors
      names           beginnings of our names inside a block -> theirs, the first that fits
      mixer           our kind of layer -> the beginning of its mixer's names, where it isn't "self_attn."
      layouts         tensors that are split, fused or reordered, see `layouts`
      spellings       parts of names that files write in two ways: (one, the other)
      embedding       the embedding's name
      last_norm       the last norm's name
      halves_apart    whether a block's mixer and its MLP are two layers of the file
      prefixes        what stands before all names except lm_head's: the first is what we write
      ignored         parts of names in the file that the language model has no use for
    """

    name: str
    architecture: str
    also: tuple[str, ...] = ()
    published: Published | None = None
    tiny: Mapping[str, object] = field(default_factory=dict)

    restate: Callable[[Given], None] = lambda given: None
    fields: Mapping[str, Field] = field(default_factory=lambda: TRUNK)
    always: Mapping[str, object] = field(default_factory=dict)
    only: Mapping[str, tuple] = field(default_factory=dict)
    mixers: Mapping[str, str] = field(default_factory=lambda: {"full_attention": "full_attention"})
    default_layers: Callable[[int, Given], list[str]] = lambda n, given: ["full_attention"] * n
    says_layers: bool = True
    positions: bool = True
    rope_by_kind: bool = False
    window_theta: float | None = None
    default_theta: float = 10_000.0
    default_rope: Mapping[str, object] = field(default_factory=dict)
    null_theta: bool = False
    partial_rotary: float | None = None
    read: Callable[[Given, dict], None] = lambda given, ours: None
    write: Callable[[HybridConfig, dict], None] = lambda config, theirs: None

    names: tuple[tuple[str, str], ...] = ()
    mixer: Mapping[str, str] = field(default_factory=dict)
    layouts: tuple[Layout, ...] = ()
    spellings: tuple[tuple[str, str], ...] = ()
    embedding: str = "embed_tokens"
    last_norm: str = "norm"
    halves_apart: bool = False
    prefixes: tuple[str, ...] = ("model.",)
    ignored: tuple[str, ...] = ("rotary_emb.inv_freq",)
