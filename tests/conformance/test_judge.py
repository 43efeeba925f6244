"""Other people's operators are judged rightly: ours pass, every piece of the museum is found and named."""

import json
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from reference.__main__ import main
from reference.conformance.cases import build_inputs, vector_cases
from reference.conformance.examples import CTYPES, EXAMPLES
from reference.conformance.judge import functions_of, judge
from reference.conformance.kernels import judge_kernel
from reference.conformance.layers import LAYER_MUSEUM, LAYERS, judge_layers
from reference.conformance.museum import MUSEUM, RIGHT, run_recurrence
from reference.model.block import build_mixer
from reference.ops import OPERATORS

DELTA_IN_C = """
void delta_rule(float *o, float *q, float *k, float *v, float *beta, int B, int T, int HV, int Dv, int Dk) {
  for (int b = 0; b < B; b++) for (int h = 0; h < HV; h++) {
    double S[32][32] = {{0}};
    for (int t = 0; t < T; t++) {
      float *key = k + ((b * T + t) * HV + h) * Dk, *query = q + ((b * T + t) * HV + h) * Dk;
      for (int j = 0; j < Dv; j++) {
        double held = 0, out = 0;
        for (int i = 0; i < Dk; i++) held += S[i][j] * key[i];
        double u = beta[(b * T + t) * HV + h] * (v[((b * T + t) * HV + h) * Dv + j] - held);
        for (int i = 0; i < Dk; i++) { S[i][j] += key[i] * u; out += S[i][j] * query[i]; }
        double root = Dk; for (int n = 0; n < 40; n++) root = 0.5 * (root + Dk / root);
        o[((b * T + t) * HV + h) * Dv + j] = out / root;
      }
    }
  }
}
"""


def make(how, operator):
    """A function on NumPy arrays with one fault of the museum (RIGHT: with none)."""

    def function(q, k, v, *rest, initial_state=None, output_final_state=False, **keywords):
        x = {"q": q, "k": k, "v": v} | dict(zip(OPERATORS[operator].extras, rest, strict=True))
        x |= {} if initial_state is None else {"initial_state": initial_state}
        keywords["cu_seqlens"] = None if keywords.get("cu_seqlens") is None else list(keywords["cu_seqlens"])
        return run_recurrence(x, keywords, how)

    return function


@pytest.mark.parametrize("name", OPERATORS)
def test_the_recurrence_of_the_museum_without_a_fault_is_right_and_so_are_ours(name):
    findings = [*judge("mine", name, make(RIGHT, name), arrays="numpy")]
    findings += [f for form in ("chunk", "recurrent") for f in judge(form, name, getattr(OPERATORS[name], form))]
    assert len(findings) > 20 and {f.state for f in findings} == {"right"}
    assert any("gradients" in f.said for f in findings) and any("final_state" in f.said for f in findings)


@pytest.mark.parametrize("words", MUSEUM)
def test_every_piece_of_the_museum_is_found_and_named(words):
    named, wrong = set(), 0
    for operator in ("kda", "gated_delta_rule"):
        for finding in judge("mine", operator, make(MUSEUM[words], operator), arrays="numpy"):
            wrong += finding.state == "wrong"
            named |= set(finding.resembles)
    assert wrong and words in named


def test_what_a_function_lacks_is_not_tried_and_what_it_changes_is_said():
    def bare(q, k, v, beta):
        return make(RIGHT, "delta_rule")(q, k, v, beta)[0]

    states = {f.case: f.state for f in judge("mine", "delta_rule", bare, arrays="numpy")}
    assert states["packed"] == states["scaled"] == states["l2norm"] == "not tried" and states["odd_length"] == "right"

    def careless(q, k, v, beta):
        o, _ = OPERATORS["delta_rule"].chunk(q, k, v, beta)
        v.data += 1
        return o

    assert any("has changed its argument v" in f.said for f in judge("mine", "delta_rule", careless))


def test_a_gradient_a_shape_a_chunk_and_an_exception_are_told_apart():
    def said(change, operator="delta_rule"):
        return [f.said for f in judge("mine", operator, change) if f.state == "wrong"]

    def no_gradient_of_k(q, k, v, beta):
        return OPERATORS["delta_rule"].chunk(q, k.detach(), v, beta)[0]

    assert any("gradient of k is missing" in words for words in said(no_gradient_of_k))
    assert any("shape" in words for words in said(lambda q, k, v, beta: v[:, :0]))
    assert any("raised KeyError" in words for words in said(lambda q, k, v, beta: {}["x"]))

    def lost(q, k, v, beta):
        halves = [x.split(64, 1) for x in (q, k, v, beta)]
        return torch.cat([OPERATORS["delta_rule"].chunk(*x)[0] for x in zip(*halves, strict=True)], 1)

    assert any("tokens 0 to 63 are right: look at what passes from chunk to chunk" in words for words in said(lost))


