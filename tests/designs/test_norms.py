"""Norms, low rank and what stands between q and k: identities, papers in plain code, and planted bugs."""

import math

import pytest
import torch

from qkvlab import Attention
from qkvlab.contracts import Dims
from qkvlab.designs import design as seam
from qkvlab.designs import pairwise, parse, qknorm, unit
from qkvlab.errors import BadInput, Refusal
from qkvlab.testing import CHECKS
from qkvlab.testing.sizes import redrawn

JUDGES = {check.__name__: check for check in CHECKS}


def draw(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


X = draw(2, 5, 16)


def layer(name, *, seed=0, **sizes):
    torch.manual_seed(seed)
    attn = Attention(name, **({"d_model": 16, "heads": 2} | sizes)).double()
    redrawn(attn.projections)
    return attn


# identities


def test_a_norm_of_what_is_normed_changes_nothing():
    q = seam.rms_normed(draw(2, 3, 8), 1e-30)
    torch.testing.assert_close(seam.rms_normed(q, 1e-30), q, rtol=0, atol=1e-15)
    torch.testing.assert_close(q.square().mean(-1), torch.ones(2, 3, dtype=torch.float64))


def test_qknorm_forgets_the_size_of_x_and_unitnorm_too():
    for name, tolerance in (("QKV/qknorm-eps1e-20", 1e-12), ("QKV/unitnorm", 1e-12)):
        attn = layer(name)
        torch.testing.assert_close(attn.trace(X).weights, attn.trace(7 * X).weights, rtol=0, atol=tolerance)


def test_a_shared_unit_norm_makes_the_diagonal_the_exact_maximum():
    scores = layer("QQV/unitnorm").trace(X).scores
    own = scores.diagonal(dim1=-2, dim2=-1)
    assert bool((scores <= own[..., None] + 1e-12).all()) and bool((own > 0).all())
    torch.testing.assert_close(own, own[..., :1, :1].expand_as(own))


def test_unequal_gains_take_the_maximum_from_the_diagonal():
    attn = layer("QQV/qknorm")
    equal = attn.projections.q_gain.detach().clone()
    attn.projections.k_gain.data.copy_(equal)
    scores = attn.trace(X).scores
    torch.testing.assert_close(scores, scores.mT, msg="equal gains keep scores symmetric")
    attn.projections.k_gain.data.copy_(-equal)
    scores = attn.trace(X).scores
    assert bool((scores.diagonal(dim1=-2, dim2=-1) < scores.amax(-1)).any())


@pytest.mark.parametrize("part", ["", "/qknorm", "/unitnorm", "/unitkeys", "/rank3", "/bias", "/rope"])
def test_with_one_matrix_for_both_qkv_is_qqv(part):
    tied, free = layer(f"QQV{part}"), layer(f"QKV{part}")
    state = tied.state_dict()
    for name in list(state):
        if name.split(".")[-1].startswith("q") and "gain" not in name:
            state[name.replace(".q", ".k")] = state[name]
    free.load_state_dict(state)
    assert torch.equal(tied(X, causal=True), free(X, causal=True))


def test_full_rank_is_dense():
    thin, dense = layer("QKV/rank16"), layer("QKV")
    state = dense.state_dict()
    for name in "qkv":
        eye = torch.eye(16, dtype=torch.float64)
        state[f"projections.{name}_down"] = eye
    thin.load_state_dict(state)
    torch.testing.assert_close(thin(X), dense(X), rtol=0, atol=1e-14)
    down, up = draw(16, 16, seed=3), draw(16, 16, seed=4)
    thin.projections.q_down.data.copy_(down), thin.projections.q.data.copy_(up)
    dense.projections.q.data.copy_(down @ up)
    torch.testing.assert_close(thin(X), dense(X), rtol=0, atol=1e-12)


def test_the_rank_is_the_rank():
    attn = layer("QKV/rank3")
    q = attn.trace(draw(1, 40, 16, seed=5)).q
    assert torch.linalg.matrix_rank(q.swapaxes(1, 2).flatten(2)[0]) == 3
    cost, dense = (parse(name).cost(Dims.of(64, 4)) for name in ("QKV/rank8", "QKV"))
    assert cost.parameters == 3 * 8 * (64 + 64) == cost.flops_per_token // 2
    assert cost.cache_per_token == dense.cache_per_token


def test_a_square_of_one_is_qqv():
    free, tied = layer("QMQ"), layer("QQV")
    free.load_state_dict({**tied.state_dict(), "projections.m": torch.eye(8, dtype=torch.float64).repeat(2, 1)})
    torch.testing.assert_close(free(X), tied(X), rtol=0, atol=1e-14)


def test_antisymmetric_scores_change_sign_and_are_any_antisymmetric_form():
    attn = layer("QJQ")
    scores = attn.trace(X).scores
    torch.testing.assert_close(scores, -scores.mT, rtol=0, atol=1e-14)
    form = draw(8, 8, seed=6)
    form = form - form.mT
    values, vectors = torch.linalg.eig(form)  # pairs of +-i s: form = U J U^T with the real and imaginary parts
    columns = []
    for i in (n for n in range(8) if values[n].imag > 0):
        size = math.sqrt(2 * float(values[i].imag))
        columns += [size * vectors[:, i].real, size * vectors[:, i].imag]
    root = torch.stack(columns, -1)
    turn = torch.block_diag(*[torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)] * 4)
    torch.testing.assert_close(root @ turn @ root.mT, form, rtol=0, atol=1e-12)


