"""A place in people's code: what PyTorch's users do to a module, done to the layer of every design of the catalogue.

One graph by `torch.compile` here, `torch.export` in test_routes, `torch.func.vmap` in the contract: all equal eager.
"""

import copy
import io
import pickle

import pytest
import torch
from safetensors.torch import load as from_safetensors
from safetensors.torch import save as to_safetensors
from torch.func import functional_call
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint

from qkvlab import Attention
from qkvlab.designs import examples
from qkvlab.testing.sizes import attention, distance, sizes, tokens

every_design = pytest.mark.parametrize("design", examples().values(), ids=str)
LENGTHS = torch.tensor([3, 5])


def values_and_gradients(layer, x, run=None, **options):
    x = x.detach().clone().requires_grad_()
    out = (layer if run is None else run)(x, **options)
    leaves = [x, *(p for p in layer.parameters() if p.requires_grad)]
    weigh = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).reshape(out.shape)
    return [out, *torch.autograd.grad((out * weigh).sum(), leaves, materialize_grads=True)]


def agree(got, wanted, tolerance):
    """Each part is near enough, measured on its largest number."""
    for a, b in zip(got, wanted, strict=True):
        scale = max(1.0, float(b.detach().abs().max())) if b.numel() else 1.0
        assert distance(a, b) < tolerance * scale


def of_the_same_kind(layer):
    """Another layer of the design, with other numbers."""
    return attention(layer.design, layer.dims, route=layer.route, seed=2, dtype=layer.out.weight.dtype)


@every_design
def test_compiled_in_one_graph(design):
    torch.compiler.reset()
    layer = attention(design, route="fused")
    x, options = tokens(layer.dims), {"causal": True, "padding": LENGTHS}
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    agree(values_and_gradients(layer, x, compiled, **options), values_and_gradients(layer, x, **options), 1e-10)


class Across(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x, y):
        return self.layer(x, self.layer.remember(y), causal="bottom-right")


@pytest.mark.parametrize("name", ["QKV/bias", "QKK/kv2/rope", "MLA11", "QKV/sin"])
def test_a_memory_made_in_the_graph(name):
    torch.compiler.reset()
    across = Across(attention(examples()[name], route="fused"))
    x, y = tokens(across.layer.dims), tokens(across.layer.dims, 7, seed=3)
    wanted = across(x, y)
    agree([torch.compile(across, fullgraph=True, backend="aot_eager")(x, y)], [wanted], 1e-10)
    agree([torch.export.export(across, (x, y)).module()(x, y)], [wanted], 1e-10)


@every_design
@pytest.mark.parametrize("route", ["fused", "plain"])
def test_autocast(design, route):
    layer = attention(design, route=route, dtype=torch.float32)
    x = tokens(layer.dims, dtype=torch.float32)
    wanted, wanted_across = values_and_gradients(layer, x, causal=True), layer(x, layer.remember(x), causal=True)
    with torch.autocast("cpu", torch.bfloat16):
        got = values_and_gradients(layer, x, causal=True)
        across = layer(x, layer.remember(x), causal=True)
        packed = layer(x[0], causal=True, packed=(x.shape[1],))
    assert {part.dtype for part in (got[0], across, packed)} == {torch.bfloat16}
    assert all(gradient.dtype == torch.float32 for gradient in got[1:]), "gradients are those of float32 weights"
    agree(got, wanted, 0.1)
    agree([across, packed], [wanted_across, wanted[0][0]], 0.1)


@every_design
@pytest.mark.parametrize("route", ["fused", "plain"])
def test_a_step_under_autocast(design, route):
    layer = attention(design, route=route, dtype=torch.float32)
    x = tokens(layer.dims, dtype=torch.float32)
    wanted = layer(x, causal=True)
    for kept in (torch.float32, torch.bfloat16):
        for given in (x, x.bfloat16()):
            cache = layer.new_cache(2, 5, dtype=kept)
            with torch.autocast("cpu", torch.bfloat16):
                got = torch.cat([layer.step(part, cache) for part in given.split((2, 1, 2), 1)], 1)
            assert (got.dtype, cache.dtype) == (torch.bfloat16, kept)
            agree([got], [wanted], 0.1)


@every_design
def test_built_on_meta(design):
    dims = sizes(design)
    given = {"d_model": dims.d_model, "heads": dims.heads, "d_head": dims.d_head, "d_value": dims.d_value}
    torch.manual_seed(3)
    direct = Attention(design, **given)
    with torch.device("meta"):
        layer = Attention(design, **given)
    assert all(each.is_meta for each in layer.state_dict().values())
    x = tokens(dims, dtype=torch.float32)
    nowhere = x.to("meta")
    assert layer(nowhere, causal=True, padding=LENGTHS.to("meta")).shape == x.shape
    assert layer(nowhere, layer.remember(nowhere), positions=torch.arange(5, device="meta")).shape == x.shape
    assert layer(nowhere[0], packed=(2, 3)).shape == x[0].shape
    assert layer.step(nowhere, layer.new_cache(2, 5)).shape == x.shape
    layer.to_empty(device="cpu")
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.fill_(torch.nan)
    torch.manual_seed(3)
    layer.apply(lambda module: module.reset_parameters() if hasattr(module, "reset_parameters") else None)
    for name, weight in direct.state_dict().items():
        assert torch.equal(layer.state_dict()[name], weight), f"{name} does not start as in a layer built at once"
    for name, start in layer.projections.starts.items():
        assert torch.equal(layer.projections.weights[name], torch.full_like(layer.projections.weights[name], start))
    assert [p.requires_grad for p in layer.parameters()] == [p.requires_grad for p in direct.parameters()]
    assert torch.equal(layer(x, causal=True), direct(x, causal=True))


