"""A test must be able to fail: bugs in what happens to scores, and in blocks, and what sees each."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from qkvlab import Attention, reference
from qkvlab.attention import core, visible
from qkvlab.attention.visible import Span, Visible
from qkvlab.designs import parse
from qkvlab.designs.cap import Cap
from qkvlab.designs.diff import Diff
from qkvlab.designs.sink import Sink
from qkvlab.designs.window import Window
from qkvlab.testing import CHECKS
from qkvlab.testing.sizes import attention, distance, tokens

JUDGES = {check.__name__: check for check in CHECKS}


def equals_its_twin(design):
    """The layer is what the reference says, which shares nothing with it."""
    for options, allowed in (({}, None), ({"causal": True}, torch.ones(5, 5, dtype=torch.bool).tril())):
        layer = attention(design)
        x = tokens(layer.dims)
        weights = {name: w.detach().numpy() for name, w in layer.projections.weights.items()}
        weights["out"] = layer.out.weight.detach().numpy().T
        steps = reference.trace(
            design.name,
            weights,
            x.numpy(),
            heads=layer.dims.heads,
            d_head=layer.dims.d_head,
            kv_heads=design.kv_heads(layer.dims),
            allowed=None if allowed is None else allowed.numpy(),
        )
        for route in ("plain", "fused"):
            gap = distance(attention(design, route=route)(x, **options), torch.from_numpy(steps.output))
            assert gap < 1e-10, f"{route} is off by {gap:.1e}"


def drops_as_said(design):
    """Both routes drop weights, whole and in blocks."""
    for route in ("plain", "fused"):
        torch.manual_seed(0)
        layer = Attention(design, d_model=16, heads=4, dropout=0.5, route=route)
        x = torch.randn(2000, 7, 16)[:1].expand(2000, -1, -1)
        found = layer(x).detach()
        assert found.std(0).min() > 0.01, "nothing is dropped"
        wanted = layer.eval()(x[:1])[0].detach()
        off = (found.mean(0) - wanted).abs() / (found.std(0) / 2000**0.5)
        assert off.max() < 6, "the mean is another"


def keeps_little(design):
    """Nothing of queries x keys is kept for the gradient."""
    kept = []
    for count in (64, 128):
        layer = Attention(design, d_model=8, heads=4)
        total = {}

        def pack(tensor, total=total):
            total[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            layer(torch.randn(1, count, 8), causal=True, padding=torch.tensor([count // 2]))
        kept.append(sum(total.values()))
    assert kept[1] < 2.2 * kept[0], f"{kept[1] / kept[0]:.1f} times as much for twice the tokens"


JUDGES |= {own.__name__: own for own in (equals_its_twin, drops_as_said, keeps_little)}


# what parts say


def window_one_short(self):
    return self.tokens - 1


def window_one_long(self):
    return self.tokens + 1


def cap_without_limit(self, scores, back):
    return torch.tanh(scores / self.limit)


def cap_of_the_unscaled(self, scores, back):
    return self.limit * torch.tanh(scores)


def sink_with_the_wrong_sign(self, weights, dims):
    return -weights["sink"][0]


def one_sink_for_all(self, weights, dims):
    return weights["sink"][0].mean().expand(weights["sink"].shape[1])


factor_of = Diff._factor


def lambda_with_the_wrong_sign(self, weights, like):
    return -factor_of(self, weights, like)


def lambda_vectors_exchanged(self, weights, like):
    names = {"lq1": "lq2", "lk1": "lk2", "lq2": "lq1", "lk2": "lk1"}
    return factor_of(self, {**weights, **{name: weights[other] for name, other in names.items()}}, like)


def lambda_without_its_start(self, weights, like):
    return factor_of(self, weights, like) - self.lambda_init


finish_of = Diff.finish


def shrunk_twice(self, weights, heads, dims, like=None):
    return (1 - self.lambda_init) * finish_of(self, weights, heads, dims, like)


def norm_over_all_heads(self, weights, heads, dims, like=None):
    done = finish_of(self, weights, heads, dims, like)
    unnormed = done / weights["gain"][0]
    square = unnormed.square().mean((-3, -1), keepdim=True)
    return unnormed / square.sqrt().clamp_min(1e-9) * weights["gain"][0]


def norm_of_each_piece(self, weights, heads, dims, like=None):
    return finish_of(self, weights, heads, dims)


def halves_of_neighbouring_heads(self, dims):
    return [head // 2 for head in range(2 * dims.heads)]


def root_of_whole_heads(self, dims):
    return self.inner.root(dims)


# what the core does


shares_of, softmax_of, fused_of, reach_of = core.shares, core.softmax_allowed, core._fused, Visible.reach
block_of, cut_of = core._block, visible._cut


def bent_after_the_mask(q, k, seen, scoring, rows=None, keys=None):
    rows, keys = rows or seen.all_rows, keys or seen.all_keys
    scores = core.scaled_scores(q, k, scoring.root)
    allowed, hidden = seen.of(rows, keys), scores
    hidden = scores if allowed is None else scores.masked_fill(~allowed, -1e30)
    for bend in scoring.bends:
        hidden = bend(hidden, seen.back(rows, keys))
    return scores, softmax_of(hidden, None)


def never_bent(q, k, seen, scoring, rows=None, keys=None):
    return shares_of(q, k, seen, replace(scoring, bends=()), rows, keys)


def sink_counted_as_a_key(scores, allowed, *, all_see=False, sinks=None):
    weights = softmax_of(scores, allowed, all_see=all_see, sinks=sinks)
    return weights if sinks is None else weights / weights.sum(-1, keepdim=True).clamp_min(1e-30)


def sink_masked_like_a_key(scores, allowed, *, all_see=False, sinks=None):
    weights = softmax_of(scores, allowed, all_see=all_see, sinks=sinks)
    if sinks is None:
        return weights
    return torch.cat([weights[..., :1] + (1 - weights.sum(-1, keepdim=True)), weights[..., 1:]], -1)


def reach_one_short(self, rows):
    keys = reach_of(self, rows)
    return Span(keys.start, max(keys.stop - 1, keys.start + 1)) if self.causal is not False else keys


def reach_begins_one_late(self, rows):
    keys = reach_of(self, rows)
    return Span(min(keys.start + 1, keys.stop - 1), keys.stop) if self.window is not None else keys


def distances_from_the_block(self, rows, keys):
    asked = torch.arange(len(rows)) + self.shift
    return asked[:, None] - torch.arange(keys.start, keys.stop)


def masks_are_cut_from_the_start(mask, axis, span):
    return mask if mask.shape[axis] == 1 else mask.narrow(axis, 0, len(span))


def dropout_is_forgotten(q, k, v, seen, scoring, rows, keys):
    return block_of(q, k, v, seen, replace(scoring, dropout=0.0), rows, keys)


def the_kept_do_not_grow(weights, p=0.5, training=True, inplace=False):
    return weights * (torch.rand_like(weights) >= p)


def nothing_is_made_again():
    return False


def blind_rows_look_everywhere(q, k, v, scoring, allowed=None, *, causal=False):
    return fused_of(q, k, v, scoring, None if allowed is None else allowed | ~allowed.any(-1, keepdim=True))


AS_DEFINED, AGREE, TWIN = "attends_as_defined", "routes_agree", "equals_its_twin"
DIFF = "QKV/kv2/diff1"
BUGS = [
    (TWIN, "QKV/window3", {(Window, "window"): property(window_one_short)}),
    (TWIN, "QKV/window3", {(Window, "window"): property(window_one_long)}),
    (TWIN, "QKV/cap2", {(Cap, "_capped"): cap_without_limit}),
    (TWIN, "QKV/cap2", {(Cap, "_capped"): cap_of_the_unscaled}),
    (AS_DEFINED, "QKV/cap2", {(core, "shares"): bent_after_the_mask}),
    ("the_future_changes_nothing", "QKV/cap2", {(core, "shares"): bent_after_the_mask}),
    (AS_DEFINED, "QKV/cap2", {(core, "shares"): never_bent}),
    (TWIN, "QKV/cap2", {(core, "shares"): never_bent}),
    (TWIN, "QKV/sink", {(Sink, "sinks"): sink_with_the_wrong_sign}),
    (TWIN, "QKV/sink", {(Sink, "sinks"): one_sink_for_all}),
    (AS_DEFINED, "QKV/sink", {(core, "softmax_allowed"): sink_counted_as_a_key}),
    (AS_DEFINED, "QKV/sink", {(core, "softmax_allowed"): sink_masked_like_a_key}),
    (TWIN, DIFF, {(Diff, "_factor"): lambda_with_the_wrong_sign}),
    (TWIN, DIFF, {(Diff, "_factor"): lambda_vectors_exchanged}),
    (TWIN, DIFF, {(Diff, "_factor"): lambda_without_its_start}),
    (TWIN, DIFF, {(Diff, "finish"): shrunk_twice}),
    (TWIN, DIFF, {(Diff, "finish"): norm_over_all_heads}),
    (AS_DEFINED, DIFF, {(Diff, "finish"): norm_of_each_piece}),
    (TWIN, DIFF, {(Diff, "root"): root_of_whole_heads}),
    (AS_DEFINED, "QKV/window2", {(Visible, "reach"): reach_begins_one_late}),
    (AS_DEFINED, "QKV/cap2", {(Visible, "reach"): reach_one_short}),
    (AGREE, "QKV/kv2", {(Visible, "reach"): reach_one_short}),
    (AGREE, "QKV/window3", {(Visible, "reach"): reach_begins_one_late}),
    (AS_DEFINED, "QKV/window2", {(Visible, "back"): distances_from_the_block}),
    (AS_DEFINED, "QKV/alibi", {(Visible, "back"): distances_from_the_block}),
    (AGREE, "QKV/kv2", {(visible, "_cut"): masks_are_cut_from_the_start}),
    (AS_DEFINED, "QKV", {(core, "_fused"): blind_rows_look_everywhere}),
    ("drops_as_said", "QKV", {(core, "_block"): dropout_is_forgotten}),
    ("drops_as_said", "QKV/sink", {(F, "dropout"): the_kept_do_not_grow}),
    ("keeps_little", "QKV", {(core, "_recomputes"): nothing_is_made_again}),
    ("keeps_little", "QKV/kv2/sink", {(core, "_recomputes"): nothing_is_made_again}),
]


def name_of(part):
    if isinstance(part, str):
        return part
    bug = next(iter(part.values()))
    return getattr(bug, "fget", bug).__name__


@pytest.fixture(autouse=True)
def blocks_of_three(monkeypatch):
    monkeypatch.setattr(core, "ROWS", 3)


@pytest.mark.parametrize(("judge", "design"), sorted({bug[:2] for bug in BUGS}))
def test_it_holds_without_the_bug(judge, design):
    JUDGES[judge](parse(design))


@pytest.mark.parametrize(("judge", "design", "planted"), BUGS, ids=name_of)
def test_it_is_caught(judge, design, planted, monkeypatch):
    for (where, name), bug in planted.items():
        monkeypatch.setattr(where, name, bug)
    with pytest.raises(AssertionError) as caught:
        JUDGES[judge](parse(design))
    assert str(caught.value)


def test_halves_of_the_wrong_heads_are_caught(monkeypatch):
    monkeypatch.setattr(Diff, "_copied", halves_of_neighbouring_heads)
    layer = attention(parse("QKV/kv2/diff"))
    of = layer.design.served(layer.dims)
    q, _ = layer.projections.project(tokens(layer.dims))
    whole = parse("QKV/kv2").ask(layer.projections.weights, tokens(layer.dims), layer.dims, None)
    halves = [half for head in of for half in whole[:, head].split(layer.dims.d_head // 2, -1)]
    assert not all(any(torch.equal(q[:, i], half) for half in halves[2 * i : 2 * i + 2]) for i in range(len(of)))
