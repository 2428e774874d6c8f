"""Biases: zero is none, each stands behind its own matrix, and what softmax cannot see."""

import pytest
import torch

from qkvlab import Attention
from qkvlab.contracts import Dims
from qkvlab.designs import parse
from qkvlab.errors import Refusal


def layer(name, **sizes):
    torch.manual_seed(0)
    return Attention(name, d_model=16, heads=2, **sizes).double()


X = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def filled(attn, **numbers):
    with torch.no_grad():
        for name, number in numbers.items():
            getattr(attn.projections, name).copy_(
                number * torch.arange(1.0, 1 + getattr(attn.projections, name).numel())
            )
    return attn


@pytest.mark.parametrize("name", ["QKV", "QKK/kv1", "QQV", "XKV", "QQV/noself"])
def test_biases_of_zero_are_none(name):
    with_, without = layer(f"{name}/bias"), layer(name)
    without.load_state_dict({n: w for n, w in with_.state_dict().items() if not n.endswith("bias")})
    with_.out.bias.data.zero_()
    assert torch.equal(with_(X, causal=True), without(X, causal=True))


def test_each_bias_stands_behind_its_matrix():
    attn = filled(layer("QKV/biasqkv"), q_bias=0.1, k_bias=-0.2, v_bias=0.3)
    own = attn.projections
    trace = attn.trace(X)
    for got, name in ((trace.q, "q"), (trace.k, "k"), (trace.v, "v")):
        wanted = X @ getattr(own, name) + getattr(own, f"{name}_bias")
        torch.testing.assert_close(got.swapaxes(1, 2).flatten(2), wanted)
    assert attn.out.bias is None and layer("QKV/bias").out.bias is not None


def test_a_shared_matrix_has_one_bias():
    assert set(parse("QKK/bias").matrices(Dims.of(16, 2))) == {"q", "k", "q_bias", "k_bias"}
    assert set(parse("QQV/bias").matrices(Dims.of(16, 2))) == {"q", "v", "q_bias", "v_bias"}
    assert set(parse("XXX/bias").matrices(Dims.of(16, 2))) == set()


def test_softmax_does_not_see_a_bias_behind_keys_unless_something_else_does():
    for name, changes in (("QKV/bias", False), ("QKV/bias/rope", True), ("QQV/bias", True), ("QKV/bias/sink", True)):
        attn = layer(name)
        before = attn.trace(X).weights
        filled(attn, **({"q_bias": 0.1} if "QQV" in name else {"k_bias": 0.1}))
        same = torch.allclose(attn.trace(X).weights, before, rtol=0, atol=1e-12)
        assert same != changes, name


def test_costs_count_biases_as_parameters_only():
    plain, biased = (parse(name).cost(Dims.of(16, 2)) for name in ("QKV", "QKV/bias"))
    assert biased.parameters == plain.parameters + 3 * 16
    assert (biased.flops_per_token, biased.cache_per_token) == (plain.flops_per_token, plain.cache_per_token)


def test_nothing_to_stand_behind():
    with pytest.raises(Refusal, match="no matrix"):
        layer("XXX/biasqkv")


def test_planted_bias_behind_the_wrong_matrix(monkeypatch):
    from qkvlab.designs import ways
    from qkvlab.testing import CHECKS

    def mixed_up(x, weights, name):
        return x @ weights[name] + weights.get(f"{'k' if name == 'q' else name}_bias", 0)

    monkeypatch.setattr(ways, "times", mixed_up)
    judge = next(check for check in CHECKS if check.__name__ == "gradients_reach_every_trained_matrix")
    with pytest.raises(AssertionError, match="q_bias"):
        judge(parse("QKV/bias"))
