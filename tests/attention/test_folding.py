"""1 / root stands in the matrix of q or of k where nothing else is made with it, and nowhere else."""

from dataclasses import replace

import pytest
import torch

from qkvlab import Attention
from qkvlab.attention import core, direct, folding, making
from qkvlab.attention.direct import cut
from qkvlab.attention.folding import scales
from qkvlab.attention.making import make
from qkvlab.contracts import Dims, Memory
from qkvlab.designs import examples, parse
from qkvlab.designs.around import Around
from qkvlab.designs.design import split_heads
from qkvlab.testing import sizes
from qkvlab.testing.sizes import attention, tokens

DIMS = Dims(d_model=12, heads=2, d_head=6, d_value=6)


@pytest.mark.parametrize(
    ("name", "matrix"),
    [
        ("QKV", "q"),
        ("QXV", "q"),
        ("QKK", "q"),
        ("QKV/sin", "q"),
        ("QKV/rank3", "q"),
        ("MLA5", "q"),
        ("QKV/window3", "q"),
        ("QKQ", "k"),
        ("XKV", "k"),
        ("XKX", "k"),
    ],
)
def test_the_last_matrix_of_q_or_else_of_k(name, matrix):
    design = parse(name)
    assert scales(design, DIMS) == matrix
    assert cut(design, DIMS) is None or cut(design, DIMS).scales == matrix


@pytest.mark.parametrize(
    "name",
    ["QQV", "QQQ", "XKK", "XXV", "XXX", "QMQ", "QDQ", "QKV/bias", "QKV/rope", "QKV/qknorm", "uniform"],
)
def test_where_there_is_none(name):
    design = parse(name)
    assert scales(design, DIMS) is None
    assert cut(design, DIMS) is None or cut(design, DIMS).scales is None


class Changed(Around):
    """The inner design with another projection."""

    words = property(lambda self: self.inner.words)
    name = property(lambda self: f"{self.inner.name}/{type(self).__name__.lower()}")


class KeptToo(Changed):
    def project(self, weights, x, dims, positions):
        q, memory = super().project(weights, x, dims, positions)
        return q, replace(memory, kept={**memory.kept, "more": q.swapaxes(-3, -2).flatten(-2)})


class ReadToo(Changed):
    def project(self, weights, x, dims, positions):
        made = x @ weights["q"]
        return split_heads(made, dims.heads), Memory({"k": made + x @ weights["k"], "v": x @ weights["v"]})


class UsedTwice(Changed):
    def project(self, weights, x, dims, positions):
        q, memory = super().project(weights, x, dims, positions)
        return q, replace(memory, kept={**memory.kept, "k": x @ weights["q"].T})


class WrittenInto(Changed):
    def project(self, weights, x, dims, positions):
        made = x @ weights["q"]
        made += 1
        return split_heads(made, dims.heads), super().remember(weights, x, dims, positions)


class Turned(Changed):
    def project(self, weights, x, dims, positions):
        q, memory = super().project(weights, x, dims, positions)
        return q.flip(-1), memory


class HeadsInTurn(Changed):
    def project(self, weights, x, dims, positions):
        q, memory = super().project(weights, x, dims, positions)
        return q[:, [1, 0]], memory


class LooksAtNumbers(Changed):
    def project(self, weights, x, dims, positions):
        q, memory = super().project(weights, x, dims, positions)
        return (q if float(x.sum()) > 0 else -q), memory


class OfTheFirstText(Changed):
    def project(self, weights, x, dims, positions):
        q, memory = super().project(weights, x, dims, positions)
        return split_heads(x[:1] @ weights["q"], dims.heads).expand_as(q), memory


@pytest.mark.parametrize(
    ("kind", "matrix", "of_cut"),
    [
        (Changed, "q", "q"),
        (KeptToo, "k", "q"),
        (ReadToo, None, None),
        (UsedTwice, None, None),
        (WrittenInto, "k", None),
        (Turned, "k", None),
        (HeadsInTurn, "k", None),
        (OfTheFirstText, "k", None),
        (LooksAtNumbers, None, None),
    ],
    ids=lambda kind: getattr(kind, "__name__", kind),
)
def test_a_matrix_that_serves_more_is_left_alone(kind, matrix, of_cut):
    design = kind(parse("QKV"))
    assert scales(design, DIMS) == matrix
    found = cut(design, DIMS)
    assert (found.scales if found else None) == of_cut


class KeysTurned(Changed):
    def recall(self, weights, memory, dims):
        k, v = super().recall(weights, memory, dims)
        return k.flip(-1), v


class ValuesReadKeys(Changed):
    def recall(self, weights, memory, dims):
        k, v = super().recall(weights, memory, dims)
        return k, v + k


