"""Numbers that break attention elsewhere: huge scores, rows that see nothing, NaN in padding, rounding."""

import math

import numpy as np
import pytest
import torch

from qkvlab.attention import core
from qkvlab.attention.scoring import Scoring
from qkvlab.attention.visible import Visible
from qkvlab.reference import softmax


def plainly(q, k, v, allowed=None):
    return core.attend(q, k, v, *described(q, k, allowed))


def fast(q, k, v, allowed=None):
    return core.attend_fused(q, k, v, *described(q, k, allowed))


def described(q, k, allowed):
    visible = Visible(shape=(*q.shape[:-1], k.shape[-2]), device=q.device, mask=allowed)
    return visible, Scoring(root=math.sqrt(q.shape[-1]))


ROUTES = {"plain": plainly, "fused": fast}
pytestmark = pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES)


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def naive(q, k, v, allowed=None):
    """What everybody writes, in the precision of its inputs."""
    serves = q.shape[-3] // k.shape[-3]
    k, v = k.repeat_interleave(serves, -3), v.repeat_interleave(serves, -3)
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -math.inf)
    return torch.softmax(scores, -1) @ v


def errors(attend, q, k, v, allowed, exact):
    """Largest error of the output and of each gradient."""
    leaves = [part.detach().clone().requires_grad_() for part in (q, k, v)]
    out = attend(*leaves, allowed)
    out.backward(draw(*out.shape, seed=5, dtype=out.dtype))
    found = [out, *(leaf.grad for leaf in leaves)]
    return [float((f.detach().double() - e).abs().max()) for f, e in zip(found, exact, strict=True)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("masked", [False, True], ids=["all", "masked"])
@pytest.mark.parametrize(("heads", "groups", "t", "s"), [(2, 2, 97, 97), (4, 2, 31, 128), (3, 1, 5, 7)])
def test_error_is_at_most_twice_that_of_naive_code(route, dtype, masked, heads, groups, t, s):
    ours, theirs = [], []
    for seed in range(0, 200, 10):  # the largest error of one draw is luck
        q, k = draw(2, heads, t, 17, seed=seed, dtype=dtype), draw(2, groups, s, 17, seed=seed + 1, dtype=dtype)
        v = draw(2, groups, s, 9, seed=seed + 2, dtype=dtype)
        allowed = draw(2, 1, t, s, seed=seed + 3) < 1 if masked else None
        doubles = [part.double().requires_grad_() for part in (q, k, v)]
        out = naive(*doubles, allowed)
        out.backward(draw(*out.shape, seed=5, dtype=dtype).double())
        exact = [out.detach(), *(part.grad for part in doubles)]
        ours.append(errors(route, q, k, v, allowed, exact))
        theirs.append(errors(naive, q, k, v, allowed, exact))
    for name, got, limit in zip(("output", "dq", "dk", "dv"), np.mean(ours, 0), np.mean(theirs, 0), strict=True):
        assert got <= 2 * limit, f"{name}: {got:.2e} against {limit:.2e} of the naive code"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("size", [1e4, 3e38])
@pytest.mark.parametrize("channels", [1, 4, 7])
@pytest.mark.parametrize("hide", [False, True], ids=["all", "masked"])
def test_huge_scores_stay_finite(route, size, channels, dtype, hide):
    # scores of query 0: size, -size, size / 2; of query 1 the opposite
    each = math.sqrt(size / math.sqrt(channels)) * torch.ones(channels, dtype=dtype)
    q = torch.stack([each, -each])[None, None].requires_grad_()
    k = torch.stack([each, -each, each / 2])[None, None].requires_grad_()
    v = torch.eye(3, dtype=dtype)[None, None].requires_grad_()
    allowed = torch.tensor([[True, True, False], [True, True, True]]) if hide else None
    out = route(q, k, v, allowed)
    torch.testing.assert_close(out[0, 0], torch.eye(3, dtype=dtype)[:2])
    out.sum().backward()
    assert all(bool(leaf.grad.isfinite().all()) for leaf in (q, k, v))
    scores = (q.double() @ k.double().mT)[0, 0].detach().numpy() / math.sqrt(channels)
    np.testing.assert_allclose(softmax(scores), np.eye(3)[:2])
    if route is plainly:
        assert bool(core.scaled_scores(q, k, math.sqrt(channels)).isfinite().all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_rows_that_see_nothing_are_exactly_zero(route, dtype, groups):
    q, k = draw(2, 4, 5, 6, dtype=dtype), draw(2, groups, 7, 6, seed=1, dtype=dtype)
    v = draw(2, groups, 7, 10, seed=2, dtype=dtype)
    allowed = draw(2, 1, 5, 7, seed=3) < 0.5
    allowed[0, :, 2], allowed[1] = False, False
    leaves = [part.requires_grad_() for part in (q, k, v)]
    out = route(*leaves, allowed)
    blind = ~allowed.any(-1).expand(2, 4, 5)
    assert not out[blind].any() and out[~blind].all()
    out.sum().backward()
    assert all(bool(leaf.grad.isfinite().all()) for leaf in leaves)
    assert not q.grad[blind].any(), "a query that sees nothing has nothing to learn"


def test_gradients_with_masks_and_groups(route):
    q, k = draw(1, 4, 3, 2).requires_grad_(), draw(1, 2, 4, 2, seed=1).requires_grad_()
    v = draw(1, 2, 4, 3, seed=2).requires_grad_()
    allowed = torch.ones(3, 4, dtype=torch.bool).tril(1)
    allowed[1] = False
    for mask in (None, allowed):
        assert torch.autograd.gradcheck(lambda q, k, v, mask=mask: route(q, k, v, mask), (q, k, v))
        assert torch.autograd.gradgradcheck(lambda q, k, v, mask=mask: plainly(q, k, v, mask), (q, k, v)), (
            "second derivatives of the explaining route"
        )


def test_a_large_constant_in_all_scores_changes_nothing(route):
    q, k, v = draw(1, 2, 5, 4), draw(1, 2, 6, 4, seed=1), draw(1, 2, 6, 3, seed=2)
    one = torch.ones(1, 2, 1, 1, dtype=torch.float64)
    lifted = torch.cat([q, 100 * one.expand(-1, -1, 5, 1)], -1), torch.cat([k, one.expand(-1, -1, 6, 1)], -1)
    scale = math.sqrt(5 / 4)  # one more channel divides by sqrt(5)
    torch.testing.assert_close(route(lifted[0] * scale, lifted[1], v), route(q, k, v), rtol=0, atol=1e-12)


def test_the_weights_are_shares(route):
    q, k = draw(2, 4, 5, 6), draw(2, 2, 7, 6, seed=1)
    ones = torch.ones(2, 2, 7, 1, dtype=torch.float64)
    allowed = draw(2, 4, 5, 7, seed=3) < 1
    torch.testing.assert_close(route(q, k, ones, allowed), allowed.any(-1, keepdim=True).double())
