"""``/rope``: queries and keys turned by their positions, so that scores know distances (Su et al., arXiv 2104.09864).

After ``/rope`` and ``/ropekv`` stand the options of `rotation`: ``/rope-interleaved``, ``/rope-first16-base500000``,
``/rope-yarn-by4-of4096``. Where one array is both key and value, ``/rope`` takes the value before the rotation and
turns the kept array at every recall; ``/ropekv`` turns it once, keeps it turned, and the value is turned with it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from qkvlab.contracts import Array, Dims, Memory, Words
from qkvlab.designs.around import Around
from qkvlab.designs.design import Design, Matrix, Weights, join_heads, split_heads
from qkvlab.designs.rotation import USUAL, Rotation, read
from qkvlab.designs.turned import Role, Turned
from qkvlab.designs.ways import Way
from qkvlab.errors import BadInput, Refusal


def _once(inside: Design, name: str) -> None:
    if inside.turns_as is not None:
        raise Refusal(
            f"{name} turns whole keys, which are made of a latent: write {inside.turns_as} and other parts behind."
        )
    while isinstance(inside, Around):
        if isinstance(inside, Rope | RopeKV):
            raise BadInput(f"a design turns by positions once; got {name}.")
        inside = inside.inner


@dataclass(frozen=True)
class Rope(Turned):
    """The inner design with turned queries and keys.

    Attributes:
        rotation: which channels turn, in which pairs, how fast.
    """

    rotation: Rotation = USUAL

    def __post_init__(self) -> None:
        _once(self.inner, self.name)

    @property
    def name(self) -> str:
        return f"{self.inner.name}/rope{self.rotation.options}"

    @property
    def words(self) -> Words:
        inner, how = self.inner.words, self.rotation.words
        return Words(f"{inner.zh}，旋转位置 RoPE{how.zh}", f"{inner.en}; rotary positions{how.en}")

    def matrices(self, dims: Dims) -> dict[str, Matrix]:
        self.rotation.fit(self.head_sizes(dims).channels)
        return super().matrices(dims)

    def turn(self, weights: Weights, heads: Array, dims: Dims, positions: Array | None, role: Role) -> Array:
        return self.rotation.turn(heads, positions)


@dataclass(frozen=True)
class RopeKV(Around):
    """The inner design, whose k and v are one array: turned before it is kept, as both.

    Attributes:
        rotation: which channels turn, in which pairs, how fast.
    """

    rotation: Rotation = USUAL

    def __post_init__(self) -> None:
        _once(self.inner, self.name)
        if self.inner.keys_are_values is None:
            raise Refusal(
                f"/ropekv turns the one array that is both k and v, and {self.inner.name} has none; "
                f"use {self.inner.name}/rope{self.rotation.options}, which turns keys only."
            )

    @property
    def name(self) -> str:
        return f"{self.inner.name}/ropekv{self.rotation.options}"

    @property
    def words(self) -> Words:
        inner, how = self.inner.words, self.rotation.words
        return Words(
            f"{inner.zh}，旋转位置 RoPE，V 也旋转{how.zh}",
            f"{inner.en}; rotary positions, values turned too{how.en}",
        )

    def matrices(self, dims: Dims) -> dict[str, Matrix]:
        self.rotation.fit(self.head_sizes(dims).channels)
        return super().matrices(dims)

    def ask(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> Array:
        return self.rotation.turn(super().ask(weights, x, dims, positions), positions)

    def remember(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> Memory:
        return self._kept(super().remember(weights, x, dims, positions), dims)

    def project(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> tuple[Array, Memory]:
        q, memory = super().project(weights, x, dims, positions)
        return self.rotation.turn(q, positions), self._kept(memory, dims)

    def _kept(self, memory: Memory, dims: Dims) -> Memory:
        name = self.keys_are_values
        assert name is not None
        heads = split_heads(memory.kept[name], self.head_sizes(dims).keys)
        turned = join_heads(self.rotation.turn(heads, memory.positions))
        return replace(memory, kept={**memory.kept, name: turned})


def _make(inner: Design, values: str | None, options: str) -> Design:
    return (RopeKV if values else Rope)(inner, read(options))


PART = (r"rope(kv)?((?:-[a-z0-9.]+)*)", _make)
NAMES = {"roformer": "QKV/rope-interleaved"}
EXAMPLES = (
    Rope(Way("QKV")),
    Rope(Way("QKK", 2)),
    Rope(Way("QQV"), read("-interleaved-first4-yarn-by4-of16")),
    RopeKV(Way("QKK")),
)
SHOWN = (Rope(Way("QKV")), Rope(Way("QKK")), RopeKV(Way("QKK")))
