"""Every design on a card: the numbers of the CPU in double precision, forward, gradients and decoding."""

from __future__ import annotations

import pytest
import torch

from qkvlab import Attention
from qkvlab.designs import examples, parse
from qkvlab.testing.sizes import attention, sizes, tokens

TOKENS, FEWEST = 37, 16
DESIGNS = list(examples().values())


def drawn(layer):
    """As many tokens as the design has places for."""
    return tokens(layer.dims, FEWEST if "learned" in layer.design.name else TOKENS).double()


def near(got, wanted, limit):
    wanted = wanted.double()
    gap = (got.cpu().double() - wanted).abs().max() / wanted.abs().max().clamp(min=1e-6)
    assert gap < limit, f"differs by {gap:.1e} of the largest number"


def both(design, dtype=torch.float32):
    """The same layer in double precision here and on the card."""
    here = attention(design, sizes(design), route="fused")
    there = attention(design, sizes(design), route="fused")
    there.load_state_dict(here.state_dict())
    return here.double().eval(), there.to("cuda", dtype).eval()


@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("design", DESIGNS, ids=str)
def test_forward_and_gradients(design, causal, prepared):
    here, there = both(design)
    there = there.prepare() if prepared else there
    x = drawn(here)
    with torch.no_grad():
        wanted = here(x, causal=causal)
        for _ in range(2):  # looked at, then known
            near(there(x.to("cuda", torch.float32), causal=causal), wanted, 2e-5)
    given, other = x.clone().requires_grad_(), x.to("cuda", torch.float32).requires_grad_()
    here(given, causal=causal).square().sum().backward()
    for _ in range(2):
        there.zero_grad()
        other.grad = None
        there(other, causal=causal).square().sum().backward()
        near(other.grad, given.grad, 1e-4)
        for (name, a), (_, b) in zip(there.named_parameters(), here.named_parameters(), strict=True):
            if b.grad is not None and float(b.grad.abs().max()) > 1e-9:
                assert a.grad is not None, name
                near(a.grad, b.grad, 3e-4)


@pytest.mark.parametrize("design", DESIGNS, ids=str)
def test_padding_and_masks(design):
    here, there = both(design)
    x = drawn(here)
    generator = torch.Generator().manual_seed(3)
    mask = torch.rand(x.shape[1], x.shape[1], generator=generator) < 0.7
    lengths = torch.tensor([5, x.shape[1]])
    with torch.no_grad():
        for options in ({"padding": lengths}, {"padding": lengths, "causal": True}, {"mask": mask}):
            moved = {k: o.cuda() if isinstance(o, torch.Tensor) else o for k, o in options.items()}
            near(there(x.to("cuda", torch.float32), **moved), here(x, **options), 2e-5)


@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize("design", DESIGNS, ids=str)
def test_decoding(design, prepared):
    here, there = both(design)
    there = there.prepare() if prepared else there
    x = tokens(here.dims, 11).double()
    with torch.no_grad():
        wanted = here(x, causal=True)
        cache, moved = there.new_cache(x.shape[0], 11), x.to("cuda", torch.float32)
        made = [there.step(part, cache) for part in moved.split((4, 1, 1, 2, 1, 1, 1), 1)]
        near(torch.cat(made, 1), wanted, 2e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["QKV", "QKV/kv2", "QKV/kv1", "QKK", "QKV/rope", "MLA64/rope", "QKV/window64"])
def test_no_tensor_of_queries_and_keys(name, dtype):
    tokens, heads = 4096, 8
    layer = Attention(parse(name), d_model=512, heads=heads).to("cuda", dtype)
    x = torch.randn(1, tokens, 512, device="cuda", dtype=dtype, requires_grad=True)
    layer(x, causal=True).sum().backward()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    layer(x, causal=True).sum().backward()
    scores = heads * tokens**2 * dtype.itemsize
    assert torch.cuda.max_memory_allocated() - before < scores / 2


@pytest.mark.parametrize("name", ["QKV", "QKV/kv2", "QKK/rope", "MLA8/rope", "QKV/diff1"])
def test_compiled_in_one_graph(name):
    torch.compiler.reset()
    design = parse(name)
    layer = Attention(design, d_model=64, heads=4).cuda()
    x = torch.randn(2, TOKENS, 64, device="cuda")
    got = torch.compile(layer, fullgraph=True)(x, causal=True)
    near(got.detach(), layer.double()(x.double(), causal=True).detach().cpu(), 2e-5)
