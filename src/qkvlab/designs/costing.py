"""What a whole attention layer of a design costs: parameters, FLOPs, cache, and what decoding reads.

Everything follows from what the design says of itself; nothing is declared twice or typed in.
"""

from __future__ import annotations

from qkvlab.contracts import Dims, LayerCost
from qkvlab.designs.design import Design
from qkvlab.designs.grammar import parse
from qkvlab.designs.work import cheaper, reach, work
from qkvlab.errors import BadInput


def cost(design: str | Design, dims: Dims, tokens: int, *, bytes_per_number: int = 2) -> LayerCost:
    """Return what one layer costs, W_O and biases included, for one sequence.

    Args:
        design: a design or its name, such as ``"QKK/kv2"``.
        dims: sizes of the layer.
        tokens: of a forward pass; in decoding, all that the last one has before its eyes, itself included.
        bytes_per_number: of weights and cache; 2 is bfloat16.

    Raises:
        BadInput: an unknown design, or numbers that cannot be meant.
        Refusal: the design cannot exist at these sizes.

    >>> layer = cost("QKK", Dims.of(512, 8), 1024)
    >>> layer.parameters, layer.cache_bytes, layer.decode_flops
    (786432, 1024, 3670016)
    """
    for name, number in (("tokens", tokens), ("bytes_per_number", bytes_per_number)):
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise BadInput(f"{name} must be a positive whole number; got {number!r}.")
    if not isinstance(dims, Dims):
        raise BadInput(f"dims must be the sizes of a layer, such as Dims.of(4096, 32); got {dims!r}.")
    design = design if isinstance(design, Design) else parse(design)
    dims = design.sizes(dims)
    counted = work(design, dims)
    design.kept(dims, tokens - 1)  # a table of positions may end before
    out = dims.heads * dims.d_value * dims.d_model
    bias = dims.d_model if design.out_bias else 0
    keys = len(reach(design, tokens - 1, 1))
    decoded = cheaper(design, design.absorbed(), dims, 1, keys)
    own = design.cost(dims)
    return LayerCost(
        parameters=own.parameters + out + bias,
        forward_flops=counted.of(tokens, tokens) + 2 * tokens * out,
        decode_flops=work(decoded, dims).of(1, keys) + 2 * out,
        absorbed=decoded is not design,
        cache_numbers=own.cache_per_token,
        cache_bytes=own.cache_per_token * bytes_per_number,
        read_weight_bytes=(sum(counted.read.values()) + out + bias) * bytes_per_number,
        read_cache_bytes=keys * own.cache_per_token * bytes_per_number,
    )
