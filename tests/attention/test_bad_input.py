"""What does not fit a layer is refused in one line by every door, whatever the design; numbers are never looked at."""

import math

import numpy as np
import pytest
import torch

from qkvlab import Attention
from qkvlab.attention.fitting import kept_widths
from qkvlab.contracts import Memory
from qkvlab.designs import examples, parse
from qkvlab.errors import BadInput, Refusal
from qkvlab.testing.sizes import attention, tokens

every_design = pytest.mark.parametrize("design", examples().values(), ids=str)
DOORS = {
    "forward": lambda layer, x: layer(x),
    "trace": lambda layer, x: layer.trace(x),
    "remember": lambda layer, x: layer.remember(x),
    "ask a memory": lambda layer, x: layer(x, layer.remember(tokens(layer.dims))),
    "step": lambda layer, x: layer.step(x, layer.new_cache(2, 9)),
    "packed": lambda layer, x: layer(x, packed=(5,)),
}
every_door = pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)


def refused(act, says):
    with pytest.raises(BadInput, match=says) as caught:
        act()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


WRONG_X = {
    "float32": (lambda x: x.float(), r"x is torch\.float32 and the layer's weights torch\.float64; cast one"),
    "bfloat16": (lambda x: x.bfloat16(), r"x is torch\.bfloat16 and the layer's weights torch\.float64"),
    "whole numbers": (lambda x: x.long(), r"x is torch\.int64"),
    "complex": (lambda x: x.to(torch.complex128), r"x is torch\.complex128"),
    "elsewhere": (lambda x: x.to("meta"), r"x is on meta and the layer's weights on cpu; move one"),
    "too wide": (lambda x: torch.cat([x, x], -1), r"x must be \(batch, tokens, d_model=\d+\); got \(2, 5, \d+\)"),
    "too narrow": (lambda x: x[..., 1:], r"x must be \(batch, tokens, d_model=\d+\)"),
    "one token": (lambda x: x[0, 0], r"x must be \(batch, tokens, d_model=\d+\); got \(\d+,\)"),
    "one number": (lambda x: x[0, 0, 0], r"got \(\)"),
    "an array": (lambda x: x.numpy(), r"x must be a tensor .*; got ndarray"),
    "a list": (lambda x: x.tolist(), r"x must be a tensor .*; got list"),
    "nothing": (lambda x: None, r"x must be a tensor .*; got NoneType"),
    "sparse": (lambda x: x.to_sparse(), r"x must be a dense tensor here; got a torch\.sparse_coo one"),
}


@every_design
def test_tokens_that_do_not_fit(design):
    layer = attention(design)
    for make, says in WRONG_X.values():
        for door in DOORS.values():
            refused(lambda make=make, door=door: door(layer, make(tokens(layer.dims))), says)


@every_door
def test_a_layer_elsewhere_refuses_tokens_here(door):
    layer = attention(parse("QKV/rope")).to("meta")
    refused(lambda: door(layer, tokens(layer.dims)), "x is on cpu and the layer's weights on meta")


WRONG_MEMORY = {
    "nothing kept": (lambda kept: {}, r"of each token; got nothing"),
    "one missing": (lambda kept: dict(list(kept.items())[1:]), r"memory of .* here is "),
    "a foreign name": (lambda kept: {**kept, "zebra": next(iter(kept.values()))}, r"got .*zebra \(\d+\): make it with"),
    "too wide": (lambda kept: {name: torch.cat([x, x], -1) for name, x in kept.items()}, r"memory of .* here is "),
    "float32": (lambda kept: {name: x.float() for name, x in kept.items()}, r"is torch\.float32 and x torch\.float64"),
    "elsewhere": (lambda kept: {name: x.to("meta") for name, x in kept.items()}, r"of the memory is on meta and x on"),
    "arrays": (lambda kept: {name: x.numpy(force=True) for name, x in kept.items()}, r"memory must hold tensors"),
    "one axis": (lambda kept: {name: x[0, 0] for name, x in kept.items()}, r"memory must hold tensors"),
    "another batch": (
        lambda kept: {name: torch.cat([x, x[:1]]) for name, x in kept.items()},
        r"for the batch \(2,\) of x; got",
    ),
}


@every_design
def test_memories_that_do_not_fit(design):
    layer = attention(design)
    x, kept = tokens(layer.dims), layer.remember(tokens(layer.dims, 7)).kept
    for act in (layer, layer.trace):
        for make, says in WRONG_MEMORY.values():
            refused(lambda act=act, make=make: act(x, Memory(make(kept))), says)
        for wrong in (kept, x, tuple(kept.values()), "memory"):
            refused(lambda act=act, wrong=wrong: act(x, wrong), r"memory must be what `remember` of this layer returns")
        for positions in (torch.arange(6), torch.arange(7.0), torch.zeros(3, 7, dtype=torch.int64), [0] * 7):
            refused(lambda act=act, at=positions: act(x, Memory(kept, at)), r"positions of 7 keys must be")
        refused(
            lambda act=act: act(x, Memory(kept, torch.arange(7, device="meta"))),
            r"positions of the memory must be on the device of x, cpu; got meta",
        )