# published numbers and papers in plain code


def test_parameters_of_symmetric_and_pairwise_bert():
    """Courtois et al.: BERT-base 124,645,632, pairwise 118,148,352, symmetric 117,558,528."""
    dims = Dims.of(768, 12)
    each = {name: parse(f"{name}/bias").cost(dims).parameters for name in ("QKV", "QQV", "QMQ")}
    assert 124_645_632 - 12 * (each["QKV"] - each["QQV"]) == 117_558_528
    assert 124_645_632 - 12 * (each["QKV"] - each["QMQ"]) == 118_148_352


def softmax_of(scores, causal=False):
    if causal:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:]).triu(1).bool(), -math.inf)
    return scores.exp() / scores.exp().sum(-1, keepdim=True)


def heads_of(x, count):
    return x.reshape(*x.shape[:-1], count, -1).transpose(1, 2)


def test_reformer():
    """Shared queries and keys, k_j = q_j / |q_j|, no token attends to itself unless it is alone."""
    attn = layer("reformer")
    own, q = attn.projections, heads_of(X @ attn.projections.q, 2)
    scores = q @ (q / q.norm(dim=-1, keepdim=True)).mT
    scores = scores - 1e5 * torch.eye(5)  # a finite score: alone, a token still attends to itself
    scores = scores.masked_fill(torch.ones(5, 5).triu(1).bool(), -math.inf)
    mixed = torch.softmax(scores, -1) @ heads_of(X @ own.v, 2)
    wanted = mixed.transpose(1, 2).reshape(2, 5, 16) @ attn.out.weight.mT
    torch.testing.assert_close(attn(X, causal=True), wanted, rtol=0, atol=1e-12)


def test_query_key_normalisation():
    """Henry et al.: softmax(g q' k'), with q' and k' of unit length and g0 = log2(L^2 - L)."""
    torch.manual_seed(0)
    attn = Attention("QKV/unitnorm64", d_model=16, heads=2).double()
    own = attn.projections
    assert own.scale.item() == pytest.approx(math.log2(64**2 - 64))
    q, k = (torch.nn.functional.normalize(heads_of(X @ w, 2), dim=-1) for w in (own.q, own.k))
    mixed = softmax_of(own.scale * q @ k.mT, causal=True) @ heads_of(X @ own.v, 2)
    torch.testing.assert_close(attn(X, causal=True), mixed.transpose(1, 2).reshape(2, 5, 16) @ attn.out.weight.mT)


def test_pairwise_attention():
    attn = layer("pairwise")
    own, outputs = attn.projections, []
    for head in range(2):
        place = slice(8 * head, 8 * head + 8)
        y = X @ own.q[:, place]
        outputs.append(softmax_of(y @ own.m[place] @ y.mT / math.sqrt(8)) @ (X @ own.v[:, place]))
    torch.testing.assert_close(attn(X), torch.cat(outputs, -1) @ attn.out.weight.mT)


def test_grouped_and_multi_query_heads():
    for name, groups in (("mqa", 1), ("gqa", 8)):
        attn = layer(name, d_model=32, heads=16)
        x, own, outputs = draw(2, 5, 32), attn.projections, []
        for head in range(16):
            key = head * groups // 16
            q = x @ own.q[:, 2 * head : 2 * head + 2]
            k, v = (x @ w[:, 2 * key : 2 * key + 2] for w in (own.k, own.v))
            outputs.append(softmax_of(q @ k.mT / math.sqrt(2), causal=True) @ v)
        torch.testing.assert_close(attn(x, causal=True), torch.cat(outputs, -1) @ attn.out.weight.mT)
    with pytest.raises(Refusal, match=r"multiple of kv_heads.*heads=12, kv_heads=8"):
        Attention("gqa", d_model=96, heads=12)


def test_identity_query():
    attn = layer("identity-query")
    assert attn.design == parse("XKV") and "q" not in attn.projections.weights
    torch.testing.assert_close(attn.trace(X).q, heads_of(X, 2))


