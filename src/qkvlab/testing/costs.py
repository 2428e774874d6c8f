"""Does a design cost what it says: parameters, FLOPs, cache?"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from qkvlab.designs import Design
from qkvlab.designs.costing import cost as layer_cost
from qkvlab.testing.sizes import BATCH, MEMORY, TOKENS, attention, projections, require, sizes, tokens

_PRODUCTS = ("mm", "bmm", "addmm", "baddbmm", "mv", "dot", "linear", "matmul")


def parameters_equal_cost(design: Design) -> None:
    """The module holds as many numbers as `cost` says, one parameter per matrix, trained as declared."""
    dims = sizes(design)
    module, matrices = projections(design, dims), design.matrices(dims)
    held = {name: tuple(p.shape) for name, p in module.named_parameters()}
    named = {name: (m.rows, m.columns) for name, m in matrices.items()}
    require(held == named, f"matrices() names {named}, but the module holds {held}")
    count, cost = sum(p.numel() for p in module.parameters()), design.cost(dims).parameters
    require(count == cost, f"cost says {cost} parameters, the module holds {count}: derive one from the other")
    for name, parameter in module.named_parameters():
        trained = matrices[name].trained
        require(parameter.requires_grad == trained, f"matrix {name} declares trained={trained}; it is not so")


def flops_equal_cost(design: Design) -> None:
    """PyTorch's own counter finds as many FLOPs in `project` and `recall` of the same tokens as `cost` says."""
    dims = sizes(design)
    module, x = projections(design, dims), tokens(dims)
    with FlopCounterMode(display=False) as counter:
        module.recall(module.project(x)[1])
    counted = counter.get_total_flops() / (BATCH * TOKENS)
    cost = design.cost(dims).flops_per_token
    require(counted == cost, f"cost says {cost} FLOPs per token, PyTorch counts {counted:g} in project and recall")


def layer_equals_cost(design: Design) -> None:
    """A whole layer holds the parameters and does the FLOPs that `qkvlab.cost` says, all at once and decoding."""
    dims = sizes(design)
    layer, x, says = attention(design, dims), tokens(dims), layer_cost(design, dims, TOKENS)
    held = sum(p.numel() for p in layer.parameters())
    require(held == says.parameters, f"qkvlab.cost says {says.parameters} parameters, the layer holds {held}")
    with FlopCounterMode(display=False) as forward:
        layer(x, causal=True)
    counted = forward.get_total_flops() / BATCH
    require(
        counted == says.forward_flops,
        f"qkvlab.cost says {says.forward_flops} FLOPs for {TOKENS} tokens, PyTorch counts {counted:g}",
    )
    cache = layer.new_cache(BATCH, TOKENS)
    cache.add(layer.remember(x[:, :-1]))
    with FlopCounterMode(display=False) as step:
        layer.step(x[:, -1:], cache)
    counted = step.get_total_flops() / BATCH
    require(
        counted == says.decode_flops,
        f"qkvlab.cost says {says.decode_flops} FLOPs to decode token {TOKENS}, PyTorch counts {counted:g}",
    )


def cache_equals_cost(design: Design) -> None:
    """Memory holds as many numbers per token as `cost` says, none of them twice and none in vain."""
    dims = sizes(design)
    module = projections(design, dims)
    memory = module.remember(tokens(dims, MEMORY))
    for name, kept in memory.kept.items():
        fits = kept.ndim >= 2 and kept.shape[-2] == MEMORY
        require(fits, f"memory {name!r} must be (..., tokens, channels); got {tuple(kept.shape)}")
    per_token = sum(kept.numel() for kept in memory.kept.values()) / (BATCH * MEMORY)
    cost = design.cost(dims).cache_per_token
    require(per_token == cost, f"cost says {cost} cached numbers per token, memory keeps {per_token:g}")
    columns = torch.cat([k.reshape(-1, k.shape[-1]) for k in memory.kept.values()], dim=-1)
    twice = columns.shape[-1] - columns.unique(dim=-1).shape[-1]
    require(twice == 0, f"memory keeps {twice} channels twice: keep one and derive the other in recall")
    before = module.recall(memory)
    for name in memory.kept:
        after = module.recall(type(memory)({**memory.kept, name: memory.kept[name] + 1}))
        same = all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
        require(not same, f"memory keeps {name!r}, but recall never looks at it")


def each_matrix_is_used_once(design: Design) -> None:
    """`project` and `recall` multiply by every matrix exactly once: what is shared is computed once."""
    dims = sizes(design)
    module = projections(design, dims)
    multiply = {name for name, matrix in design.matrices(dims).items() if matrix.multiplies}
    with _Uses({p.untyped_storage().data_ptr(): name for name, p in module.named_parameters()}) as uses:
        module.recall(module.project(tokens(dims))[1])
    for name, count in uses.counts.items():
        once = int(name in multiply)
        require(count == once, f"project and recall multiply by matrix {name} {count} times; it should be {once}")


class _Uses(TorchDispatchMode):
    """Counts the matrix products that each parameter enters."""

    def __init__(self, names: dict[int, str]) -> None:
        super().__init__()
        self.names = names
        self.counts = dict.fromkeys(names.values(), 0)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in _PRODUCTS:
            for arg in args:
                if isinstance(arg, torch.Tensor) and arg.untyped_storage().data_ptr() in self.names:
                    self.counts[self.names[arg.untyped_storage().data_ptr()]] += 1
        return func(*args, **(kwargs or {}))
