"""From a folder or the Hub to a HybridLM: everything is checked against the headers before memory is taken."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from reference.arguments import cut_short
from reference.checkpoints.families import BY_TYPE, FAMILIES
from reference.checkpoints.family import Family
from reference.checkpoints.files import DTYPES, Header, differing_rows, read_headers, read_tensors
from reference.checkpoints.given import Given, read_json
from reference.checkpoints.hub import find_folder
from reference.checkpoints.missing import what_is_missing
from reference.checkpoints.pieces import Pieces
from reference.checkpoints.translate import config_from_json, one_spelling, tensor_plan
from reference.model.config import HybridConfig
from reference.model.hybrid import HybridLM

# Rounding these changes every token after them: decays stay as precise as the file has them when the rest is cast.
LAYER_IN_NAME = re.compile(r"(?:^|\.)layers\.(\d+)\.")
KEPT = ("A_log", "dt_bias", "e_score_correction_bias")


def read_config(folder: Path, ignore_fields: tuple[str, ...] = ()) -> tuple[Family, HybridConfig]:
    """The family of folder/config.json and its fields as ours. Raises ValueError that names the file and the field."""
    path = folder / "config.json"
    values = read_json(path)
    kind = values.get("model_type")
    if (lacking := what_is_missing(kind)) is not None:
        raise ValueError(f"{path}: model_type: {cut_short(kind)} is not read here; it needs {lacking}")
    if not isinstance(kind, str) or kind not in BY_TYPE:
        raise ValueError(
            f"{path}: model_type: expected one of {sorted(f.name for f in FAMILIES)}, got {cut_short(kind)}"
        )
    inner = values.get("text_config")
    quantized = values.get("quantization_config") or (isinstance(inner, dict) and inner.get("quantization_config"))
    if quantized:
        method = quantized.get("quant_method") if isinstance(quantized, dict) else quantized
        raise ValueError(
            f"{path}: quantization_config: {cut_short(method)} weights are not read; look for a bfloat16 copy"
        )
    if inner is not None:  # the language model of one that also sees
        said = inner.get("model_type", kind) if isinstance(inner, dict) else None
        if not isinstance(said, str) or BY_TYPE.get(said) is not BY_TYPE[kind]:
            raise ValueError(f"{path}: text_config: expected an object of model_type {BY_TYPE[kind].name!r}")
        default = BY_TYPE[kind].fields["tie_word_embeddings"].default  # where neither says it
        values = inner | {"tie_word_embeddings": values.get("tie_word_embeddings", default)}  # the outer one governs
    return BY_TYPE[kind], config_from_json(BY_TYPE[kind], Given(dict(values), path, ignore_fields))


def load_pretrained(
    path_or_hub_id: str | Path,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    ignore_fields: tuple[str, ...] = (),
) -> HybridLM:
    """A model in Hugging Face's layout, as a HybridLM in eval mode.

    path_or_hub_id: a folder with config.json and safetensors, or "owner/name" on the Hugging Face Hub (needs the
    extra `hub`). dtype: None is the one that most weights of the files have. All are cast to it (in some files a router
    or an embedding differs), except decays (A_log, dt_bias) and the router's correction, which keep the precision of
    the file. device: None is the CPU. ignore_fields: names of config.json that you know to be harmless; a field that
    is not known here is refused otherwise.

    Weights are mapped and copied one tensor at a time: at most the model and one tensor are in memory. Raises
    ValueError that names file, tensor and expectation before anything is allocated: missing, surplus or ill-shaped
    tensors, truncated files, pickles, quantized weights, unknown families and fields.
    """
    if dtype is not None and dtype not in DTYPES.values():
        raise ValueError(f"dtype: expected None or one of {list(DTYPES.values())}, got {cut_short(dtype)}")
    family, config = read_config(find_folder(path_or_hub_id, weights=False), ignore_fields)
    folder = find_folder(path_or_hub_id)
    headers = read_headers(folder)
    check_sizes(config, {name: header.shape for name, header in headers.items()}, folder)
    try:
        with torch.device("meta"):
            model = HybridLM(config)
    except (ValueError, TypeError, ArithmeticError, RuntimeError) as error:
        raise ValueError(f"{folder / 'config.json'}: {error}") from None
    names = match(family, model, headers, folder)
    with torch.no_grad():
        put_in_memory(model, family, names, headers, dtype, device or "cpu")
        plan, total = _plan(family, model, headers), sum(headers[x].nbytes for x in names.values())
        ours = {theirs: name for name, theirs in names.items()}
        with tqdm(total=total, unit="B", unit_scale=True, desc="load", delay=1, ascii=True) as bar:
            for theirs, tensor in read_tensors(list(ours), headers):
                fill(plan[ours[theirs]], tensor)
                bar.update(headers[theirs].nbytes)
    return model.eval()


def check_sizes(config: HybridConfig, shapes: Mapping[str, Sequence[int]], folder: Path) -> None:
    """ValueError where config.json has more layers or wider heads than the files, whose shapes are given by name.

    Before the model is built: its layers cost time, and its angles memory, even where its weights have none yet.
    """
    there = 1 + max((int(n) for name in shapes for n in LAYER_IN_NAME.findall(name)), default=-1)
    if config.num_hidden_layers > there + 1:
        wanted = f"expected at most {there}, the layers in the files, got {config.num_hidden_layers}"
        raise ValueError(f"{folder / 'config.json'}: num_hidden_layers: {wanted}")
    widest = max((n for shape in shapes.values() for n in shape), default=0)
    for name in ("head_dim", "qk_rope_head_dim", "index_head_dim"):
        if getattr(config, name) > widest:
            wanted = f"expected at most {widest}, the longest axis in the files, got {getattr(config, name)}"
            raise ValueError(f"{folder / 'config.json'}: {name}: {wanted}")


def match(family: Family, model: HybridLM, headers: dict[str, Header], folder: Path) -> dict[str, str]:
    """Names in our spelling -> names in the files, for all tensors that the model needs. Raises ValueError."""
    prefix = _prefix(family, headers)
    with torch.no_grad():
        wanted = _plan(family, model, headers)
    there = {one_spelling(family, name): name for name in headers}
    names, known = {}, set()
    for name, pieces in wanted.items():
        theirs = there.get(one_spelling(family, name))
        if theirs is None:
            raise ValueError(f"{folder}: {name} is missing; {family.name} has it, of shape {pieces.file_shape}")
        if headers[theirs].shape != pieces.file_shape:
            wanted_shape = f"expected shape {pieces.file_shape} by config.json, got {headers[theirs].shape}"
            raise ValueError(f"{headers[theirs].file}: {theirs}: {wanted_shape}")
        names[name] = theirs
        known.add(theirs)
    ignored = [part.format(num_hidden_layers=model.config.num_hidden_layers) for part in family.ignored]
    if model.config.tie_word_embeddings and "lm_head.weight" in headers:  # a copy of the embedding is no surplus
        known.add("lm_head.weight")
        embedding = names[f"{prefix}{family.embedding}.weight"]
        if differing_rows(headers["lm_head.weight"], "lm_head.weight", headers[embedding], embedding):
            wanted = f"expected the same as {embedding}, since config.json has tie_word_embeddings; they differ"
            raise ValueError(f"{headers['lm_head.weight'].file}: lm_head.weight: {wanted}")
    surplus = [x for x in headers if x not in known and not any(part in x for part in ignored)]
    if surplus:
        more = f" and {len(surplus) - 1} more" if len(surplus) > 1 else ""
        raise ValueError(
            f"{headers[surplus[0]].file}: {surplus[0]}{more}: {family.name} has no such tensor by config.json"
        )
    return names


def put_in_memory(model, family, names, headers, dtype, device) -> None:
    """Replace the parameters of a model without memory by empty ones of the files' dtypes, or of `dtype`."""
    dtypes: dict[int, torch.dtype] = {}
    for name, pieces in _plan(family, model, headers).items():
        for view in pieces.views:
            root, kind = id(view if view._base is None else view._base), headers[names[name]].dtype
            dtypes[root] = torch.promote_types(dtypes.get(root, kind), kind)
    empty, stored = {}, model.state_dict().keys()
    dtype = main_dtype(headers) if dtype is None else dtype
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if name in stored:
            kind = dtypes[id(tensor)] if name.endswith(KEPT) else dtype
            empty[name] = torch.empty(tensor.shape, dtype=kind, device=device)
    if model.config.tie_word_embeddings:
        empty["lm_head.weight"] = empty["embed_tokens.weight"]
    model.load_state_dict(empty, assign=True)
    if model.config.tie_word_embeddings:
        model.lm_head.weight = model.embed_tokens.weight
    for module in model.modules():
        if hasattr(module, "reset_buffers"):
            module.reset_buffers(device)


def main_dtype(headers: dict[str, Header]) -> torch.dtype:
    """The dtype of most of the weights, counted in numbers: what all are cast to, so that layers fit together."""
    numbers: dict[torch.dtype, int] = {}
    for header in headers.values():
        numbers[header.dtype] = numbers.get(header.dtype, 0) + math.prod(header.shape)
    return max(numbers, key=numbers.get)


def fill(pieces: Pieces, tensor: Tensor) -> None:
    """Copy a file's tensor into the views of our parameters that it is made of."""
    sizes = [view.shape[pieces.dim] for view in pieces.views]
    for view, part in zip(pieces.views, tensor.view(pieces.joined).split(sizes, pieces.dim), strict=True):
        view.copy_(part)


def _plan(family: Family, model: HybridLM, headers: dict[str, Header]) -> dict[str, Pieces]:
    return tensor_plan(family, model, _prefix(family, headers), {name: x.shape for name, x in headers.items()})


def _prefix(family: Family, headers: dict[str, Header]) -> str:
    """What the files put before every name but lm_head's."""
    for prefix in reversed(family.prefixes):
        if any(name.startswith(prefix + "layers.") for name in headers):
            return prefix
    return family.prefixes[0]
