"""What a family of checkpoints is: how its config.json and its tensors are written, as a table that reads both ways."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, get_type_hints

from torch import Tensor, nn

from reference.checkpoints.given import REQUIRED, Given
from reference.checkpoints.rope import read_rope, write_rope
from reference.model.config import HybridConfig


class Pieces(NamedTuple):
    """One tensor of a file, as views into our parameters that lie side by side in it. Views work both ways:
    copying into them loads, joining them saves, and on a model without memory they say which shape is expected."""

    views: tuple[Tensor, ...]
    dim: int = 0  # along which the views follow one another
    shape: tuple[int, ...] | None = None  # the tensor's, where it folds dimensions of the joined views

    @property
    def joined(self) -> list[int]:
        shape = list(self.views[0].shape)
        shape[self.dim] = sum(view.shape[self.dim] for view in self.views)
        return shape

    @property
    def file_shape(self) -> list[int]:
        return self.joined if self.shape is None else list(self.shape)


Layer = dict[str, Tensor]  # the tensors of one block, by our names inside it
# How many rows the file's tensor of that name inside the block has; None where there is no file, or no such tensor.
RowCount = Callable[[str], int | None]
TensorPlan = dict[str, Pieces]  # by name in the file
Layout = Callable[[Layer, HybridConfig, RowCount], TensorPlan]


class Field(NamedTuple):
    """A field of config.json; default: what the family means where it is left out, a value or f(fields read so far)."""

    theirs: str
    default: object = REQUIRED


def same(*names: str, **defaults: object) -> dict[str, Field]:
    """Fields that have one name in both."""
    return {name: Field(name) for name in names} | {name: Field(name, x) for name, x in defaults.items()}


FIELD_TYPES = get_type_hints(HybridConfig)
TRUNK = same(
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "max_position_embeddings",
    num_key_value_heads=lambda ours: ours["num_attention_heads"],
    head_dim=lambda ours: ours["hidden_size"] // ours["num_attention_heads"],
    rms_norm_eps=1e-6,
    tie_word_embeddings=False,
    initializer_range=0.02,
)


@dataclass(frozen=True, kw_only=True)
class Family:
    """model_type in config.json, and how it differs from Llama.

    fields      our field -> theirs, read in this order
    always      what the family fixes without saying so in config.json, in our fields
    only        their fields that we know with these values alone; the first is what we write
    mixers      their layer_types -> ours; default_layers(number of layers, their fields) where they are left out
    names       beginnings of our names inside a block -> theirs
    mixer       the beginning of a mixer's names: "self_attn.", or by (our) kind of layer
    layouts     tensors that are split, fused or reordered: each takes what it knows from a layer
    spellings   parts of names that files write in two ways: (one, the other)
    ignored     parts of names in the file that the language model has no use for
    read, write what no table can say: read(Given, our fields so far), write(config, their fields so far)
    """

    name: str
    architecture: str
    also: tuple[str, ...] = ()  # other values of model_type
    fields: Mapping[str, Field] = field(default_factory=lambda: TRUNK)
    always: Mapping[str, object] = field(default_factory=dict)
    only: Mapping[str, tuple] = field(default_factory=dict)
    mixers: Mapping[str, str] = field(default_factory=lambda: {"full_attention": "full_attention"})
    default_layers: Callable[[int, Given], list[str]] = lambda n, given: ["full_attention"] * n
    says_layers: bool = True  # whether its config.json has layer_types
    default_theta: float = 10_000.0
    null_theta: bool = False  # whether a rope_theta of null means no positions
    partial_rotary: float | None = None  # the default of partial_rotary_factor; None: the family has no such field
    names: tuple[tuple[str, str], ...] = ()
    mixer: Mapping[str, str] = field(default_factory=dict)
    layouts: tuple[Layout, ...] = ()
    spellings: tuple[tuple[str, str], ...] = ()
    prefixes: tuple[str, ...] = ("model.",)
    ignored: tuple[str, ...] = ("rotary_emb.inv_freq",)
    read: Callable[[Given, dict], None] = lambda given, ours: None
    write: Callable[[HybridConfig, dict], None] = lambda config, theirs: None

    def to_config(self, given: Given) -> HybridConfig:
        """config.json as a HybridConfig. Raises ValueError that names the field."""
        for name, values in self.only.items():
            given.expect(name, *values)
        n = given.take("num_hidden_layers")
        given.check("num_hidden_layers", n, int, 1)
        kinds = given.take("layer_types", None, list) if self.says_layers else None
        ours = dict(self.always)
        for name, entry in self.fields.items():
            value = given.take(entry.theirs, entry.default(ours) if callable(entry.default) else entry.default)
            ours[name] = entry.default(ours) if value is None and callable(entry.default) else value
            positive = FIELD_TYPES[name] is int and (name in TRUNK or name.endswith(("_heads", "_group")))
            given.check(entry.theirs, ours[name], FIELD_TYPES[name], int(positive))
        kinds = self.default_layers(n, given) if kinds is None else kinds
        if len(kinds) != n:
            given.fail("layer_types", f"expected one for each of num_hidden_layers = {n} layers, got {len(kinds)}")
        for kind in kinds:
            if not isinstance(kind, str) or kind not in self.mixers:
                given.fail("layer_types", f"{self.name} has {sorted(self.mixers)}, got {kind!r}")
        ours["layer_types"] = tuple(self.mixers[kind] for kind in kinds)
        ours |= read_rope(given, ours, self.default_theta, self.partial_rotary, self.null_theta)
        self.read(given, ours)
        given.finish()
        try:
            return HybridConfig(**ours)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{given.path}: {error}") from None

    def to_json(self, config: HybridConfig) -> dict:
        """A HybridConfig as config.json. Raises ValueError if the family can't say it."""
        for name, value in self.always.items():
            if getattr(config, name) != value:
                raise ValueError(f"{self.name} can't say {name} = {getattr(config, name)!r}")
        theirs = {"architectures": [self.architecture], "model_type": self.name}
        theirs |= dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"))  # a tokenizer's affair
        theirs |= {name: values[0] for name, values in self.only.items() if values[0] is not None}
        theirs |= {entry.theirs: getattr(config, name) for name, entry in self.fields.items()}
        theirs["num_hidden_layers"] = config.num_hidden_layers
        if self.says_layers:
            names = {ours: name for name, ours in reversed(self.mixers.items())}
            theirs["layer_types"] = [names.get(kind, kind) for kind in config.layer_types]
        theirs["rope_parameters"] = write_rope(config, self.partial_rotary is not None)
        self.write(config, theirs)
        again = self.to_config(Given(dict(theirs), "config.json"))
        for name, value in config.to_dict().items():
            if again.to_dict()[name] != value and name != "router_aux_loss_coef":
                raise ValueError(f"{self.name} can't say {name} = {value!r}")
        return theirs

    def tensors(
        self, model: nn.Module, prefix: str, shapes: Mapping[str, list[int]] | None = None
    ) -> dict[str, Pieces]:
        """Every tensor of the family's files, by its name there, as views into the model's parameters. shapes: of the
        files' tensors, for the few that may be cut in more than one place."""
        shapes = {} if shapes is None else {self.spelled(name): shape for name, shape in shapes.items()}
        config, found = model.config, {}
        ours = dict(model.named_parameters()) | {n: b for n, b in model.named_buffers() if n in model.state_dict()}
        found[f"{prefix}embed_tokens.weight"] = Pieces((ours["embed_tokens.weight"],))
        found[f"{prefix}norm.weight"] = Pieces((ours["norm.weight"],))
        if not config.tie_word_embeddings:
            found["lm_head.weight"] = Pieces((ours["lm_head.weight"],))
        blocks = [(f"layers.{n}.", f"{prefix}layers.{n}.", kind) for n, kind in enumerate(config.layer_types)]
        if config.num_nextn_predict_layers:
            blocks.append(("mtp.layers.0.", "mtp.layers.0.", "full_attention"))
            head = [n for n in ours if n.startswith("mtp.") and not n.startswith("mtp.layers.")]
            found |= {name: Pieces((ours[name],)) for name in head}
        for here, there, kind in blocks:
            layer = {name.removeprefix(here): x for name, x in ours.items() if name.startswith(here)}

            def rows(name: str, there: str = there) -> int | None:
                shape = shapes.get(self.spelled(there + name))
                return shape[0] if shape else None

            for layout in self.layouts:
                found |= {there + name: pieces for name, pieces in layout(layer, config, rows).items()}
            found |= {there + self._name(name, kind): Pieces((x,)) for name, x in layer.items()}
        return found

    def spelled(self, name: str) -> str:
        """One spelling of a tensor's name, whoever wrote the file."""
        for one, other in self.spellings:
            name = name.replace(one, other)
        return name

    def _name(self, name: str, kind: str) -> str:
        for ours, theirs in (*self.names, ("mixer.", self.mixer.get(kind, "self_attn."))):
            if name.startswith(ours):
                return theirs + name.removeprefix(ours)
        return name
