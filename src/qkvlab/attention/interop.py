"""To and from `torch.nn.MultiheadAttention`: the same numbers in the other layer's order.

d d_model    t tokens    PyTorch holds W_Q, W_K and W_V transposed, as one (3 d, d), and their biases as one (3 d,)
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from qkvlab.contracts import Dims
from qkvlab.designs import Design
from qkvlab.designs.design import join_heads
from qkvlab.errors import BadInput, Refusal

if TYPE_CHECKING:
    from qkvlab.attention.layer import Attention, Route

_MATRICES, _BIASES = ("q", "k", "v"), ("q_bias", "k_bias", "v_bias")


def from_torch(kind: type[Attention], module: nn.MultiheadAttention, route: Route = "fused") -> Attention:
    """Make the layer that computes what PyTorch's own does from the same numbers, batch first.

    dtype, device, dropout, training mode and what is trained stay what they are. The two speak of masks in opposite
    ways; with b batch, h heads, t queries, s keys::

        torch: True is hidden                        here: True may be seen
        key_padding_mask=m      (b, s)               padding=~m
        attn_mask=m             (t, s)               mask=~m
        attn_mask=m             (b h, t, s)          mask=~m.unflatten(0, (b, h))
        attn_mask=upper, is_causal=True              causal=True
        module(x, y, y)                              attn(x, attn.remember(y))

    Where nothing may be seen PyTorch gives NaN, and this layer 0. Additive masks have no counterpart.

    Raises:
        BadInput: kdim or vdim other than embed_dim, add_bias_kv, add_zero_attn.

    >>> from qkvlab import Attention
    >>> module, x = nn.MultiheadAttention(16, 2, batch_first=True), torch.ones(1, 3, 16)
    >>> torch.allclose(Attention.from_torch(module)(x), module(x, x, x)[0], atol=1e-6)
    True
    """
    _refuse_what_no_design_has(module)
    stacked, biases, out = module.in_proj_weight, module.in_proj_bias, module.out_proj
    design = "QKV" if biases is None else "QKV/bias"
    with torch.device("meta"):  # draws no noise: every number is replaced
        layer = kind(design, d_model=module.embed_dim, heads=module.num_heads, route=route, dropout=module.dropout)
    layer = layer.to(stacked.dtype).to_empty(device=stacked.device).train(module.training)
    given = dict(zip(_MATRICES, stacked.mT.chunk(3, -1), strict=True))
    if biases is not None:
        given |= dict(zip(_BIASES, biases[None].chunk(3, -1), strict=True))
    with torch.no_grad():
        for name, numbers in given.items():
            layer.projections.weights[name].copy_(numbers)
            layer.projections.weights[name].requires_grad_((biases if name in _BIASES else stacked).requires_grad)
        for name, numbers in out.named_parameters():
            layer.out.get_parameter(name).copy_(numbers).requires_grad_(numbers.requires_grad)
    return layer


def to_torch(layer: Attention, *, batch_first: bool = True) -> nn.MultiheadAttention:
    """Make PyTorch's own layer from the same numbers; `from_torch` undoes it.

    It has a matrix for each of q, k and v: shared ones are copied, missing ones become the identity, key heads are
    repeated. A warning says so, for there they train apart.

    Raises:
        Refusal: sizes or a design that it cannot hold.
        BadInput: some of W_Q, W_K and W_V, or of their biases, are trained and others are not.
    """
    design, dims, out = layer.design, layer.dims, layer.out
    biased = _refuse_what_torch_lacks(design, dims) or out.bias is not None
    learns = [_alike(layer, multiplies) for multiplies in (True, False)]
    with torch.no_grad():
        made = _affine(design, layer.projections.weights, dims, out.weight)
        scale = math.sqrt(dims.d_head) / design.root(dims)
        made["q"] = [part if scale == 1 else part * scale for part in made["q"]]
    with torch.device("meta"):
        module = nn.MultiheadAttention(
            dims.d_model, dims.heads, dropout=layer.dropout, bias=biased, batch_first=batch_first
        )
    module = module.to(out.weight.dtype).to_empty(device=out.weight.device).train(layer.training)
    with torch.no_grad():
        module.in_proj_weight.copy_(torch.cat([matrix.mT for matrix, _ in made.values()])).requires_grad_(learns[0])
        module.out_proj.weight.copy_(out.weight).requires_grad_(out.weight.requires_grad)
        if biased:
            module.in_proj_bias.copy_(torch.cat([bias for _, bias in made.values()])).requires_grad_(learns[1])
            last = torch.zeros_like(out.weight[:, 0]) if out.bias is None else out.bias
            module.out_proj.bias.copy_(last).requires_grad_(out.bias is None or out.bias.requires_grad)
    held = sum(part.numel() for part in layer.parameters())
    apart = sum(part.numel() for part in module.parameters())
    if held < apart:
        warnings.warn(
            f"{design} holds {held} numbers and torch.nn.MultiheadAttention {apart}: what is shared, missing or fixed "
            "here is written out there and trains by itself.",
            stacklevel=3,  # the caller of Attention.to_torch
        )
    return module


def _refuse_what_no_design_has(module: nn.MultiheadAttention) -> None:
    if not isinstance(module, nn.MultiheadAttention):
        raise BadInput(f"from_torch needs a torch.nn.MultiheadAttention; got {type(module).__name__}.")
    d = module.embed_dim
    if (module.kdim, module.vdim) != (d, d):
        raise BadInput(
            f"keys and values are made of one memory, d_model={d} wide, as queries are; got kdim={module.kdim}, "
            f"vdim={module.vdim}. Bring them to {d} channels first."
        )
    for option, adds in (("add_bias_kv", "a learned key and value"), ("add_zero_attn", "a key and value of zeros")):
        if module.bias_k is not None if option == "add_bias_kv" else module.add_zero_attn:
            raise BadInput(
                f"{option}=True adds {adds} to every sequence, and no design does; got {option}=True. "
                "QKV/sink has a learned logit instead, which brings no value."
            )


def _refuse_what_torch_lacks(design: Design, dims: Dims) -> bool:
    # else whether q, k or v need biases
    lacks = "torch.nn.MultiheadAttention cannot hold"
    if (dims.heads * dims.d_head, dims.d_value) != (dims.d_model, dims.d_head):
        raise Refusal(
            f"{lacks} these sizes: heads x d_head must be d_model, and d_value be d_head; got heads={dims.heads}, "
            f"d_head={dims.d_head}, d_value={dims.d_value}, d_model={dims.d_model}."
        )
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    # judged on random weights: at their start gains are 1 and change nothing yet
    weights = {name: draw(m.rows, m.columns) for name, m in design.matrices(dims).items()}
    says, x = design.head_sizes(dims), draw(3, dims.d_model)
    heads = draw(says.queries, 3, says.value_channels)
    for what, there in (
        (f"a window of {design.window} tokens", design.window is not None),
        ("tokens that do not see themselves", not design.sees_itself),
        ("scores that are changed before the softmax", design.bends(weights, dims)),
        ("sinks", design.sinks(weights, dims) is not None),
        ("heads that are changed before W_O", not _same(design.finish(weights, heads, dims), heads)),
    ):
        if there:
            raise Refusal(f"{lacks} {what}; got {design}.")
    made = _affine(design, weights, dims, x)
    for positions in (None, torch.tensor([0, 2, 1])):
        got = _qkv(design, weights, dims, x, positions)
        if not all(_same(got[name], x @ matrix + bias) for name, (matrix, bias) in made.items()):
            raise Refusal(
                f"{lacks} q, k or v that are more than x times a matrix, such as norms or positions inside the layer; "
                f"got {design}."
            )
    return any(bool(bias.any()) for _, bias in made.values())


def _alike(layer: Attention, multiplies: bool) -> bool:
    # whether the matrices, or else what is added to them, are trained
    matrices = layer.design.matrices(layer.dims)
    held = layer.projections.weights.items()
    learns = {name: part.requires_grad for name, part in held if matrices[name].multiplies is multiplies}
    if len(set(learns.values())) > 1:
        raise BadInput(
            "torch.nn.MultiheadAttention holds W_Q, W_K and W_V as one parameter, trained or not as a whole, and their "
            f"biases likewise; got requires_grad {learns} of {layer.design}. Set them alike first."
        )
    return all(learns.values())


def _affine(design: Design, weights: Mapping[str, Tensor], dims: Dims, like: Tensor) -> dict[str, list[Tensor]]:
    """Read off the matrix (d, d) and the bias (d,) of each of q, k and v: what they are at x = 0, and their slope."""
    each = torch.eye(dims.d_model, dtype=like.dtype, device=like.device)[:, None]  # texts of one token
    made = torch.func.jvp(lambda x: _qkv(design, weights, dims, x, None), (torch.zeros_like(each),), (each,))
    bias, matrix = made[0], made[1]
    return {name: [matrix[name][:, 0], bias[name][0, 0]] for name in bias}


def _qkv(
    design: Design, weights: Mapping[str, Tensor], dims: Dims, x: Tensor, positions: Tensor | None
) -> dict[str, Tensor]:
    # (..., t, d) -> each (..., t, d), with key and value heads repeated for the queries that they serve
    q, memory = design.project(weights, x, dims, positions)
    made = zip("qkv", (q, *design.recall(weights, memory, dims)), strict=True)
    return {name: join_heads(part.repeat_interleave(dims.heads // part.shape[-3], -3)) for name, part in made}


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-9, atol=1e-9)
