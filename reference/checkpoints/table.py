"""The page that lists each family's tensors: name in the file, shape, and which parameter of ours it is."""

import re
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from reference.checkpoints.families import FAMILIES
from reference.checkpoints.family import Family
from reference.checkpoints.missing import MISSING
from reference.checkpoints.pieces import Pieces
from reference.checkpoints.published import published_config
from reference.checkpoints.translate import layers_of_blocks, tensor_plan
from reference.model.config import HybridConfig
from reference.model.hybrid import HybridLM

LAYER = re.compile(r"\blayers\.(\d+)\.")
ROUTERS = {"gate", "router", "shared_expert_gate"}
HEAD = """# Tensors of the checkpoints

Which tensor of a published checkpoint is which parameter of ours, with the published model's shapes.

- `N` is the number of a layer, `E` that of an expert.
- Brackets cut a part out of ours, and `.mT` is its transpose. *Reordered*: rows or columns lie in another order, and
  `reference/checkpoints/layouts.py` says in which.
- The last column names the layers that have the tensor, by their mixer or their MLP.
- Heads that predict further tokens are left out.
- Under each table stands what LoRA can be put beside: the linear modules of each kind of layer, under their names in
  the file. A list made for softmax attention (`q_proj`, `k_proj`, `v_proj`, `o_proj`) reaches only the layers that it
  is printed for. `reference/training/lora.py` trains adapters, by our names, and refuses a list that skips a mixer.

`python -m reference families --tensors` prints this page from the tables that load and save the files, one per family
in `reference/checkpoints/families`. A test keeps it current.
"""
MISSING_HEAD = """## What does not load

Families that transformers 5.23 has, and whose files are refused by name, with this sentence.
"""


class TensorRow(NamedTuple):
    """One line: N for the number of a layer, E for an expert's; layers: "" outside them, "all", a mixer or an MLP."""

    theirs: str
    shape: tuple[int, ...]
    ours: str
    layers: str


def tensor_rows(family: Family) -> list[TensorRow]:
    """The tensors of the family's published model: what is outside the layers, then one layer of each kind."""
    kinds, config = _one_layer_of_each_kind(published_config(family.name))
    with torch.device("meta"):
        model = HybridLM(config)
    with torch.no_grad():
        plan = tensor_plan(family, model, family.prefixes[0])
        ours = {id(x): name for name, x in (*model.named_parameters(), *model.named_buffers())}
        found: dict[tuple, list[int]] = {}
        of_layer = {layer: n for n, parts in enumerate(layers_of_blocks(family, config)) for layer in parts}
        for name, pieces in plan.items():
            if (expert := re.search(r"experts\.(\d+)\.", name)) and expert[1] != "0":
                continue  # all experts are alike
            layer = LAYER.search(name)
            row = (LAYER.sub("layers.N.", name).replace("experts.0.", "experts.E."), *_shape_and_ours(pieces, ours))
            found.setdefault(row, []).extend([of_layer[int(layer[1])]] if layer else [])
    rows = [TensorRow(*row, _which(layers, kinds)) for row, layers in found.items()]
    order = list(dict.fromkeys(LAYER.sub("layers.N.", name) for name in model.state_dict()))
    return sorted(rows, key=lambda row: (row.layers != "", order.index(re.split(r"[`[]|\.mT", row.ours)[1])))


def tensor_page() -> str:
    """All families in Markdown, as in appendix/checkpoints.md."""
    parts = [HEAD]
    for family in FAMILIES:
        about = [f"[{family.published.model}]({family.published.source}), `{family.architecture}`."]
        about += [f"Files also write `{one}` as `{other}`." for one, other in family.spellings]
        about += [f"Files may begin with `{other}` instead of `{family.prefixes[0]}`." for other in family.prefixes[1:]]
        n = published_config(family.name).num_hidden_layers
        ignored = [f"`{part.format(num_hidden_layers=n)}`" for part in family.ignored]
        about.append(f"Passed over: names with {', '.join(ignored)}.")
        lines = ["| in the file | shape | ours | layers |", "|---|---|---|---|"]
        for row in tensor_rows(family):
            size = " × ".join(map(str, row.shape))
            lines.append(f"| `{row.theirs}` | {size} | {row.ours} | {row.layers} |")
        parts += [f"## {family.name}\n", " ".join(about) + "\n", "\n".join(lines) + "\n", _adapter_line(family)]
    lines = [f"| `{name}` | {lacking} |" for name, lacking in MISSING.items()]
    parts += [MISSING_HEAD, "\n".join(["| `model_type` | needs, and this code has not |", "|---|---|", *lines]) + "\n"]
    return "\n".join(parts)