@every_design
@pytest.mark.parametrize(
    "twin", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))], ids=["copy", "pickle"]
)
def test_copied(design, twin):
    layer = attention(design, route="fused")
    x, cache = tokens(layer.dims), layer.new_cache(2, 5)
    layer.step(x[:, :2], cache)
    layer.remember(x)
    before, other = layer(x, causal=True), twin(layer)
    assert torch.equal(other(x, causal=True), before)
    assert other.state_dict().keys() == layer.state_dict().keys() and (other.route, other.design) == ("fused", design)
    assert [p.requires_grad for p in other.parameters()] == [p.requires_grad for p in layer.parameters()]
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.fill_(0.5)
    assert torch.equal(layer(x, causal=True), before)


@every_design
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 0.02), (torch.bfloat16, 0.1), (torch.float64, 1e-5)])
def test_cast(design, dtype, tolerance):
    layer = attention(design, route="fused", dtype=torch.float32)
    x = tokens(layer.dims, dtype=torch.float32)
    wanted = values_and_gradients(layer, x, causal=True)
    cast = {torch.float16: layer.half, torch.bfloat16: layer.bfloat16, torch.float64: layer.double}[dtype]()
    got = values_and_gradients(cast, x.to(dtype), causal=True)
    assert {part.dtype for part in got} == {dtype}
    agree(got, wanted, tolerance)


@every_design
def test_called_with_other_weights(design):
    layer = attention(design, route="fused")
    other, x = of_the_same_kind(layer), tokens(layer.dims)
    layer(x)
    assert torch.equal(functional_call(layer, other.state_dict(), (x,), {"causal": True}), other(x, causal=True))


@every_design
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed(design, reentrant):
    layer = attention(design, route="fused")
    x = tokens(layer.dims)

    def run(x):
        return checkpoint(lambda x: layer(x, causal=True, padding=LENGTHS), x, use_reentrant=reentrant)

    if reentrant:  # which works with `backward` alone
        layer.zero_grad()
        x.requires_grad_()
        run(x).square().sum().backward()
        got = [x.grad, *(p.grad for p in layer.parameters() if p.grad is not None)]
        layer.zero_grad()
        x = x.detach().requires_grad_()
        layer(x, causal=True, padding=LENGTHS).square().sum().backward()
        agree(got, [x.grad, *(p.grad for p in layer.parameters() if p.grad is not None)], 1e-12)
        return
    wanted = values_and_gradients(layer, x, causal=True, padding=LENGTHS)
    agree(values_and_gradients(layer, x, run), wanted, 1e-12)


def by_torch(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@every_design
@pytest.mark.parametrize(
    "stored", [by_torch, lambda state: from_safetensors(to_safetensors(state))], ids=["torch", "safe"]
)
def test_saved_and_loaded(design, stored):
    layer = attention(design, route="fused")
    other, x = of_the_same_kind(layer), tokens(layer.dims)
    other.load_state_dict(stored(layer.state_dict()))
    assert torch.equal(other(x, causal=True), layer(x, causal=True))


@every_design
def test_a_state_that_does_not_fit_is_refused(design):
    layer = attention(design)
    state = layer.state_dict()
    for name, weight in state.items():
        with pytest.raises(RuntimeError, match=rf'Missing key\(s\) in state_dict: "{name}"'):
            layer.load_state_dict({other: each for other, each in state.items() if other != name})
        with pytest.raises(RuntimeError, match=rf"size mismatch for {name}"):
            layer.load_state_dict({**state, name: torch.zeros(*weight.shape[:-1], weight.shape[-1] + 1)})
    with pytest.raises(RuntimeError, match=r'Unexpected key\(s\) in state_dict: "projections.another"'):
        layer.load_state_dict({**state, "projections.another": torch.zeros(1)})


@every_design
def test_made_in_inference_mode(design):
    with torch.inference_mode():
        layer = attention(design, route="fused")
        x, cache = tokens(layer.dims), layer.new_cache(2, 5)
        wanted = layer(x, causal=True)
        first = [layer.step(part, cache) for part in x[:, :3].split((1, 1, 1), 1)]
        agree([torch.cat(first, 1)], [wanted[:, :3]], 1e-10)
        for parameter in layer.parameters():
            parameter.mul_(2)
        cache.truncate(0)
        again = [layer.step(part, cache) for part in x.split((2, 1, 1, 1), 1)]
        agree([torch.cat(again, 1)], [layer(x, causal=True)], 1e-10)


class Doubled(torch.nn.Module):
    def forward(self, weight):
        return 2 * weight


@every_design
def test_a_matrix_may_be_parametrized(design):
    layer = attention(design, route="fused")
    x = tokens(layer.dims)
    for name in list(layer.projections.weights):
        by_hand, changed = copy.deepcopy(layer), copy.deepcopy(layer)
        with torch.no_grad():
            getattr(by_hand.projections, name).mul_(2)
        parametrize.register_parametrization(changed.projections, name, Doubled())
        wanted = by_hand(x, causal=True)
        agree([changed(x, causal=True)], [wanted], 1e-12)
        cache = changed.new_cache(2, 5)
        agree([torch.cat([changed.step(part, cache) for part in x.split((2, 1, 2), 1)], 1)], [wanted], 1e-10)
        parametrize.remove_parametrizations(changed.projections, name)
        agree([changed(x, causal=True)], [wanted], 1e-12)