def test_famous_names_are_known_in_any_case_and_offered():
    assert parse("MQA") == parse("QKV/kv1") and parse("Reformer").name == "QQV/unitkeys/noself"
    with pytest.raises(BadInput, match="did you mean 'reformer'"):
        parse("refomer")


# refusals


@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("QKV/rank0", "at least 1"),
        ("QKV/unitnorm1", "at least 2"),
        ("QKV/unitkeys4", "takes no number"),
        ("QKV/qknorm-eps7", "between 0 and 1"),
        ("QKV/qknorm/qknorm", "once"),
    ],
)
def test_what_cannot_be_meant(name, phrase):
    with pytest.raises(BadInput, match=phrase):
        parse(name)


@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("XXX/rank2", "no matrix"),
        ("QKV/rank17", r"16 x 16.*/rank17"),
        ("QKV/kv1/rank9", r"16 x 8 at d_model=16, .* most 8; got /rank9"),
    ],
)
def test_what_these_sizes_cannot_carry(name, phrase):
    with pytest.raises(Refusal, match=phrase):
        layer(name)


# planted bugs


def gains_swapped(self, weights, heads, dims, positions, role):
    return seam.rms_normed(heads, self.epsilon) * weights["k_gain" if role == "q" else "q_gain"][0]


def normed_over_tokens(self, weights, heads, dims, positions, role):
    return seam.rms_normed(heads.mT, self.epsilon).mT * weights[f"{role}_gain"][0]


def scale_on_both(self, weights, heads, dims, positions, role):
    return unit._unit(heads) * weights["scale"]


def queries_shortened_too(self, weights, heads, dims, positions, role):
    return unit._unit(heads)


def square_turned_over(self, q, weights, dims):
    return torch.einsum("...htc,hec->...hte", q, weights["m"].reshape(dims.heads, dims.d_head, dims.d_head))


def test_planted_norms(monkeypatch):
    for where, bug, fails in (
        (qknorm.QKNorm, normed_over_tokens, lambda: JUDGES["tokens_are_projected_alone"](parse("QKV/qknorm"))),
        (qknorm.QKNorm, gains_swapped, test_qk_norm_of_queries),
        (unit.UnitNorm, scale_on_both, test_query_key_normalisation),
        (unit.UnitKeys, queries_shortened_too, test_reformer),
    ):
        with monkeypatch.context() as planted:
            planted.setattr(where, "turn", bug)
            with pytest.raises(AssertionError):
                fails()


def test_qk_norm_of_queries():
    attn = layer("QKV/qknorm")
    q, own = heads_of(X @ attn.projections.q, 2), attn.projections
    wanted = q / (q.square().mean(-1, keepdim=True) + 1e-6).sqrt() * own.q_gain[0]
    torch.testing.assert_close(attn.trace(X).q, wanted)


def test_planted_square(monkeypatch):
    monkeypatch.setattr(pairwise.Pairwise, "_through", square_turned_over)
    with pytest.raises(AssertionError):
        test_pairwise_attention()


def test_names_keep_every_digit_of_an_epsilon():
    for name in ("QKV/qknorm-eps1.23456789e-06", "QKV/qknorm-eps1e-05", "QKV/qknorm-eps0.1"):
        assert parse(name).name == name and parse(parse(name).name) == parse(name)


def test_symmetric_attention():
    """Courtois et al.: softmax(x W W^T x^T / sqrt(c)) x W_V in each head."""
    attn = layer("symmetric")
    own, outputs = attn.projections, []
    for head in range(2):
        y = X @ own.q[:, 8 * head : 8 * head + 8]
        outputs.append(softmax_of(y @ y.mT / math.sqrt(8)) @ (X @ own.v[:, 8 * head : 8 * head + 8]))
    torch.testing.assert_close(attn(X), torch.cat(outputs, -1) @ attn.out.weight.mT)


def test_planted_rank_and_quarter_turn(monkeypatch):
    from qkvlab.designs import antisymmetric, ways

    def second_factor_alone(x, weights, name):
        return x[..., : weights[name].shape[0]] @ weights[name]

    def half_turned(self, q):
        return torch.stack([q[..., 1::2], q[..., ::2]], -1).reshape(q.shape)

    with monkeypatch.context() as planted:
        planted.setattr(ways, "times", second_factor_alone)
        with pytest.raises(AssertionError):
            JUDGES["each_matrix_is_used_once"](parse("QKV/rank3"))
    monkeypatch.setattr(antisymmetric.Antisymmetric, "_quarter", half_turned)
    with pytest.raises(AssertionError):
        test_antisymmetric_scores_change_sign_and_are_any_antisymmetric_form()
