"""Is decoding, token by token or by chunks, the causal attention of all tokens at once, in the memory it says?"""

from __future__ import annotations

import torch
from torch import Tensor

from qkvlab.attention import Attention
from qkvlab.attention.cache import Cache
from qkvlab.designs import Design
from qkvlab.testing.sizes import BATCH, attention, distance, require, sizes, tokens

_TOKENS = 11
_WAYS = {
    "step by step": (1,) * _TOKENS,
    "by chunks": (2, 1, 4, 1, 3),
    "all at once and then steps": (_TOKENS - 2, 1, 1),
}


def steps_equal_all_at_once(design: Design) -> None:
    """Steps of one token, chunks of mixed sizes, and a prompt followed by steps equal the causal forward pass."""
    dims = sizes(design)
    x = tokens(dims, _TOKENS)
    for route in ("plain", "fused"):
        layer = attention(design, dims, route=route)
        whole = layer(x, causal=True)
        for way, counts in _WAYS.items():
            cache = layer.new_cache(BATCH, _TOKENS)
            gap = distance(_decode(layer, x, counts, cache), whole)
            require(gap < 1e-10, f"{way}, decoding differs by {gap:.1e} from all at once ({route} route)")
            require(len(cache) == _TOKENS, f"the cache has seen {_TOKENS} tokens and says {len(cache)}")


def decoding_holds_what_cost_says(design: Design) -> None:
    """A cache takes `cost`'s numbers per token and no more, and never grows or moves."""
    dims = sizes(design)
    for dtype in (torch.float32, torch.bfloat16):
        layer = attention(design, dims, dtype=dtype)
        cache = layer.new_cache(BATCH, _TOKENS)
        says = design.cost(dims).cache_per_token * BATCH * _TOKENS * dtype.itemsize
        held = _stores(cache)
        require(cache.nbytes == says, f"cost says {says} bytes for {_TOKENS} tokens, the cache says {cache.nbytes}")
        require(sum(held.values()) == says, f"cost says {says} bytes for {_TOKENS} tokens, the cache holds {held}")
        _decode(layer, tokens(dims, _TOKENS, dtype=dtype), (4, 1, _TOKENS - 5), cache)
        require(_stores(cache) == held, "the cache moved or grew: it is written in place")


def decoded_rows_are_alone(design: Design) -> None:
    """Other tokens in one sequence of the batch change nothing in another one."""
    dims = sizes(design)
    x = tokens(dims, _TOKENS)
    other = torch.cat([x[:1], tokens(dims, _TOKENS, seed=9)[1:]])
    layer = attention(design, dims, route="fused")
    counts = _WAYS["by chunks"]
    before, after = (_decode(layer, given, counts, layer.new_cache(BATCH, _TOKENS)) for given in (x, other))
    gap = distance(before[:1], after[:1])
    require(gap < 1e-12, f"decoding one sequence changed by {gap:.1e} with the tokens of another")


def what_is_forgotten_is_gone(design: Design) -> None:
    """After `truncate` and `reset` a cache goes on as if the forgotten tokens had never come."""
    dims = sizes(design)
    x, wrong = tokens(dims, _TOKENS), tokens(dims, _TOKENS, seed=9)
    layer = attention(design, dims, route="fused")
    whole, cache = layer(x, causal=True), layer.new_cache(BATCH, 3 * _TOKENS)
    _decode(layer, wrong, (_TOKENS,), cache)
    cache.reset()
    first = _decode(layer, x[:, :6], (5, 1), cache)
    _decode(layer, wrong[:, 6:9], (1, 2), cache)
    cache.truncate(6)
    gap = distance(torch.cat([first, _decode(layer, x[:, 6:], (1, 2, 2), cache)], 1), whole)
    require(gap < 1e-10, f"after truncate and reset decoding differs by {gap:.1e} from all at once")


def _decode(layer: Attention, x: Tensor, counts: tuple[int, ...], cache: Cache) -> Tensor:
    return torch.cat([layer.step(part, cache) for part in x.split(counts, 1)], 1)


def _stores(cache: Cache) -> dict[int, int]:
    # address and bytes of every tensor that the cache holds, by whatever name
    found: dict[int, int] = {}
    waiting = list(vars(cache).values())
    while waiting:
        each = waiting.pop()
        if isinstance(each, torch.Tensor):
            found[each.untyped_storage().data_ptr()] = each.untyped_storage().nbytes()
        elif isinstance(each, dict):
            waiting += each.values()
        elif isinstance(each, (tuple, list)):
            waiting += each
    return found