def test_arrays_of_a_memory_are_of_equally_many_tokens():
    layer = attention(parse("QKV"))
    kept = layer.remember(tokens(layer.dims)).kept
    refused(
        lambda: layer(tokens(layer.dims), Memory({"k": kept["k"], "v": kept["v"][:, 1:]})), "as many tokens in each"
    )


def test_every_memory_is_of_a_design_that_keeps_the_same_or_is_refused():
    layers = {}
    for name, design in examples().items():
        try:
            layers[name] = Attention(design, d_model=24, heads=4, route="plain").double()
        except Refusal:
            layers[name] = Attention(design, d_model=24, heads=4, d_head=8, route="plain").double()
    x = torch.zeros(1, 2, 24, dtype=torch.float64)
    memories = {name: layer.remember(x) for name, layer in layers.items()}
    widths = {name: {n: kept.shape[-1] for n, kept in memory.kept.items()} for name, memory in memories.items()}
    taken = 0
    for mine, layer in layers.items():
        assert kept_widths(layer.design, layer.dims) == widths[mine]
        for theirs, memory in memories.items():
            if widths[mine] == widths[theirs]:
                layer(x, memory)
                taken += 1
            else:
                refused(lambda layer=layer, memory=memory: layer(x, memory), "make it with `remember` of this layer")
    assert len(layers) < taken < len(layers) ** 2 / 2


@every_design
def test_one_memory_for_all_and_one_question_to_many(design):
    layers = [attention(design, route=route) for route in ("plain", "fused")]
    x, y = tokens(layers[0].dims), tokens(layers[0].dims, 7, seed=3)
    for layer in layers:
        shelf = layer(x, layer.remember(y[:1]))
        assert torch.allclose(shelf, layer(x, layer.remember(y[:1].expand(2, -1, -1))), rtol=0, atol=1e-12)
        asked = layer(x[:1], layer.remember(y))
        assert torch.allclose(asked, layer(x[:1].expand(2, -1, -1), layer.remember(y)), rtol=0, atol=1e-12)


WRONG_MASKS = {
    "padding as a list": ({"padding": [3, 5]}, r"padding must be a tensor; got list"),
    "padding elsewhere": (
        {"padding": torch.ones(2, dtype=torch.int64, device="meta")},
        r"padding must be on the device",
    ),
    "mask as an array": ({"mask": np.ones((5, 5), bool)}, r"mask must be a tensor; got ndarray"),
    "mask elsewhere": (
        {"mask": torch.ones(5, 5, dtype=torch.bool, device="meta")},
        r"mask must be on the device of x, cpu",
    ),
    "positions as a list": ({"positions": [0, 1, 2, 3, 4]}, r"positions must be a tensor; got list"),
    "positions elsewhere": ({"positions": torch.arange(5, device="meta")}, r"positions must be on the device of x"),
    "too few positions": ({"positions": torch.arange(4)}, r"positions of 5 tokens must be whole numbers \(5,\)"),
    "positions of another batch": ({"positions": torch.zeros(3, 5, dtype=torch.int64)}, r"positions of 5 tokens"),
    "positions in fractions": ({"positions": torch.arange(5.0)}, r"positions of 5 tokens.*got torch\.float32 \(5,\)"),
    "positions as flags": ({"positions": torch.ones(5, dtype=torch.bool)}, r"positions of 5 tokens.*got torch\.bool"),
    "no axis": ({"positions": torch.tensor(3)}, r"positions of 5 tokens.*got torch\.int64 \(\)"),
}


@pytest.mark.parametrize(("options", "says"), WRONG_MASKS.values(), ids=WRONG_MASKS)
@pytest.mark.parametrize("name", ["QKV", "QKK/kv2/rope", "QKV/sin", "MLA/rope", "QKV/alibi"])
def test_masks_and_positions_that_do_not_fit(name, options, says):
    layer = attention(parse(name))
    x = tokens(layer.dims)
    refused(lambda: layer(x, **options), says)
    refused(lambda: layer.trace(x, layer.remember(x), **options), says)
    if "positions" in options:
        refused(lambda: layer.remember(x, **options), says)


@every_design
def test_numbers_are_left_alone(design):
    layer = attention(design)
    x = tokens(layer.dims)
    for broken in (math.nan, math.inf):
        x[1, 2, 0] = broken
        out = layer(x, causal=True)
        assert not out[1, 2:].isfinite().all() and out[0].isfinite().all()
        layer.remember(x)
        assert layer(x[:1], layer.remember(x[:1])).isfinite().all()


def test_a_memory_made_under_autocast_belongs_there():
    layer = Attention("QKV/rope", d_model=16, heads=2)
    x = torch.randn(2, 5, 16)
    with torch.autocast("cpu", torch.bfloat16):
        memory = layer.remember(x)
        assert layer(x, memory).dtype == torch.bfloat16
    refused(lambda: layer(x, memory), r"k of the memory is torch\.bfloat16 and x torch\.float32.*torch\.autocast")
