"""A family's table, read both ways: config.json to HybridConfig and back, our tensors as those of its files."""

import re
from collections.abc import Mapping
from typing import get_type_hints

from torch import Tensor, nn

from reference.arguments import cut_short
from reference.checkpoints.family import TRUNK, Family
from reference.checkpoints.given import Given
from reference.checkpoints.pieces import BlockTensors, Pieces, ShapeInFile, TensorPlan
from reference.checkpoints.rope import read_rope, write_rope
from reference.model.config import HybridConfig

FIELD_TYPES = get_type_hints(HybridConfig)
LEFT_TO_A_TOKENIZER = ("pad_token_id", "bos_token_id", "eos_token_id")
IN_BLOCK = re.compile(r"(mtp\.)?layers\.\d+\.")
UNSAID = {"router_aux_loss_coef"}  # no family writes it: it weighs a loss and changes no output


def config_from_json(family: Family, given: Given) -> HybridConfig:
    """config.json as a HybridConfig. Raises ValueError that names the field."""
    family.restate(given)
    for name, values in family.only.items():
        given.expect(name, *values)
    n = given.take("num_hidden_layers")
    given.check("num_hidden_layers", n, int, 1)
    kinds = given.take("layer_types", None, list | None)
    ours = dict(family.always)
    for name, entry in family.fields.items():
        value = given.take(entry.theirs, entry.default(ours) if callable(entry.default) else entry.default)
        ours[name] = entry.default(ours) if value is None and callable(entry.default) else value
        positive = FIELD_TYPES[name] is int and (name in TRUNK or name.endswith(("_heads", "_group")))
        given.check(entry.theirs, ours[name], FIELD_TYPES[name], int(positive))
    if kinds is None or not family.says_layers:
        said, kinds = kinds, family.default_layers(n, given)
        if said is not None and said != kinds:
            given.fail("layer_types", f"this family has {cut_short(kinds)}, got {cut_short(said)}")
    if len(kinds) != n:
        given.fail("layer_types", f"expected one for each of num_hidden_layers = {n} layers, got {len(kinds)}")
    for kind in kinds:
        if not isinstance(kind, str) or kind not in family.mixers:
            given.fail("layer_types", f"{family.name} has {sorted(family.mixers)}, got {cut_short(kind)}")
    ours["layer_types"] = tuple(family.mixers[kind] for kind in kinds)
    if family.positions:
        ours |= read_rope(given, ours, family)
    else:
        ours["partial_rotary_factor"] = 0.0
        given.pass_over("rope_theta", "rope_scaling", "rope_parameters")
    family.read(given, ours)
    given.finish()
    try:
        return HybridConfig(**ours)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{given.path}: {error}") from None


def config_to_json(family: Family, config: HybridConfig) -> dict:
    """A HybridConfig as config.json. Raises ValueError if the family can't say it."""
    for name, value in family.always.items():
        if getattr(config, name) != value:
            raise ValueError(f"{family.name} can't say {name} = {cut_short(getattr(config, name))}")
    theirs = {"architectures": [family.architecture], "model_type": family.name}
    theirs |= dict.fromkeys(LEFT_TO_A_TOKENIZER)
    theirs |= {name: values[0] for name, values in family.only.items() if values[0] is not None}
    theirs |= {entry.theirs: getattr(config, name) for name, entry in family.fields.items()}
    theirs["num_hidden_layers"] = config.num_hidden_layers
    if family.says_layers:
        names = {ours: name for name, ours in reversed(family.mixers.items())}
        theirs["layer_types"] = [names.get(kind, kind) for kind in config.layer_types]
    if family.positions:
        theirs["rope_parameters"] = write_rope(config, family.partial_rotary is not None, family.rope_by_kind)
    family.write(config, theirs)
    again = config_from_json(family, Given(dict(theirs), "config.json")).to_dict()
    unsaid = UNSAID if "max_position_embeddings" in family.fields else UNSAID | {"max_position_embeddings"}
    for name, value in config.to_dict().items():
        if again[name] != value and name not in unsaid:
            raise ValueError(f"{family.name} can't say {name} = {cut_short(value)}")
    return theirs


