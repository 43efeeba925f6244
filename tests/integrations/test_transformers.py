"""transformers' models with our operators inside: the same numbers, and everything put back."""

import sys
from collections import Counter

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from reference.integrations import transformers as integration
from reference.integrations.transformers import REPLACEMENTS, fast_linear_attention

COMMON = {
    "vocab_size": 97,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": None,
}
LINEAR = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
FAMILIES = {
    "qwen3_next": COMMON | LINEAR | EXPERTS | {"num_hidden_layers": 4, "shared_expert_intermediate_size": 32},
    "qwen3_5_text": COMMON | LINEAR | {"num_hidden_layers": 4},
    "olmo_hybrid": COMMON | LINEAR | {"num_hidden_layers": 4},
    "kimi_linear": COMMON
    | {
        "num_key_value_heads": 4,
        "num_hidden_layers": 5,
        "linear_head_dim": 16,
        "linear_num_heads": 4,
        "num_local_experts": 4,
    }
    | {"num_experts_per_tok": 2, "moe_intermediate_size": 32, "kv_lora_rank": 16, "qk_rope_head_dim": 8}
    | {"qk_nope_head_dim": 16, "v_head_dim": 16},
}


@pytest.fixture(scope="module", params=FAMILIES)
def model(request):
    torch.manual_seed(0)
    config = AutoConfig.for_model(request.param, **FAMILIES[request.param])
    return AutoModelForCausalLM.from_config(config).eval()


def ids(T=70):
    return torch.randint(2, 97, (2, T), generator=torch.Generator().manual_seed(T))


def relative(got, wanted):
    return ((got - wanted).abs().max() / wanted.abs().max()).item()


@torch.no_grad()
def test_logits_are_the_same(model):
    wanted = model(ids(131)).logits
    with fast_linear_attention():
        assert relative(model(ids(131)).logits, wanted) < 1e-5


@torch.no_grad()
def test_generation_with_a_cache_is_the_same(model):
    keywords = {"max_new_tokens": 12, "do_sample": False, "attention_mask": torch.ones_like(ids())}
    wanted = model.generate(ids(), **keywords)
    with fast_linear_attention():
        assert torch.equal(model.generate(ids(), **keywords), wanted)


def test_gradients_are_the_same(model):
    def gradient():
        model.zero_grad()
        model(ids(), labels=ids()).loss.backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    wanted = gradient()
    with fast_linear_attention():
        assert relative(gradient(), wanted) < 1e-4


@torch.no_grad()
def test_the_replacements_are_really_called(model, monkeypatch):
    calls = Counter()
    for name, replacement in REPLACEMENTS.items():

        def counted(*args, name=name, replacement=replacement, **kwargs):
            calls[name] += 1
            return replacement(*args, **kwargs)

        monkeypatch.setitem(integration.REPLACEMENTS, name, counted)
    with fast_linear_attention():
        model.generate(ids(9), max_new_tokens=3, do_sample=False, attention_mask=torch.ones_like(ids(9)))
    n_linear = sum(kind == "linear_attention" for kind in model.config.layer_types)
    assert sum(n for name, n in calls.items() if "recurrent" not in name) == n_linear  # the prompt
    assert sum(n for name, n in calls.items() if "recurrent" in name) == 2 * n_linear  # two more tokens


def originals():
    modules = {name: m for name, m in sys.modules.items() if name.startswith("transformers.models.")}
    return {(key, name): vars(m)[name] for key, m in modules.items() for name in REPLACEMENTS if name in vars(m)}


def test_everything_is_put_back_after_an_error_and_after_nesting(model):
    before = originals()
    with pytest.raises(ZeroDivisionError), fast_linear_attention() as outer:
        assert originals() != before
        with fast_linear_attention() as inner:
            assert inner == outer
        assert originals() != before
        _ = 1 / 0
    assert originals() == before
    assert any(name.startswith(type(model).__module__) for name in outer)


def test_without_a_loaded_model_it_says_so(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("transformers.models.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(RuntimeError, match="load the model first"), fast_linear_attention():
        pass
