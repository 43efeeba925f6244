"""torch.compile takes the operators whole, forward and backward: no graph break."""

import pytest
import torch

from tests.ops.helpers import NAMES, chunk, error, random_inputs, random_state


@pytest.mark.filterwarnings("ignore")  # torch's own warnings while it traces
@pytest.mark.parametrize("name", NAMES)
def test_the_compiled_operator_is_one_graph_with_the_same_numbers(name):
    inputs = random_inputs(name, T=70, H=1, HV=2)
    leaves = {key: x.requires_grad_() for key, x in (inputs | {"initial_state": random_state(inputs)}).items()}

    def gradients(op):
        o, S = op(**leaves, output_final_state=True, use_qk_l2norm_in_kernel=True)
        return o, S, *torch.autograd.grad(o.square().sum() + S.square().sum(), list(leaves.values()))

    torch.compiler.reset()
    compiled = torch.compile(chunk(name), fullgraph=True, backend="aot_eager")
    assert all(error(a, b) < 1e-5 for a, b in zip(gradients(compiled), gradients(chunk(name)), strict=True))
