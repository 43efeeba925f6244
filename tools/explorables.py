"""The numbers behind the site's moving figures: `python -m tools.explorables` writes site/_static/explore/data.js.

The figures are plain JavaScript (site/_static/explore). What they show of models comes from the book's tables, and
their arithmetic is compared with NumPy by a transcript: calls of reference/equations.py and what they return. A test
computes this file again, and lets a browser's functions answer the transcript.
"""

import json

import numpy as np
import torch

from reference.book.manifest import ROOT
from reference.checkpoints.published import PUBLISHED, published_config
from reference.equations import decayed_hebbian_step, delta_step, gated_delta_step, hebbian_step, kda_step, read
from reference.files import write_text
from reference.layers.rope import apply_rope
from reference.model.costs import bytes_of_cache
from reference.ops import index_scores, lightning_indexer

DATA = ROOT / "site" / "_static" / "explore" / "data.js"
MODELS = ("llama", "minimax_m2", "qwen3_next", "kimi_linear", "minimax", "deepseek_v32")
TEXT = "the cat sat on the mat and the dog sat on the log while the cat saw the dog"
LONG = 2**20
SEED = 0


def transcript() -> list[dict]:
    """Calls of the rules with random numbers, and what NumPy answers."""
    rng, cases = np.random.default_rng(SEED), []
    for _ in range(8):
        S, k, v = rng.normal(size=(4, 3)).round(2), rng.normal(size=4).round(2), rng.normal(size=3).round(2)
        k = np.eye(4)[0] if not len(cases) else k / np.linalg.norm(k)
        beta, factors = rng.uniform(0, 1), rng.uniform(0.1, 1, size=4)
        g = np.log(factors)
        wanted = {
            "read": read(S, k),
            "hebb": hebbian_step(S, k, v, beta),
            "delta": delta_step(S, k, v, beta),
            "gated": gated_delta_step(S, k, v, g[0], beta),
            "kda": kda_step(S, k, v, g, beta),
            "decayed": decayed_hebbian_step(S, k, v, g, beta),
        }
        inputs = {"S": S, "k": k, "v": v, "beta": beta, "factors": factors}
        cases.append({key: np.asarray(x).tolist() for key, x in (inputs | wanted).items()})
    return cases


def triangle_case() -> dict:
    """Five keys, their triangle A, and the inverse of I + A by NumPy."""
    rng = np.random.default_rng(SEED + 1)
    keys, betas = rng.normal(size=(5, 4)), rng.uniform(0, 1, size=5)
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    A = np.tril(betas[:, None] * (keys @ keys.T), -1)
    return {"keys": keys.tolist(), "betas": betas.tolist(), "A": A.tolist(), "X": np.linalg.inv(np.eye(5) + A).tolist()}


def turned() -> list[dict]:
    """Pairs of numbers, turned by the rotary position code of the models: position m, `frequency` radians each."""
    rng, cases = np.random.default_rng(SEED + 2), []
    for position in (0, 1, 5, 17):
        pair, frequency = rng.normal(size=2), float(rng.uniform(0.05, 1))
        x = torch.from_numpy(pair)[None, None, None]
        out = apply_rope(x, torch.tensor([position]), torch.tensor([frequency], dtype=torch.float64))
        cases.append({"pair": pair.tolist(), "angle": position * frequency, "turned": out.flatten().tolist()})
    return cases


def selection() -> dict:
    """A text and an indexer of two heads that is written by hand: a token looks for what followed the same word before
    (the key is the word before, weight 2) and for the same word (weight 1). Whole numbers, so that ties are ties."""
    tokens = TEXT.split()
    words = sorted(set(tokens))
    here = torch.eye(len(words), dtype=torch.float64)[[words.index(token) for token in tokens]]
    before = torch.cat([torch.zeros_like(here[:1]), here[:-1]])
    k = torch.cat([before, here], 1)[None]
    none = torch.zeros_like(here)
    q = torch.stack([torch.cat([here, none], 1), torch.cat([none, here], 1)], 1)[None]
    w = torch.tensor([2.0, 1.0], dtype=torch.float64).expand(1, len(tokens), 2)
    scores = index_scores(q, k, w, scale=1.0)[0]
    chosen = lightning_indexer(q, k, w, top_k=4, scale=1.0)[0]
    return {
        "tokens": tokens,
        "scores": [[int(x) if x > float("-inf") else -1 for x in row] for row in scores.tolist()],
        "chosen": [sorted(i for i in row if i >= 0) for row in chosen.tolist()],
    }


def model_bytes() -> list[dict]:
    """Of published models: bytes of the state of one text, and of its cache per token."""
    rows = []
    for family in MODELS:
        config = published_config(family)
        growth = bytes_of_cache(config, LONG + 1) - bytes_of_cache(config, LONG)
        fixed = bytes_of_cache(config, LONG) - LONG * growth
        rows.append({"name": PUBLISHED[family].model, "state": fixed, "per_token": growth})
    return rows


def compute() -> dict:
    """All that data.js holds."""
    rules = {"steps": transcript(), "triangle": triangle_case(), "turned": turned()}
    return {"rules": rules, "selection": selection(), "models": model_bytes()}


def stored() -> dict:
    """What data.js holds now."""
    return json.loads(DATA.read_text(encoding="utf-8").split("= ", 1)[1].rstrip(";\n"))


def main() -> None:
    about = (
        "/* Written by `python -m tools.explorables`: models from the book's tables, and calls answered by NumPy. */\n"
    )
    write_text(DATA, f"{about}const exploreData = {json.dumps(compute(), indent=None)};\n")
    print(f"written: {DATA}")


if __name__ == "__main__":
    main()
