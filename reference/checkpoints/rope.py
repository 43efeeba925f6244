"""rope_parameters of a config.json, in its newer and its older spelling."""

from dataclasses import fields
from typing import get_type_hints

from reference.arguments import cut_short
from reference.checkpoints.family import Family
from reference.checkpoints.given import Given
from reference.layers.rope import SCALINGS, RopeScaling
from reference.model.config import HybridConfig

HINTS = get_type_hints(RopeScaling)
# What says how positions of images are laid out; a text's three positions are one.
ABOUT_IMAGES = {"mrope_section", "mrope_interleaved"}


def read_rope(given: Given, ours: dict, family: Family) -> dict:
    """rope_theta, partial_rotary_factor and rope_scaling in either spelling.

    Where a file has both, rope_scaling is what somebody added by hand, as model cards advise for YaRN: it replaces all
    of rope_parameters, as in transformers (modeling_rope_utils.py, convert_rope_params_to_dict).
    """
    if family.rope_by_kind and family.window_theta is None:
        _one_for_both_kinds(given, family)
    elif family.rope_by_kind:
        _one_for_each_kind(given, ours, family)
    default_theta, partial, may_be_null = family.default_theta, family.partial_rotary, family.null_theta
    older, newer = (given.take(name, None, dict | None) for name in ("rope_scaling", "rope_parameters"))
    rope = dict(older or (family.default_rope if newer is None else newer))
    theta = rope.pop("rope_theta", given.take("rope_theta", default_theta))
    given.check("rope_theta", theta, float | None if may_be_null else float, 1)
    kind = rope.pop("rope_type", None) or rope.pop("type", None) or "default"
    rope.pop("type", None)
    beside = given.take("partial_rotary_factor", partial)
    share = None if kind == "proportional" else rope.pop("partial_rotary_factor", beside)
    share = partial if share is None else share
    given.check("partial_rotary_factor", share, float | None)
    if partial is None and share not in (None, 1, 1.0):
        given.fail("partial_rotary_factor", f"this family turns all channels, got {cut_short(share)}")
    if not isinstance(kind, str) or kind not in SCALINGS:
        given.fail(
            "rope_type", f"expected one of {list(SCALINGS)}, got {cut_short(kind)}, which is not implemented here"
        )
    known = {f.name for f in fields(RopeScaling)}
    unknown = set(rope) - known - ABOUT_IMAGES
    if unknown:
        given.fail("rope_parameters", f"{sorted(unknown)} not known here; known are {sorted(known)}")
    values = {"rope_theta": float(theta or default_theta), "rope_scaling": None}
    if theta is None:
        return values | {"partial_rotary_factor": 0.0}
    if partial is not None:
        values["partial_rotary_factor"] = float(share)
    if kind == "default":
        return values
    longest = ours["max_position_embeddings"]
    rope = {name: x for name, x in rope.items() if name in known and x is not None}
    for name, value in rope.items():
        least = 1 if name == "original_max_position_embeddings" else 0
        given.check(f"rope_parameters: {name}", value, HINTS[name], least)
    if kind in ("yarn", "llama3"):
        rope.setdefault("original_max_position_embeddings", longest)
        rope.setdefault("factor", longest / rope["original_max_position_embeddings"])
    if kind == "dynamic":
        rope["max_position_embeddings"] = longest
    try:
        return values | {"rope_scaling": RopeScaling(rope_type=kind, **rope)}
    except ValueError as error:
        given.fail("rope_parameters", str(error))


def _one_for_both_kinds(given: Given, family: Family) -> None:
    """Put what stands under full_attention in the place of the whole: layers with windows turn as fast as those, by
    plain frequencies. Raises ValueError where they don't."""
    whole, older = (given.take(name, None, dict | None) for name in ("rope_parameters", "rope_scaling"))
    whole = whole or {}
    kinds = [whole.get(f"{kind}_attention") for kind in ("full", "sliding")]
    for x in kinds:
        given.check("rope_parameters", x, dict | None)
    full, windowed = (kinds[0] or {}) | (older or {}), kinds[1] or {}
    unknown = set(whole) - {"full_attention", "sliding_attention"}
    theta = given.take("rope_theta", family.default_theta, float)
    thetas = [rope.get("rope_theta", theta) for rope in (full, windowed)]
    if unknown or windowed.get("rope_type", "default") != "default" or thetas[0] != thetas[1]:
        wanted = "one rope_theta for full_attention and sliding_attention, and scaling for the former alone"
        given.fail("rope_parameters", f"expected {wanted}, got {whole}")
    if theta != family.default_theta and "rope_theta" not in windowed:
        given.fail("rope_theta", f"{family.name} reads it for full_attention only: name it in rope_parameters")
    given.values["rope_parameters"] = {"rope_theta": thetas[0]} | full


def _one_for_each_kind(given: Given, ours: dict, family: Family) -> None:
    """As above, where layers with windows have a rope_theta of their own: it goes into layer_rope_theta."""
    whole, older = (given.take(name, None, dict | None) or {} for name in ("rope_parameters", "rope_scaling"))
    kinds = [whole.get(f"{kind}_attention") for kind in ("full", "sliding")]
    for x in kinds:
        given.check("rope_parameters", x, dict | None)
    full, windowed = (family.default_rope if kinds[0] is None else kinds[0]) | older, kinds[1] or {}
    outside, local = given.take("rope_theta", family.default_theta), given.take("rope_local_base_freq", None)
    full.setdefault("rope_theta", outside)
    theta = windowed.get("rope_theta", family.window_theta if local is None else local)
    if set(whole) - {"full_attention", "sliding_attention"} or windowed.get("rope_type", "default") != "default":
        given.fail("rope_parameters", f"expected scaling for full_attention alone, got {whole}")
    for value in (theta, full["rope_theta"]):
        given.check("rope_theta", value, float, 1)
    kinds = ours["layer_types"]
    ours["layer_rope_theta"] = tuple(theta if kind == "sliding_attention" else full["rope_theta"] for kind in kinds)
    given.values["rope_parameters"] = full


def write_rope(config: HybridConfig, has_share: bool, by_kind: bool = False) -> dict:
    """The newer spelling."""
    if by_kind:
        thetas = [config.theta_of(n) for n, kind in enumerate(config.layer_types) if kind == "sliding_attention"]
        plain = {"rope_type": "default", "rope_theta": thetas[0] if thetas else config.rope_theta}
        return {"full_attention": write_rope(config, has_share), "sliding_attention": plain}
    rope = {"rope_type": "default", "rope_theta": config.rope_theta}
    if has_share:
        rope["partial_rotary_factor"] = config.partial_rotary_factor
    if config.rope_scaling is None:
        return rope
    plain = RopeScaling()
    for f in fields(RopeScaling):
        value = getattr(config.rope_scaling, f.name)
        if value is not None and value != getattr(plain, f.name) and f.name != "max_position_embeddings":
            rope[f.name] = value
    return rope
