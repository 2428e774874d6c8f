"""Arrays that count the products they enter instead of computing them: costs at any size, without memory or PyTorch.

A weight of a billion entries is one zero, seen so many times; x @ W has the right shape and is zeros again. Everything
else NumPy does as ever, on single tokens. What learns is passed on, so that products of gradients are counted too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np


class Tally:
    """What was counted so far.

    Attributes:
        flops: of matrix products, `einsum` included; multiply-adds count two, and elementwise work none.
        backward: of the gradients of these products: once more for each factor that learns.
        taken: entries of those weights of which only rows were taken, by name, such as tables of positions.
    """

    def __init__(self) -> None:
        self.flops = 0
        self.backward = 0
        self.taken: dict[str, int] = {}

    def zeros(self, *shape: int, learns: bool = False) -> Counted:
        """Return zeros whose products are counted here; ``learns`` says whether they need a gradient."""
        return _zeros(shape, self, learns)

    def weights(self, shapes: Mapping[str, tuple[int, int]], learns: Collection[str] = ()) -> dict[str, Counted]:
        """Return a zero matrix of each name; those named in ``learns`` need gradients."""
        found = {name: self.zeros(*shape, learns=name in learns) for name, shape in shapes.items()}
        for name, weight in found.items():
            weight.name = name
        return found


class Counted(np.ndarray):
    """Zeros of any shape, made by `Tally`; what is made of them counts on."""

    tally: Tally | None
    name: str | None
    learns: bool

    def __array_finalize__(self, obj: Any) -> None:
        self.tally = getattr(obj, "tally", None)
        self.learns = getattr(obj, "learns", False)
        self.name = None

    def __getitem__(self, key: Any) -> Any:
        part = super().__getitem__(key)
        if self.name is not None and self.tally is not None and np.size(part) < self.size:
            self.tally.taken[self.name] = max(np.size(part), self.tally.taken.get(self.name, 0))
        return part

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        out = kwargs.get("out", ())
        tally = _tally((*inputs, *out))
        if ufunc is np.matmul:
            return _product(np.shape(inputs[0]), np.shape(inputs[1]), tally, _learning(inputs))
        if out:
            kwargs["out"] = tuple(_plain(each) for each in out)
        made = getattr(ufunc, method)(*(_plain(each) for each in inputs), **kwargs)
        return _as_counted(np.asarray(made), tally, any(_learning(inputs)))

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func is np.einsum:
            return _einsum(args[0], [np.shape(each) for each in args[1:]], _tally(args[1:]), _learning(args[1:]))
        made = super().__array_function__(func, types, args, kwargs)
        if not isinstance(made, np.ndarray):
            return made
        inputs = list(_flat(args))  # NumPy returns a concatenation as a plain array
        return _as_counted(made, _tally(inputs), any(_learning(inputs)))


def _zeros(shape: tuple[int, ...], tally: Tally, learns: bool) -> Counted:
    return _as_counted(np.broadcast_to(np.zeros((), np.float32), shape), tally, learns)


def _as_counted(array: np.ndarray, tally: Tally, learns: bool) -> Counted:
    counted = array.view(Counted)
    counted.tally, counted.learns = tally, learns
    return counted


def _learning(inputs: Iterable[Any]) -> list[bool]:
    return [getattr(each, "learns", False) for each in inputs]


def _flat(args: Iterable[Any]) -> Iterator[Any]:
    for each in args:
        if isinstance(each, (list, tuple)):
            yield from _flat(each)
        else:
            yield each


def _tally(inputs: Any) -> Tally:
    return next(each.tally for each in inputs if isinstance(each, Counted) and each.tally is not None)


def _plain(each: Any) -> Any:
    return each.view(np.ndarray) if isinstance(each, Counted) else each


def _product(a: tuple[int, ...], b: tuple[int, ...], tally: Tally, learning: list[bool]) -> Counted:
    # (..., n, k) @ (..., k, m)
    if len(a) < 2 or len(b) < 2 or a[-1] != b[-2]:
        raise ValueError(f"a product of matrices (..., n, k) @ (..., k, m) is needed; got {a} @ {b}")
    shape = (*np.broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1])
    return _counted(shape, 2 * int(np.prod(shape, dtype=object)) * a[-1], tally, learning)


def _einsum(axes: str, shapes: list[tuple[int, ...]], tally: Tally, learning: list[bool]) -> Counted:
    # of two arrays, with named results, as all here are written: "...htc,lhc->...htl"
    inside, arrow, result = axes.replace(" ", "").partition("->")
    if not arrow or len(shapes) != 2:
        raise ValueError(f"an einsum of two arrays that names its result is counted; got {axes!r} of {len(shapes)}")
    sizes: dict[str, int] = {}
    batch: tuple[int, ...] = ()
    for letters, shape in zip(inside.split(","), shapes, strict=True):
        named = letters.removeprefix("...")
        before = shape[: len(shape) - len(named)]
        batch = np.broadcast_shapes(batch, before)
        for letter, size in zip(named, shape[len(before) :], strict=True):
            if sizes.setdefault(letter, size) != size:
                raise ValueError(f"{axes} gives {letter} two sizes, {sizes[letter]} and {size}")
    named = result.removeprefix("...")
    shape = (*batch, *(sizes[letter] for letter in named))
    return _counted(shape, 2 * int(np.prod((*batch, *sizes.values()), dtype=object)), tally, learning)


def _counted(shape: tuple[int, ...], flops: int, tally: Tally, learning: list[bool]) -> Counted:
    # the gradient of either factor is a product of the same size
    tally.flops += flops
    tally.backward += flops * sum(learning)
    return _zeros(shape, tally, any(learning))
