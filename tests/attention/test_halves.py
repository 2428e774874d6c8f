"""Causal attention in halves: the contract at small sizes, the numbers at those it is for, where it is not taken."""

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from qkvlab import Attention
from qkvlab.attention import halves
from qkvlab.designs import examples
from qkvlab.testing import CHECKS

JUDGED = (
    "attends_as_defined",
    "routes_agree",
    "the_future_changes_nothing",
    "seeing_nothing_gives_zero",
    "packed_texts_are_alone",
    "gradients_reach_every_trained_matrix",
    "many_at_once_equal_each_alone",
    "other_precisions",
)
TOKENS = (384, 386, 450, 512)


@pytest.fixture
def taken(monkeypatch):
    """How many tokens were joined from halves, call by call."""
    seen, original = [], halves._joined
    monkeypatch.setattr(halves, "_joined", lambda q, k, v: (seen.append(q.shape[-2]), original(q, k, v))[1])
    return seen


def drawn(tokens, heads=4, groups=4, channels=8, batch=2, dtype=torch.float32, beside=0):
    draw = torch.Generator().manual_seed(tokens + groups)

    def heads_of(count):
        x = torch.randn(batch, tokens, count * channels + beside, generator=draw, dtype=torch.float64).to(dtype)
        return x[..., : count * channels].view(batch, tokens, count, channels).transpose(1, 2).requires_grad_()

    return heads_of(heads), heads_of(groups), heads_of(groups)


def public(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0, enable_gqa=q.shape[1] != k.shape[1])


def with_gradients(call, given):
    out = call(*given)
    along = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).to(out.dtype).reshape(out.shape)
    return [out.detach(), *torch.autograd.grad(out, given, along)]


@pytest.mark.parametrize("check", [c for c in CHECKS if c.__name__ in JUDGED], ids=lambda check: check.__name__)
@pytest.mark.parametrize("design", examples().values(), ids=str)
def test_every_example_keeps_the_contract_in_halves(design, check, monkeypatch):
    monkeypatch.setattr(halves, "LEAST", 2)
    monkeypatch.setattr(halves, "PRECISION", torch.float64)
    check(design)


def test_the_judges_exist():
    assert set(JUDGED) <= {check.__name__ for check in CHECKS}


def off_by(given):
    """Errors of halves, and of the kernel at once, by float64: the root of their mean square, which is no luck."""
    exact = with_gradients(public, [x.detach().double().requires_grad_() for x in given])
    found = with_gradients(halves.attend, given), with_gradients(public, given)
    return [
        [float((a.double() - b).square().mean().sqrt()) for a, b in zip(each, exact, strict=True)] for each in found
    ]


@pytest.mark.parametrize("groups", [4, 2, 1])
@pytest.mark.parametrize("tokens", TOKENS)
def test_as_exact_as_the_kernel_at_once(tokens, groups):
    for beside in (0, 24):
        for ours, theirs in zip(*off_by(drawn(tokens, groups=groups, beside=beside)), strict=True):
            assert ours < 1.3 * theirs


def test_heads_that_lie_apart():
    given = [x.detach().contiguous().requires_grad_() for x in drawn(450)]
    for ours, theirs in zip(*off_by(given), strict=True):
        assert ours < 1.3 * theirs
    q, k, v = drawn(450, groups=1)
    one = [q, *(x.detach().expand(-1, 4, -1, -1) for x in (k, v))]
    torch.testing.assert_close(halves.attend(*one), public(*one), rtol=0, atol=2e-6)


def test_gradients_of_numbers():
    q, k, v = drawn(4, heads=2, groups=1, channels=3, dtype=torch.float64)
    assert torch.autograd.gradcheck(halves.attend, (q, k, v))


def layer_and_x(name="QKV", tokens=400, dtype=torch.float32, **options):
    torch.manual_seed(0)
    layer = Attention(name, d_model=16, heads=2, **options).to(dtype)
    return layer, torch.randn(1, tokens, 16).to(dtype)