class ValuesAreKeys(Changed):
    def recall(self, weights, memory, dims):
        k, _ = super().recall(weights, memory, dims)
        return k, k


class KeysAgain(Changed):
    def recall(self, weights, memory, dims):
        k, v = super().recall(weights, memory, dims)
        return k, v @ weights["k"][: v.shape[-1], : v.shape[-1]]


@pytest.mark.parametrize("kind", [KeysTurned, ValuesReadKeys, ValuesAreKeys, KeysAgain], ids=lambda kind: kind.__name__)
def test_a_matrix_of_keys_that_serves_more_is_left_alone(kind):
    assert scales(Changed(parse("XKV")), DIMS) == "k"
    assert scales(kind(parse("XKV")), DIMS) is None
    found = cut(kind(parse("XKV")), DIMS)
    assert found is None or found.scales is None


@pytest.mark.parametrize("route", ["plain", "fused"])
@pytest.mark.parametrize("design", examples().values(), ids=str)
def test_folded_layers_compute_the_same(design, route, monkeypatch):
    dims, t = sizes(design), 13
    layer = attention(design, dims, route=route)
    x = tokens(dims, t)
    found = {}
    for few in (0, 10**9):  # folded where x has more tokens than the matrix has rows, and nowhere
        monkeypatch.setattr(making, "FEW", few)
        given = x.repeat(3, 1, 1).requires_grad_()
        out = layer(given, causal=True)
        trained = [p for p in layer.parameters() if p.requires_grad]
        found[few] = [out, *torch.autograd.grad(out.square().sum(), [given, *trained], allow_unused=True)]
    for got, wanted in zip(*found.values(), strict=True):
        assert (got is None) == (wanted is None)
        if got is not None:
            torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)


def test_it_is_really_folded(monkeypatch):
    roots = []
    original = core.attend_fused
    monkeypatch.setattr(core, "attend_fused", lambda *args: (roots.append(args[-1].root), original(*args))[1])
    layer = Attention("QKV", d_model=16, heads=1)
    for count in (16, 17, making.FEW, making.FEW + 1):
        layer(torch.zeros(1, count, 16))
    layer(torch.zeros(1, 200, 16), layer.remember(torch.zeros(1, 3, 16)))
    with torch.no_grad():
        layer(torch.zeros(1, 1, 16))
    assert roots == [4.0, 4.0, 4.0, 1.0, 4.0, 1.0]


def test_a_matrix_with_more_rows_than_tokens_is_not(monkeypatch):
    monkeypatch.setattr(making, "FEW", 0)
    layer = Attention("QKV", d_model=16, heads=1)
    given = layer.design, layer.dims, layer.projections.weights
    assert make(*given, torch.zeros(1, 16, 16), None, layer.scoring())[-1].root == 4.0
    assert make(*given, torch.zeros(1, 17, 16), None, layer.scoring())[-1].root == 1.0


def test_finding_out_is_not_repeated():
    folding.scales.cache_clear()
    cut.cache_clear()
    for name in ("QKV", "QKV/rope"):
        layer = Attention(name, d_model=16, heads=1)
        for _ in range(3):
            layer(torch.zeros(1, 200, 16))
    assert (folding.scales.cache_info().misses, cut.cache_info().misses) == (1, 2)


def test_huge_scores_stay_finite_when_folded():
    layer = Attention("QKV", d_model=4, heads=1)
    with torch.no_grad():
        for weight in layer.projections.parameters():
            weight.copy_(torch.eye(4))
    x = torch.full((1, 200, 4), 1.22e19)
    x[:, 1::2] *= -1
    assert not (x @ x.mT).isfinite().any(), "so q k^T overflows, and half of it does not"
    with torch.no_grad():
        layer.out.weight.copy_(torch.eye(4))
    torch.testing.assert_close(layer(x, causal=True), x)
    with torch.no_grad():
        torch.testing.assert_close(layer(x, causal=True), x)


FINDERS = [direct.cut, direct.direct, direct.multiplied, folding.scales]


def found_in_inference_mode(found, name):
    with torch.inference_mode():
        return found(parse(name), DIMS)


@pytest.mark.parametrize("found", FINDERS)
@pytest.mark.parametrize("name", ["QKV", "QKK/kv2", "QKV/rope", "MLA5"])
def test_inference_mode_changes_nothing_of_what_is_found(found, name):
    """What is found is remembered for all calls: in inference mode first, it is what it would have been."""
    anew = found.__wrapped__
    assert found_in_inference_mode(anew, name) == anew(parse(name), DIMS)


def test_what_inference_mode_hides_is_caught():
    bare = [found.__wrapped__.__wrapped__ for found in FINDERS[:2]]
    assert all(found_in_inference_mode(found, "QKV") != found(parse("QKV"), DIMS) for found in bare)
