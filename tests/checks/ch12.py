"""Answers to the exercises of chapter 12: right ones, and wrong ones with a part of what the check says."""

from reference.checkpoints.families import BY_TYPE
from reference.checkpoints.family import TRUNK, Family, same


def queries(fused, H, Dk):
    return fused.reshape(H, -1, fused.shape[1])[:, :Dk].reshape(H * Dk, -1)


def per_token(layers):
    each = {"softmax": lambda x: 2 * x["kv_heads"] * x["head_dim"], "latent": lambda x: x["rank"] + x["rope"]}
    return 2 * sum(each[x["kind"]](x) for x in layers if x["kind"] in each)


def mistral(**changes):
    fields = {
        "name": "mistral",
        "architecture": "MistralForCausalLM",
        "fields": TRUNK | same(sliding_window=4096),
        "always": {"qk_norm": None},
        "only": {"hidden_act": ("silu",)},
        "mixers": {"sliding_attention": "sliding_attention"},
        "default_layers": lambda n, given: ["sliding_attention"] * n,
        "says_layers": False,
    }
    return Family(**fields | changes)


RIGHT = {"12.1": queries, "12.2": [0, 0, 0, 1, 1, 1], "12.3": per_token, "12.4": 2, "12.5": mistral()}
WRONG = [
    ("12.1", lambda fused, H, Dk: fused[: H * Dk], "Cut it by head first"),
    ("12.1", lambda fused, H, Dk: fused.reshape(H, -1, 7)[:, Dk : 2 * Dk].reshape(-1, 7), "rows of k"),
    ("12.2", [0, 1, 0, 1, 0, 1], "That tiles"),
    ("12.3", lambda layers: per_token(layers) / 2, "two bytes"),
    ("12.3", lambda layers: per_token(layers) * (2 if layers[-1]["kind"] == "latent" else 1), "kept once"),
    ("12.4", 3, "the fourth is block 2's"),
    ("12.4", 4, "first jump"),
    ("12.5", "mistral", "Expected a Family"),
    ("12.5", BY_TYPE["llama"], "sliding_window: not known here"),
    ("12.5", mistral(fields=TRUNK | same(sliding_window=8)), "should be 4096"),
    ("12.5", mistral(always={"qk_norm": "head"}), "no norm on q and k"),
    ("12.5", mistral(mixer={"sliding_attention": "attn."}), "aren't Mistral's"),
]
