"""Tensors that are not one to one with ours: experts apart or folded, projections split, fused, interleaved."""

from reference.checkpoints.pieces import BlockTensors, Layout, Pieces, ShapeInFile, TensorPlan
from reference.layers.mixers import mixer
from reference.model.config import HybridConfig


def separate_experts(gate: str, up: str, down: str, where: str = "mlp.experts.") -> Layout:
    """One tensor per expert and matrix in the file; ours are stacked, gate above up."""

    def plan(block: BlockTensors, config: HybridConfig, shape_in_file: ShapeInFile) -> TensorPlan:
        both, back, found = block["mlp.gate_up_proj"], block["mlp.down_proj"], {}
        width = back.shape[-1]
        for expert in range(len(both)):
            found[f"{where}{expert}.{gate}.weight"] = Pieces((both[expert, :width],))
            found[f"{where}{expert}.{up}.weight"] = Pieces((both[expert, width:],))
            found[f"{where}{expert}.{down}.weight"] = Pieces((back[expert],))
        return found

    return Layout(("mlp.gate_up_proj", "mlp.down_proj"), plan)


def separate_plain_experts(up: str, down: str, where: str = "mlp.experts.") -> Layout:
    """As separate_experts, of experts without a gate."""

    def plan(block: BlockTensors, config: HybridConfig, shape_in_file: ShapeInFile) -> TensorPlan:
        theirs = {up: block["mlp.up_proj"], down: block["mlp.down_proj"]}
        return {
            f"{where}{expert}.{name}.weight": Pieces((matrix,))
            for name, stacked in theirs.items()
            for expert, matrix in enumerate(stacked)
        }

    return Layout(("mlp.up_proj", "mlp.down_proj"), plan)


def experts_apart_or_stacked(gate: str, up: str, down: str) -> Layout:
    """As separate_experts, or all experts in two tensors, stacked as ours: the files on the Hub and those that
    transformers saves differ in it (Qwen3.5-MoE). We write them apart."""
    separate = separate_experts(gate, up, down)

    def plan(block: BlockTensors, config: HybridConfig, shape_in_file: ShapeInFile) -> TensorPlan:
        if shape_in_file("mlp.experts.gate_up_proj") is None:
            return separate.plan(block, config, shape_in_file)
        return STACKED_EXPERTS.plan(block, config, shape_in_file)

    return Layout(separate.ours, plan)


def _stacked(block: BlockTensors, config: HybridConfig, shape_in_file: ShapeInFile) -> TensorPlan:
    return {f"mlp.experts.{name}": Pieces((block[f"mlp.{name}"],)) for name in ("gate_up_proj", "down_proj")}


# Mistral 4: all experts in two tensors, as ours.
STACKED_EXPERTS = Layout(("mlp.gate_up_proj", "mlp.down_proj"), _stacked)


def _alternating(block: BlockTensors, config: HybridConfig, shape_in_file: ShapeInFile) -> TensorPlan:
    both, back = block["mlp.gate_up_proj"], block["mlp.down_proj"]  # [E, 2 I, D], [E, D, I]
    experts, model, width = back.shape
    columns = both.unflatten(1, (2, width)).permute(0, 3, 2, 1)  # [E, D, I, 2]
    bias = block["mlp.gate_up_bias"].unflatten(1, (2, width)).mT  # [E, I, 2]
    return {
        "mlp.experts.gate_up_proj": Pieces((columns,), shape=(experts, model, 2 * width)),
        "mlp.experts.gate_up_proj_bias": Pieces((bias,), shape=(experts, 2 * width)),
        "mlp.experts.down_proj": Pieces((back.mT,)),
        "mlp.experts.down_proj_bias": Pieces((block["mlp.down_bias"],)),
    }


# gpt-oss: all experts in one tensor, transposed, with a column of gate beside each column of up.
ALTERNATING_EXPERTS = Layout(("mlp.gate_up_proj", "mlp.down_proj", "mlp.gate_up_bias", "mlp.down_bias"), _alternating)