def adapter_modules(family: Family) -> dict[str, list[str]]:
    """Layers, as in the table -> their linear modules in a file; what routes and what experts share one tensor for is
    left out."""
    found: dict[str, list[str]] = {}
    for row in tensor_rows(family):
        module = re.fullmatch(r".*layers\.N\.(.+)\.weight", row.theirs)
        if module is None or len(row.shape) != 2 or "norm" in row.ours:
            continue
        if "experts.E" not in row.theirs and not ROUTERS & set(module[1].split(".")):
            found.setdefault(row.layers, []).append(module[1])
    return found


def _adapter_line(family: Family) -> str:
    config = published_config(family.name)
    n, said = config.num_hidden_layers, []
    sparse = sum(config.is_sparse(layer) for layer in range(n))
    counts = {"all": n, "experts": sparse, "dense MLP": n - sparse}
    for layers, modules in adapter_modules(family).items():
        count = sum(counts.get(word, config.layer_types.count(word)) for word in layers.split(", "))
        said.append(f"{', '.join(f'`{module}`' for module in modules)} in {count} of {n} layers ({layers})")
    return f"LoRA: {'; '.join(said)}.\n"


def _one_layer_of_each_kind(config: HybridConfig) -> tuple[list[tuple[str, str]], HybridConfig]:
    """[(mixer, MLP)] in the order of the layers, and the config of a model with those layers only."""
    words = {"dense": "dense MLP", "sparse": "experts", "none": "no MLP"}
    layers = config.mlp_layer_types or ["sparse" if config.num_experts else "dense"] * config.num_hidden_layers
    mlps = [words[kind] for kind in layers]
    kinds = list(dict.fromkeys(zip(config.layer_types, mlps, strict=True)))
    of_word = {word: kind for kind, word in words.items()}
    chosen = None if config.mlp_layer_types is None else tuple(of_word[mlp] for _, mlp in kinds)
    one_theta = None if config.layer_rope_theta is None else config.layer_rope_theta[: len(kinds)]
    one_of_each = {"layer_types": tuple(mixer for mixer, _ in kinds), "mlp_layer_types": chosen}
    return kinds, replace(config, **one_of_each, layer_rope_theta=one_theta)


def _which(layers: list[int], kinds: list[tuple[str, str]]) -> str:
    """The word that says which layers have a tensor, or the words."""
    if not layers or len(layers) == len(kinds):
        return "all" if layers else ""
    words = {word: [n for n, kind in enumerate(kinds) if word in kind] for kind in kinds for word in kind}
    exactly = [word for word, where in words.items() if where == layers]
    return exactly[0] if exactly else ", ".join(word for word, where in words.items() if set(where) <= set(layers))


def _shape_and_ours(pieces: Pieces, names: dict[int, str]) -> tuple[tuple[int, ...], str]:
    parts = [_part(view, names) for view in pieces.views]
    in_order = pieces.shape is None and None not in [cut for _, cut in parts]
    said = dict.fromkeys(f"`{name}{cut if in_order else ''}`" for name, cut in parts)
    return tuple(pieces.file_shape), ", ".join(said) + ("" if in_order else ", reordered")


def _part(view: Tensor, names: dict[int, str]) -> tuple[str, str | None]:
    """(name of the parameter, how the view is cut out of it); None: by more than an index, slices or a transpose."""
    base = view if view._base is None else view._base
    name = LAYER.sub("layers.N.", names[id(base)])
    for turned, cut in ((view, ""), (view.mT if view.dim() > 1 else view, ".mT")):
        if turned.stride() == base.stride()[base.dim() - turned.dim() :]:
            return name, _slices(turned, base) + cut
    return name, None


def _slices(view: Tensor, base: Tensor) -> str:
    """Such as "[E, :512]": the expert, where the view has one axis less, then rows. Empty for all of it."""
    said, offset, experts = [], view.storage_offset(), base.dim() - view.dim()
    for axis, step in enumerate(base.stride()):
        start, offset = divmod(offset, step)
        if axis < experts:
            said.append("E")
            continue
        stop = start + view.shape[axis - experts]
        whole = start == 0 and stop == base.shape[axis]
        said.append(":" if whole else f"{start or ''}:{stop if stop < base.shape[axis] else ''}")
    while said and said[-1] == ":":
        said.pop()
    return f"[{', '.join(said)}]" if said else ""