def test_kernels_are_also_asked_for_lengths_strides_half_precision_and_repetition():
    cases = {f.case: f.state for f in judge_kernel("mine", "kda", OPERATORS["kda"].chunk, tolerance=2e-5)}
    assert set(cases.values()) == {"right"} and {"strided", "bfloat16", "twice", "300_tokens"} <= cases.keys()

    def flat(q, k, v, g, beta):  # reads memory as if it were contiguous
        again = [torch.as_strided(x, x.shape, torch.empty(x.shape).stride()) for x in (q, k, v, g, beta)]
        return OPERATORS["kda"].chunk(*again)

    def racy(q, k, v, g, beta):
        o, S = OPERATORS["kda"].chunk(q, k, v, g, beta)
        return o + 1e-7 * np.random.default_rng().random(), S

    def half(q, k, v, g, beta):
        return OPERATORS["kda"].chunk(*(x.to(torch.bfloat16).float() for x in (q, k, v, g, beta)))

    for function, case in ((flat, "strided"), (racy, "twice"), (half, "300_tokens")):
        states = {f.case: f.state for f in judge_kernel("mine", "kda", function, tolerance=2e-5)}
        assert states[case] == "wrong"


def layer(change=lambda weights: weights):
    def function(x, weights, config):
        built = build_mixer(config, 0)
        built.load_state_dict(change(weights), strict=False)
        with torch.no_grad():
            return built(x)[0]

    return function


def test_layers_are_right_and_their_faults_are_named():
    whole = SimpleNamespace(__name__="m", **{kind: layer() for kind in LAYERS})
    assert {f.state for f in judge_layers(whole)} == {"right"}
    found = set()
    for change in LAYER_MUSEUM.values():
        module = SimpleNamespace(
            __name__="m", **{kind: layer(change) for kind in ("linear_attention", "full_attention")}
        )
        found |= {words for f in judge_layers(module) for words in f.resembles}
    assert found == set(LAYER_MUSEUM)
    with pytest.raises(ValueError, match="mine: m has no layer to check; expected one of linear_attention"):
        list(judge_layers(SimpleNamespace(__name__="m")))


@pytest.mark.parametrize("title", EXAMPLES)
def test_the_examples_run(title, tmp_path, monkeypatch):
    if EXAMPLES[title] == CTYPES:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            pytest.skip("no C compiler")
        (tmp_path / "delta.c").write_text(DELTA_IN_C)
        subprocess.run([compiler, "-shared", "-fPIC", "-o", "libdelta.so", "delta.c"], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    scope = SimpleNamespace(__name__="example")
    exec(EXAMPLES[title], scope.__dict__)
    for name, (operator, function) in functions_of(scope).items():
        findings = list(judge(name, operator, function, arrays=scope.ARRAYS))
        assert {f.state for f in findings} <= {"right", "not tried"}, findings
        assert sum(f.state == "right" for f in findings) >= 6


def test_the_command_says_it_and_ends_with_a_status(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "right_ops.py").write_text("from reference.ops import chunk_delta_rule\n")
    (tmp_path / "wrong_ops.py").write_text(
        "from reference import ops\n\n\ndef delta_rule(q, k, v, beta):\n"
        "    return ops.chunk_linear_attention(q, k, beta[..., None] * v)[0]\n"
    )
    (tmp_path / "broken_ops.py").write_text("1 / 0\n")
    (tmp_path / "empty_ops.py").write_text("ARRAYS = 'jax'\n")
    assert main(["check", "ops", "--mine", "right_ops"]) == 0
    assert capsys.readouterr().out == "chunk_delta_rule: 11 right\n"
    assert main(["check", "ops", "--mine", "wrong_ops"]) == 1
    assert "nothing is read before the write: this is Hebb's rule" in capsys.readouterr().out
    assert main(["check", "ops", "--mine", "wrong_ops", "--json"]) == 1
    assert {f["function"] for f in json.loads(capsys.readouterr().out)} == {"delta_rule"}
    for name, words in (
        ("broken_ops", "can't be imported: ZeroDivisionError"),
        ("empty_ops", "expected 'torch' or 'numpy', got 'jax'"),
        ("json", "has nothing to check"),
        ("nowhere.at.all", "there is no module"),
    ):
        assert main(["check", "ops", "--mine", name]) == 2
        assert words in capsys.readouterr().err
    assert main(["check", "--examples"]) == 0


def test_cases_of_vectors_are_those_that_are_judged():
    assert {about["operator"] for _, about in vector_cases()} == set(OPERATORS)
    x = build_inputs("kda", {"T": 3}, None, 1, 0)
    assert x["initial_state"].shape == (1, 1, 8, 8)
