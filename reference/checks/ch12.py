"""Checks for the exercises of chapter 12."""

from collections.abc import Callable

import numpy as np

from reference.checks._verdict import Wrong, exercise, expect_close

MISTRAL = {
    "model_type": "mistral",
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "hidden_act": "silu",
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-5,
}


@exercise("12.1", "Take q out")
def queries(answer: Callable) -> str:
    rng = np.random.default_rng(121)
    H, Dk, Dv, D = 3, 4, 5, 7
    q, k, v, z = (rng.normal(size=(H, n, D)) for n in (Dk, Dk, 2 * Dv, 2 * Dv))
    fused = np.concatenate([q, k, v, z], 1).reshape(-1, D)
    expect_close(
        answer(fused, H, Dk),
        q.reshape(-1, D),
        "q",
        mistakes={
            "Those are the first rows of the tensor: q, k and v of head 0 and more. Cut it by head first.": fused[
                : H * Dk
            ],
            "Those are the rows of k.": k.reshape(-1, D),
        },
    )
    return "Reshape to (H, rows of a head, D), cut, and fold again: no row is moved within a head."


@exercise("12.2", "Which key for which value?")
def key_heads(answer: object) -> str:
    tiled = "That tiles the key heads. Neighboring value heads share one: a key is repeated, then the next comes."
    expect_close(answer, [0, 0, 0, 1, 1, 1], "the list", mistakes={tiled: [0, 1, 0, 1, 0, 1]})
    return "repeat_interleave, not tile: the order in which the file has v beside its key head."


@exercise("12.3", "Bytes per token")
def bytes_per_token(answer: Callable) -> str:
    softmax, latent = {"kind": "softmax", "kv_heads": 2, "head_dim": 256}, {"kind": "latent", "rank": 512, "rope": 64}
    linear, window = {"kind": "linear"}, {"kind": "window"}
    for layers, wanted, half, numbers in (
        ([linear] * 3 + [softmax], 2048, 1024, 1024),
        ([linear, latent], 1152, 2304, 576),
        ([window, softmax], 2048, 1024, 1024),
    ):
        mistakes = {"bfloat16 has two bytes: you counted numbers.": numbers}
        if softmax in layers:
            mistakes = {"Keys *and* values are kept, two bytes each.": half}
        else:
            mistakes["A latent stands for keys and values both: it is kept once."] = half
        expect_close(answer(layers), wanted, f"bytes for {[x['kind'] for x in layers]}", mistakes=mistakes)
    expect_close(answer([linear] * 4), 0, "bytes for linear layers alone")
    return "Linear layers and full windows add nothing; a latent adds rank + rope numbers, whatever the heads."


@exercise("12.4", "Read a report")
def report(answer: object) -> str:
    expect_close(
        answer,
        2,
        "the block",
        mistakes={
            "The first number is the embedding's, so the fourth is block 2's.": 3,
            "That is where it happens to be small again. Look for the first jump.": 4,
        },
    )
    return "The first jump counts. That block 3 looks better means nothing: its input is wrong already."


@exercise("12.5", "Add a family")
def new_family(answer: object) -> str:
    import torch  # here: the checks of the NumPy chapters shouldn't wait for it

    from reference.checkpoints.family import Family
    from reference.checkpoints.given import Given
    from reference.checkpoints.translate import config_from_json, tensor_plan
    from reference.model.hybrid import HybridLM

    if not isinstance(answer, Family):
        raise Wrong(f"Expected a Family, got {type(answer).__name__}.")
    for fields, window in ((MISTRAL | {"sliding_window": 8}, 8), (MISTRAL, 4096)):
        config = config_from_json(answer, Given(dict(fields), "config.json"))
        if set(config.layer_types) != {"sliding_attention"}:
            raise Wrong(f"Every layer has a window; yours are {config.layer_types}.")
        if config.sliding_window != window:
            raise Wrong(f"sliding_window should be {window} here, yours is {config.sliding_window}.")
        if config.qk_norm is not None:
            raise Wrong("Mistral has no norm on q and k: say so with `always`.")
    with torch.device("meta"):
        model = HybridLM(config)
    with torch.no_grad():
        names = tensor_plan(answer, model, "model.")
    if "model.layers.2.self_attn.q_proj.weight" not in names or len(names) != 3 * 9 + 3:
        raise Wrong(f"The tensors' names aren't Mistral's; one of yours is {sorted(names)[-1]}.")
    return "A dozen lines: that is how far the families are apart."
