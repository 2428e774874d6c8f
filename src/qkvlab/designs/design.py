"""What a design is: a frozen recipe for q, k and v, written as pure functions of (weights, x).

A recipe imports no PyTorch, so that names, refusals and costs are known before a framework is loaded.
All of them run on tensors and on arrays (``@``, ``reshape``, ``swapaxes``, ``*``, and `functions` for the rest): their
memory and work are counted on one NumPy token. `build` turns the recipe into a module that holds its matrices.

What a design says beyond q, k and v (`root`, `bends`, `sinks`, `window`, `sees_itself`, `finish`) is empty unless a
part gives it, and then attention is softmax(q k^T / sqrt(c)) v.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from qkvlab.contracts import Array, Cost, Dims, HeadSizes, Memory, Words
from qkvlab.designs.counting import Tally

if TYPE_CHECKING:
    from qkvlab.designs.joined import Joined
    from qkvlab.designs.projections import Projections

Weights = Mapping[str, Array]
"""Every matrix of a design by its name."""

_NUMPY = (np.ndarray, np.generic)

Bend = Callable[[Array, Array], Array]
"""Scores (..., h, t, s) and the distance back from each query to each key (t, s) or (b, 1, t, s) -> scores."""


@dataclass(frozen=True)
class Matrix:
    """One matrix of a design: rows x columns.

    Attributes:
        rows: of d_model entries, where x stands on its left (``x @ W``).
        columns: what comes out.
        trained: whether it learns.
        start: the number that all its entries start at; None is noise of variance 1 / (3 rows).
        multiplies: whether tokens pass through it in a matrix product; gains, biases and tables do not.
    """

    rows: int
    columns: int
    trained: bool = True
    start: float | None = None
    multiplies: bool = True


def split_heads(x: Array, heads: int) -> Array:
    """(..., t, heads * c) -> (..., heads, t, c)."""
    *front, width = x.shape
    return x.reshape(*front, heads, width // heads).swapaxes(-3, -2)


def times(x: Array, weights: Weights, name: str) -> Array:
    """x W for the matrix of this name: (..., t, d) -> (..., t, columns).

    Where the weights hold ``name_down``, x passes through it first (a matrix of low rank); where they hold
    ``name_bias``, it is added. Parts that bring them need no other word. Where they hold ``made:x``, this very x, they
    may hold products of it, made beforehand; an x that a part has changed is multiplied here.
    """
    down = f"{name}_down" in weights
    first = f"{name}_down" if down else name
    made = weights.get("made:x") is x and f"made:{first}" in weights
    x = weights[f"made:{first}"] if made else x @ weights[first]
    x = x @ weights[name] if down else x
    return x + weights[f"{name}_bias"] if f"{name}_bias" in weights else x


def join_heads(x: Array) -> Array:
    """(..., heads, t, c) -> (..., t, heads * c), which `split_heads` undoes."""
    x = x.swapaxes(-3, -2)
    return x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1])


def functions(x: Array) -> ModuleType:
    """Return NumPy for an array and PyTorch for a tensor: ``cos``, ``sqrt``, ``where`` and others have one name."""
    if isinstance(x, _NUMPY):
        return np
    import torch

    return torch


def cast(x: Array, dtype: Any) -> Array:
    """Return the same numbers in another precision, one of those of `functions`."""
    return x.astype(dtype) if isinstance(x, _NUMPY) else x.to(dtype)


def upward(count: int, like: Array) -> Array:
    """0, 1, ... count - 1 beside ``like``, in whole numbers."""
    of = {} if isinstance(like, np.ndarray) else {"device": like.device}
    return functions(like).arange(count, **of)


def zeros(shape: tuple[int, ...], like: Array) -> Array:
    """Zeros beside ``like``, in its precision."""
    of = {} if isinstance(like, np.ndarray) else {"device": like.device}
    return functions(like).zeros(shape, dtype=like.dtype, **of)


def finely(x: Array) -> Array:
    """Whole numbers or others -> float64, in which an angle at token 1,000,000 is still right; float32 on ``mps``."""
    coarse = not isinstance(x, np.ndarray) and x.device.type == "mps"  # which has no float64
    return cast(x, functions(x).float32 if coarse else functions(x).float64)


def at_least_single(x: Array, like: Array) -> Array:
    """Return x in the precision of ``like``, or in float32 where that is less: for tables, norms and sums."""
    f = functions(x)
    return cast(x, f.promote_types(like.dtype, f.float32))


def rms_normed(x: Array, epsilon: float) -> Array:
    """Divide x by the root mean square of its last axis, measured in float32 at least (arXiv 1910.07467), no gain."""
    exact = at_least_single(x, x)
    return cast(exact / functions(x).sqrt((exact * exact).mean(-1)[..., None] + epsilon), x.dtype)


def places(heads: Array, positions: Array | None) -> Array:
    """Where tokens stand, ready to be multiplied with heads (..., h, t, c): (t, 1) or (b, 1, t, 1)."""
    if positions is None:
        return upward(heads.shape[-2], heads)[:, None]
    return positions[:, None] if positions.ndim == 1 else positions[:, None, :, None]


class Design(ABC):
    """A recipe for q, k and v. Subclasses are frozen dataclasses and final."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The short name, which `qkvlab.designs.parse` reads back."""

    @property
    @abstractmethod
    def words(self) -> Words:
        """What people read before the name."""

    @property
    def sees_itself(self) -> bool:
        """Whether a token that attends to its own sequence may look at itself when it can look elsewhere."""
        return True

    def sizes(self, dims: Dims) -> Dims:
        """Return the sizes at which the design works; a design may set the width of its heads."""
        return dims

    @property
    def window(self) -> int | None:
        """How many tokens back, its own included, a token sees; without causality as many ahead. None is all."""
        return None

    @property
    def own_keys(self) -> str | None:
        """The kept array that is the keys of all heads side by side and serves nothing else; None where there is none.

        A part that changes keys token by token may then do so once, before they are kept.
        """
        return None

    @property
    def keys_are_values(self) -> str | None:
        """The kept array that is the keys of all heads side by side and their values too; None where they differ."""
        return None

    @property
    def turns_as(self) -> str | None:
        """The name with rotary positions of a design that turns channels of its own; None where ``/rope`` will do."""
        return None

    @property
    def out_bias(self) -> bool:
        """Whether a bias is added behind W_O."""
        return False

    @abstractmethod
    def kv_heads(self, dims: Dims) -> int:
        """Key and value heads at these sizes."""

    def head_sizes(self, dims: Dims) -> HeadSizes:
        """Return how many heads of which width `ask` and `recall` make."""
        groups = self.kv_heads(dims)
        return HeadSizes(
            queries=dims.heads, keys=groups, values=groups, channels=dims.d_head, value_channels=dims.d_value
        )

    def served(self, dims: Dims) -> tuple[int, ...] | None:
        """Return the head of the layer that each head of q works for; None where each is its own.

        A caller's mask has one entry per head of the layer, and `finish` leaves one of them for W_O.
        """
        return None

    @abstractmethod
    def matrices(self, dims: Dims) -> dict[str, Matrix]:
        """Name every matrix once.

        Raises:
            Refusal: the design cannot exist at these sizes; the text names the numbers.
        """

    @abstractmethod
    def ask(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> Array:
        """Make q, what each token looks for: (..., t, d) -> (..., h, t, c). See `Memory` for positions."""

    @abstractmethod
    def remember(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> Memory:
        """Keep what later queries will need of each token: (..., s, d) -> Memory."""

    @abstractmethod
    def recall(self, weights: Weights, memory: Memory, dims: Dims) -> tuple[Array, Array]:
        """Make k (..., g, s, c) and v (..., g, s, e) from what was kept."""

    def project(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> tuple[Array, Memory]:
        """Do `ask` and `remember` on the same x; designs that share a matrix between them use it once."""
        return self.ask(weights, x, dims, positions), self.remember(weights, x, dims, positions)

    def absorbed(self) -> Design | None:
        """Return an equal design that decodes with less work from the same weights and memory, if there is one."""
        return None

    def joined(self, dims: Dims) -> Joined | None:
        """Return an equal design of matrices that were put together beforehand, for numbers alone, if there is one."""
        return None

    def products(self, dims: Dims) -> tuple[str, ...]:
        """Return the matrices through which x passes by `times`; parts may add a bias to them or split them."""
        return ()

    def root(self, dims: Dims) -> float:
        """Return what q k^T is divided by."""
        return math.sqrt(self.head_sizes(dims).channels)

    def bends(self, weights: Weights, dims: Dims) -> tuple[Bend, ...]:
        """Return what is done to the scores before the mask, in this order."""
        return ()

    def sinks(self, weights: Weights, dims: Dims) -> Array | None:
        """Return one logit per head of q, (h,), that takes its share in every softmax and brings no value."""
        return None

    def finish(self, weights: Weights, heads: Array, dims: Dims, like: Array | None = None) -> Array:
        """Make of what the heads of q brought, (..., h, t, e), what W_O reads: (..., heads, t, d_value).

        Args:
            weights: the matrices.
            heads: weighted sums of values.
            dims: sizes.
            like: sums from which a norm is measured instead of ``heads`` (broadcasts to them). With it held fixed the
                result is linear in ``heads``, so that it can be split into what each token contributed.
        """
        return heads

    def build(self, dims: Dims) -> Projections:
        """Make the module that holds this recipe's matrices (imports PyTorch).

        Raises:
            Refusal: the design cannot exist at these sizes.
        """
        from qkvlab.designs.projections import Projections

        return Projections(self, self.sizes(dims))

    def cost(self, dims: Dims) -> Cost:
        """Derive the cost from the matrices and from what one token leaves in memory.

        >>> from qkvlab.designs import parse
        >>> parse("QKK").cost(Dims.of(512, 8))
        Cost(parameters=524288, flops_per_token=1048576, cache_per_token=512)
        """
        matrices = self.matrices(dims)
        entries = sum(m.rows * m.columns for m in matrices.values())
        multiplied = sum(m.rows * m.columns for m in matrices.values() if m.multiplies)
        kept = sum(self.kept(dims).values())
        return Cost(parameters=entries, flops_per_token=2 * multiplied, cache_per_token=kept)

    def kept(self, dims: Dims, position: int | None = None) -> dict[str, int]:
        """Count the numbers that one token leaves in memory, by the name of each kept array.

        Args:
            dims: sizes.
            position: where the token stands; some designs refuse what stands too far on.
        """
        tally, at = Tally(), None if position is None else np.array([position])
        weights = tally.weights({name: (m.rows, m.columns) for name, m in self.matrices(dims).items()})
        memory = self.remember(weights, tally.zeros(1, dims.d_model), dims, at)
        return {name: array.size for name, array in memory.kept.items()}

    def __str__(self) -> str:
        return self.name
