"""Families that don't load, and what this code would need for each: the one place that says so.

Loading refuses them by name with their sentence, and the appendix of tensors lists them.
"""

_SHARED = "an indexer whose choice the layers behind it use as well"
# model_type in config.json -> what is missing here
MISSING = {
    "deepseek_v4": "compressed keys shared by all heads, and hyper-connections in place of the residual stream",
    "glm5_next": (
        "an indexer over pools of four tokens, and hyper-connections: four residual streams, mixed by matrices of the "
        "token"
    ),
    "qwen4_exp": (
        "an indexer over keys averaged in blocks, hyper-connections: four residual streams, read and written by gates "
        "of the token, and embeddings of hashed n-grams with a convolution of their own"
    ),
    "minimax_m3_vl": "an indexer that chooses blocks of keys, for each key head its own",
    "hy_v4": "sinks behind an indexer, and hyper-connections in place of the residual stream",
    "glm_moe_dsa": _SHARED,
    "mistral_large4": f"{_SHARED}, and scores whose sharpness grows with the position",
    "axk2": "an indexer beside gated norms and gated MLPs",
    "dots3_note": "an indexer in some layers and windows in others",
    "longcat_flash": "two latent attentions in one layer, and experts that return what they read",
    "inkling": "scores that add a learned function of the distance, and short convolutions in front of each residual",
    "inkling2": "scores that add a learned function of the distance, and attention over the layers' residuals",
    "zamba2": (
        "one softmax block that many layers share, its MLP as well, with a LoRA for each place: it reads the "
        "embeddings beside the stream, and what it returns goes into Mamba-2 and not into the stream"
    ),
    "zamba": "Mamba-1 in several heads, and one softmax block that many layers share",
    "rwkv": "RWKV-4's attention: a weighted mean with one decay per channel",
    "xlstm": "mLSTM's memory with its exponential gates",
    "zaya": "attention over compressed and convolved queries and keys",
}
_ENDINGS = ("", "_text", "_mm_model")
_MORE = {"minimax_m3": "minimax_m3_vl", "minimax_m3_vl_text": "minimax_m3_vl"}


def what_is_missing(model_type: object) -> str | None:
    """The sentence for a family that is known and doesn't load; None for any other."""
    if not isinstance(model_type, str):
        return None
    names = [_MORE.get(model_type, model_type), *(model_type.removesuffix(end) for end in _ENDINGS if end)]
    return next((MISSING[name] for name in names if name in MISSING), None)