def _interleaved(block: BlockTensors, config: HybridConfig, shape_in_file: ShapeInFile) -> TensorPlan:
    heads, per_key = config.linear_num_key_heads, config.linear_num_value_heads // config.linear_num_key_heads
    keys, values = heads * config.linear_key_head_dim, config.linear_num_value_heads * config.linear_value_head_dim
    q, k, v = block["mixer.in_proj_qkv.weight"].split([keys, keys, values])
    z, b, a = (block[f"mixer.in_proj_{x}.weight"] for x in "zba")
    qkvz = tuple(x.unflatten(0, (heads, -1)) for x in (q, k, v, z))  # [H, rows of one key head, D]
    ba = tuple(x.unflatten(0, (heads, per_key)) for x in (b, a))
    width = config.hidden_size
    return {
        "linear_attn.in_proj_qkvz.weight": Pieces(qkvz, 1, (2 * (keys + values), width)),
        "linear_attn.in_proj_ba.weight": Pieces(ba, 1, (2 * config.linear_num_value_heads, width)),
    }


# Qwen3-Next: the rows of q, k, v and z of one key head follow one another, then the next head's; b and a alike.
# A key head has HV / H value heads. Reading the rows as q of all heads, k of all heads, ... gives a model that
# runs and is wrong: https://github.com/ggml-org/llama.cpp/pull/18683
INTERLEAVED_BY_KEY_HEAD = Layout(tuple(f"mixer.in_proj_{x}.weight" for x in ("qkv", "z", "b", "a")), _interleaved)


def apart(ours: str, *theirs: str, anywhere: bool = False) -> Layout:
    """One tensor of ours, q above k above v, is three of theirs.

    anywhere: cut where the file cuts. transformers 5.23 joins Olmo's three convolutions and saves them as three equal
    parts, whatever the widths of keys and values; joined again they are right.
    """

    def plan(block: BlockTensors, config: HybridConfig, shape_in_file: ShapeInFile) -> TensorPlan:
        whole = block[ours]
        sizes = next(filter(None, (mixer(kind).conv_channels(config) for kind in config.layer_types)))
        in_file = [shape_in_file(name) for name in theirs]
        if anywhere and all(in_file) and sum(shape[0] for shape in in_file) == whole.shape[0]:
            sizes = [shape[0] for shape in in_file]
        return {name: Pieces((part,)) for name, part in zip(theirs, whole.split(sizes), strict=True)}

    return Layout((ours,), plan)


def _gate_apart(block: BlockTensors, config: HybridConfig, shape_in_file: ShapeInFile) -> TensorPlan:
    both, heads, width = block["mixer.q_proj.weight"], config.num_attention_heads, config.head_dim
    if config.attention_gate is None:
        return {"self_attn.q_proj.weight": Pieces((both,))}
    rows = both.unflatten(0, (heads, -1))  # [H, D + 1, d_model]: a head's query, then the logit of its gate
    return {
        "self_attn.q_proj.weight": Pieces((rows[:, :width],), shape=(heads * width, both.shape[1])),
        "self_attn.gate_proj.weight": Pieces((rows[:, width],)),
    }


# LFM3: the gates of the heads have a projection of their own, where ours stand beside the queries.
HEAD_GATE_APART = Layout(("mixer.q_proj.weight",), _gate_apart)


def flat(ours: str, theirs: str) -> Layout:
    """A tensor of ours with axes of one is a vector in the file."""

    def plan(block: BlockTensors, config: HybridConfig, shape_in_file: ShapeInFile) -> TensorPlan:
        return {theirs: Pieces((block[ours],), shape=(block[ours].numel(),))}

    return Layout((ours,), plan)


def gate_above_up(ours: str, theirs: str) -> Layout:
    """A SwiGLU whose gate and up are one matrix in the file (Granite)."""

    def plan(block: BlockTensors, config: HybridConfig, shape_in_file: ShapeInFile) -> TensorPlan:
        gate, up, down = (block[f"{ours}{part}_proj.weight"] for part in ("gate", "up", "down"))
        return {f"{theirs}input_linear.weight": Pieces((gate, up)), f"{theirs}output_linear.weight": Pieces((down,))}

    return Layout(tuple(f"{ours}{part}_proj.weight" for part in ("gate", "up", "down")), plan)
