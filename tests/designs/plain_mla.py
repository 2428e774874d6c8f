"""Multi-head latent attention as DeepSeek-V2 (2405.04434) writes it, one head at a time, and what must equal it."""

import math

import torch

from qkvlab import Attention
from qkvlab.designs import parse
from qkvlab.testing import sizes

BATCH, TOKENS = 2, 7
EXACT = {"rtol": 0, "atol": 1e-12}


def draw(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def layer_of(design, like=None, route="plain", **dims):
    """A float64 layer whose every parameter is drawn, gains included; or with the parameters of another one."""
    design = parse(design) if isinstance(design, str) else design
    if not dims:
        found = sizes(like.design if like is not None else design)
        dims = {"d_model": found.d_model, "heads": found.heads, "d_head": found.d_head, "d_value": found.d_value}
    layer = Attention(design, **dims, route=route).double()
    if like is not None:
        layer.load_state_dict(like.state_dict())
        return layer
    with torch.no_grad():
        for number, parameter in enumerate(layer.parameters()):
            parameter.copy_(draw(*parameter.shape, seed=number + 20) / math.sqrt(parameter.shape[-2:][0]))
    return layer


def rms(x, gain):
    return gain * x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


def rope(x, at, base=10000.0):
    """Neighbouring channels (2 i, 2 i + 1) turned by the angle at base^(-2 i / c), each pair by its own matrix."""
    c, out = x.shape[-1], torch.zeros_like(x)
    for token, place in enumerate(at.tolist()):
        for i in range(c // 2):
            angle = place * base ** (-2 * i / c)
            turn = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
            out[:, token, 2 * i : 2 * i + 2] = x[:, token, 2 * i : 2 * i + 2] @ torch.tensor(turn, dtype=x.dtype).T
    return out


def paper(layer, x, base=10000.0, at=None):
    """Causal MLA: equations 9 to 19 of the paper, with the norms of its code."""
    w, heads, c = layer.projections.weights, layer.dims.heads, layer.dims.d_head
    at = torch.arange(x.shape[1]) if at is None else at
    latent = rms(x @ w["dkv"], w["dkv_gain"])
    source = rms(x @ w["dq"], w["dq_gain"]) if "dq" in w else x
    n = w["kr"].shape[-1] if "kr" in w else 0
    future = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
    brought = []
    for i in range(heads):
        q, k = source @ w["q"][:, i * c : (i + 1) * c], latent @ w["uk"][:, i * c : (i + 1) * c]
        scores = q @ k.mT
        if n:
            scores = scores + rope(source @ w["qr"][:, i * n : (i + 1) * n], at, base) @ rope(x @ w["kr"], at, base).mT
        shares = (scores / math.sqrt(c + n)).masked_fill(future, -math.inf).softmax(-1)
        e = layer.dims.d_value
        brought.append(shares @ (latent @ w["uv"][:, i * e : (i + 1) * e]))
    return torch.cat(brought, -1) @ layer.out.weight.mT


def equals_the_paper(design):
    """The layer of a design without scaled rotations computes what the paper writes."""
    layer = layer_of(design)
    x = draw(BATCH, TOKENS, layer.dims.d_model, seed=3)
    for at in (None, torch.tensor([0, 1, 2, 5, 6, 30, 31])):
        torch.testing.assert_close(layer(x, causal=True, positions=at), paper(layer, x, at=at), **EXACT)


def absorbed_equals_plain(design):
    """The absorbed form makes the same memory, scores and output of the same parameters, and the same gradients."""
    plain = layer_of(design)
    other = layer_of(plain.design.absorbed(), plain)
    assert {n: p.shape for n, p in plain.named_parameters()} == {n: p.shape for n, p in other.named_parameters()}
    x, y = (draw(BATCH, count, plain.dims.d_model, seed=count) for count in (TOKENS, TOKENS + 4))
    mask = draw(BATCH, plain.dims.heads, TOKENS, TOKENS) > 0
    mask[1, :, 3] = False
    for seen, options in (
        (None, {}),
        (None, {"causal": True}),
        (None, {"causal": True, "padding": torch.tensor([3, TOKENS])}),
        (None, {"mask": mask}),
        (None, {"causal": True, "positions": torch.tensor([[0, 1, 2, 5, 6, 30, 31], [3, 4, 5, 6, 7, 8, 9]])}),
        (y, {}),
        (y, {"causal": "bottom-right", "padding": torch.tensor([TOKENS, 4])}),
    ):
        gradients = []
        for layer in (plain, other):
            layer.zero_grad()
            layer(x, None if seen is None else layer.remember(seen), **options).sin().sum().backward()
            gradients.append([p.grad for p in layer.parameters()])
        with torch.no_grad():
            memories = [None if seen is None else layer.remember(seen) for layer in (plain, other)]
            if seen is not None:
                assert all(torch.equal(memories[0].kept[name], memories[1].kept[name]) for name in memories[0].kept)
            traces = [layer.trace(x, m, **options) for layer, m in zip((plain, other), memories, strict=True)]
            for name in ("scores", "weights", "output"):
                torch.testing.assert_close(getattr(traces[1], name), getattr(traces[0], name), **EXACT)
            torch.testing.assert_close(traces[1].contributions(), traces[0].contributions(), **EXACT)
            fused = layer_of(other.design, other, route="fused", **_sizes(other))
            torch.testing.assert_close(fused(x, memories[0], **options), traces[0].output, **EXACT)
        torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=1e-11)


def _sizes(layer):
    return {name: getattr(layer.dims, name) for name in ("d_model", "heads", "d_head", "d_value")}