def tensor_plan(
    family: Family, model: nn.Module, prefix: str, shapes: Mapping[str, list[int]] | None = None
) -> TensorPlan:
    """Every tensor of the family's files, by its name there, as views into the model's parameters.

    prefix: what stands before all names except lm_head's. shapes: of the files' tensors, for the few that may be cut
    in more than one place; None when there are no files yet.
    """
    in_file = {} if shapes is None else {one_spelling(family, name): shape for name, shape in shapes.items()}
    config, found = model.config, {}
    stored = model.state_dict().keys()
    ours = dict(model.named_parameters()) | {n: b for n, b in model.named_buffers() if n in stored}
    found[f"{prefix}{family.embedding}.weight"] = Pieces((ours["embed_tokens.weight"],))
    found[f"{prefix}{family.last_norm}.weight"] = Pieces((ours["norm.weight"],))
    if not config.tie_word_embeddings:
        found["lm_head.weight"] = Pieces((ours["lm_head.weight"],))
    places = layers_of_blocks(family, config)
    blocks = [
        (f"layers.{n}.", [f"{prefix}layers.{layer}." for layer in places[n]], kind)
        for n, kind in enumerate(config.layer_types)
    ]
    if config.num_nextn_predict_layers:
        blocks.append(("mtp.layers.0.", ["mtp.layers.0."], "full_attention"))
        head = [n for n in ours if n.startswith("mtp.") and not n.startswith("mtp.layers.")]
        found |= {name: Pieces((ours[name],)) for name in head}
    inside: dict[str, dict[str, Tensor]] = {here: {} for here, _, _ in blocks}
    for name, x in ours.items():
        if (found_in := IN_BLOCK.match(name)) is not None:
            inside[found_in[0]][name.removeprefix(found_in[0])] = x
    for here, places_there, kind in blocks:
        for there, half in zip(places_there, _halves(inside[here], len(places_there)), strict=True):

            def shape_in_file(name: str, there: str = there) -> list[int] | None:
                return in_file.get(one_spelling(family, there + name))

            plan = _block_plan(family, half, kind, config, shape_in_file)
            found |= {there + name: pieces for name, pieces in plan.items()}
    return found


def layers_of_blocks(family: Family, config: HybridConfig) -> list[list[int]]:
    """Which layers of the file each block is: one, or one for the mixer and the next for the MLP."""
    layers = iter(range(2 * config.num_hidden_layers))
    parts = [1 + (family.halves_apart and config.has_mlp(n)) for n in range(config.num_hidden_layers)]
    return [[next(layers) for _ in range(part)] for part in parts]


def _halves(block: BlockTensors, parts: int) -> list[BlockTensors]:
    """The tensors of a block, or of its mixer and of its MLP, each with its norm."""
    if parts == 1:
        return [block]
    second = {name: x for name, x in block.items() if name.startswith(("post_attention_layernorm.", "mlp."))}
    return [{name: x for name, x in block.items() if name not in second}, second]


def one_spelling(family: Family, name: str) -> str:
    """A tensor's name in the second of each pair of spellings."""
    for one, other in family.spellings:
        name = name.replace(one, other)
    return name


def _block_plan(
    family: Family, block: BlockTensors, kind: str, config: HybridConfig, shape_in_file: ShapeInFile
) -> TensorPlan:
    found, spoken_for = {}, set()
    for layout in family.layouts:
        if all(name in block for name in layout.ours):
            found |= layout.plan({name: block[name] for name in layout.ours}, config, shape_in_file)
            spoken_for |= set(layout.ours)
    return found | {_their_name(family, n, kind): Pieces((x,)) for n, x in block.items() if n not in spoken_for}


def _their_name(family: Family, name: str, kind: str) -> str:
    for ours, theirs in (*family.names, ("mixer.", family.mixer.get(kind, "self_attn."))):
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name
