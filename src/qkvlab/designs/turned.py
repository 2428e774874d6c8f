"""A part that changes queries and keys token by token once they are made: rotations, norms."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Literal

from qkvlab.contracts import Array, Dims, Memory
from qkvlab.designs.around import Around
from qkvlab.designs.design import Design, Weights, join_heads, split_heads

Role = Literal["q", "k"]


@dataclass(frozen=True)
class Turned(Around):
    """The inner design with `turn` applied to each query and each key.

    Keys that serve as nothing else are turned once, before they are kept; shared ones whenever they are recalled, since
    the value must stay what it was (K = V with RoPE turns its whole cache at every step).
    """

    @property
    def keys_are_values(self) -> str | None:
        return None  # values stay what they were

    def absorbed(self) -> Design | None:
        return None  # what happens between W_Q and W_K keeps them apart

    @abstractmethod
    def turn(self, weights: Weights, heads: Array, dims: Dims, positions: Array | None, role: Role) -> Array:
        """Change queries or keys, (..., h, t, c), and keep their shape; ``dims`` are the inner design's."""

    def ask(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> Array:
        return self.turn(weights, super().ask(weights, x, dims, positions), self.sizes(dims), positions, "q")

    def remember(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> Memory:
        return self._kept(weights, super().remember(weights, x, dims, positions), dims)

    def recall(self, weights: Weights, memory: Memory, dims: Dims) -> tuple[Array, Array]:
        k, v = super().recall(weights, memory, dims)
        if self.own_keys is None:
            k = self.turn(weights, k, self.sizes(dims), memory.positions, "k")
        return k, v

    def project(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> tuple[Array, Memory]:
        q, memory = super().project(weights, x, dims, positions)
        return self.turn(weights, q, self.sizes(dims), positions, "q"), self._kept(weights, memory, dims)

    def _kept(self, weights: Weights, memory: Memory, dims: Dims) -> Memory:
        name = self.own_keys
        if name is None:
            return memory
        k = split_heads(memory.kept[name], self.head_sizes(dims).keys)
        turned = self.turn(weights, k, self.sizes(dims), memory.positions, "k")
        return replace(memory, kept={**memory.kept, name: join_heads(turned)})