@pytest.mark.parametrize("name", ["QKV", "QKV/kv1", "XXX", "MLA64/rope", "QKV/rope"])
def test_the_layer_takes_them(name, taken):
    layer, x = layer_and_x(name)
    plain = Attention(name, d_model=16, heads=2, route="plain")
    plain.load_state_dict(layer.state_dict())
    for each in (layer, plain):
        each(x, causal=True).square().sum().backward()
    assert taken == [400]
    torch.testing.assert_close(layer(x, causal=True), plain(x, causal=True), rtol=0, atol=1e-6)
    for a, b in zip(layer.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=0, atol=1e-5 * float(b.grad.abs().max()))


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_where_they_are_not_taken(taken):
    for tokens in (2, 382, 401, 514):
        layer, x = layer_and_x(tokens=tokens)
        layer(x, causal=True)
    layer, x = layer_and_x()
    layer(x), layer(x, causal=True, padding=torch.tensor([300]))
    for dtype in (torch.float64, torch.bfloat16):
        other, y = layer_and_x(dtype=dtype)
        other(y, causal=True)
    layer_and_x("QKV/window8")[0](x, causal=True)
    Attention("QKV", d_model=16, heads=2, dropout=0.5)(x, causal=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        layer(x, causal=True)
    with sdpa_kernel(SDPBackend.MATH):
        layer(x, causal=True)
    torch.func.vmap(lambda each: layer(each, causal=True))(x[None])
    torch.func.grad(lambda each: layer(each, causal=True).sum())(x)
    torch.compile(layer, fullgraph=True, backend="eager")(x, causal=True)
    torch.export.export(layer, (x,), {"causal": True})
    assert taken == []
    layer(x, causal=True)
    assert taken == [400]


@pytest.mark.parametrize("missing", ["_kernel", "_gradient"])
def test_without_the_operator_it_is_the_public_function(missing, monkeypatch, taken):
    monkeypatch.setattr(halves, missing, None)
    layer, x = layer_and_x()
    layer(x, causal=True)
    assert taken == []


@pytest.mark.parametrize("size", [200.0, 1e4, 3e38])
def test_sums_that_say_too_little(size):
    """All scores are as large as another: the mean of all that is seen, which two rounded sums cannot tell."""
    q = torch.full((1, 1, 384, 1), size)
    k, v = torch.ones(1, 1, 384, 1), torch.arange(384.0).view(1, 1, 384, 1)
    assert halves.attend(q, k, v) is None
    assert halves.attend(q / size, k, v) is not None
    k[0, 0, 100] = float("nan")
    assert halves.attend(q / size, k, v) is None


def test_writing_into_the_result_is_refused_as_by_the_kernel_at_once():
    """The gradient reads it."""
    for call in (halves.attend, public):
        out = call(*drawn(384))
        out.mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            out.sum().backward()


def test_a_second_derivative_is_refused():
    out = halves.attend(*(given := drawn(384)))
    first = torch.autograd.grad(out.square().sum(), given, create_graph=True)
    with pytest.raises(RuntimeError, match="twice"):
        first[0].sum().backward()


joined_of, kernel_of, gradient_of = halves._joined, halves._kernel, halves._gradient


def sums_swapped(q, k, v):
    half = q.shape[-2] // 2
    out, sums = joined_of(q.flip(-2), k, v)  # any wrong proportion
    return torch.cat([public(q, k, v)[:, :, :half], out[:, :, half:]], 2), sums


def earlier_keys_causally(q, k, v, dropout, causal, scale):
    return kernel_of(q, k, v, dropout, True, scale=scale)


def sums_of_one_half(q, k, v):
    out, _ = joined_of(q, k, v)
    return out, kernel_of(q, k, v, 0.0, False, scale=1.0)[1]


def only_its_own_half(*given, scale):
    found = gradient_of(*given, scale=scale)
    return found if given[-1] else tuple(torch.zeros_like(each) for each in found)


@pytest.mark.parametrize(
    ("name", "bug"),
    [
        ("_joined", sums_swapped),
        ("_kernel", earlier_keys_causally),
        ("_joined", sums_of_one_half),
        ("_gradient", only_its_own_half),
        ("_behind", lambda x: x.unflatten(0, (2, -1)).transpose(0, 1).transpose(1, 2).flatten(2, 3)),
    ],
    ids=lambda each: getattr(each, "__name__", each),
)
def test_the_numbers_catch_it(name, bug, monkeypatch):
    monkeypatch.setattr(halves, name, bug)
    with pytest.raises(AssertionError):
        test_as_exact_as_the_kernel_at_once(384, 4)
