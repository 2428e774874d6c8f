"""The fifteen ways: which of q, k and v share a matrix, and which have none.

A way is a set partition of {q, k, v, x}; there are B4 = 15. Its name has one letter for each of q, k
and v: equal letters share one matrix, X is no matrix at all (x itself, cut into head slices).
"""

from __future__ import annotations

from dataclasses import dataclass

from qkvlab.contracts import Array, Dims, Memory, Words
from qkvlab.designs.design import Design, Matrix, Weights, split_heads, times
from qkvlab.errors import BadInput, Refusal

PATTERNS = (
    *("QKV", "QQV", "QKK", "QKQ", "QQQ"),  # nobody is x
    *("XKV", "QXV", "QKX", "XKK", "QXQ", "QQX"),  # one of them is x
    *("XXV", "XKX", "QXX", "XXX"),  # two or all of them are x
)
"""All fifteen names; a letter repeats only one that stands before it."""


@dataclass(frozen=True)
class Way(Design):
    """One of the fifteen ways, at any number of key heads.

    q = x W_a, k = x W_b, v = x W_c, where a, b and c are the letters of the pattern and W_X is the identity.

    Attributes:
        pattern: three letters, one of `PATTERNS`.
        groups: kv_heads; None is as many as query heads.
    """

    pattern: str
    groups: int | None = None

    def __post_init__(self) -> None:
        if self.pattern not in PATTERNS:
            raise BadInput(f"no way is called {self.pattern!r}; the fifteen are {', '.join(PATTERNS)}.")
        if self.groups is not None and self.groups < 1:
            raise BadInput(f"kv_heads must be at least 1; got /kv{self.groups}.")
        if self.groups is not None and self.pattern[0] in self.pattern[1:] and self.pattern[0] != "X":
            shared = " and ".join(n for n, a in zip("qkv", self.pattern, strict=True) if a == self.pattern[0])
            raise Refusal(
                f"{self.pattern} makes {shared} with one matrix, so kv_heads must equal heads; "
                f"drop /kv{self.groups} or separate them."
            )

    @property
    def name(self) -> str:
        return self.pattern if self.groups is None else f"{self.pattern}/kv{self.groups}"

    @property
    def words(self) -> Words:
        return _words(self.pattern, self.groups)

    @property
    def own_keys(self) -> str | None:
        return None if self.pattern[1] == self.pattern[2] else self.pattern[1].lower()

    @property
    def keys_are_values(self) -> str | None:
        return self.pattern[1].lower() if self.pattern[1] == self.pattern[2] else None

    def kv_heads(self, dims: Dims) -> int:
        return dims.heads if self.groups is None else self.groups

    def matrices(self, dims: Dims) -> dict[str, Matrix]:
        groups = self.kv_heads(dims)
        if dims.heads % groups:
            raise Refusal(
                "heads must be a multiple of kv_heads, so that each key head serves equally many queries; "
                f"got heads={dims.heads}, kv_heads={groups}. {self.pattern}/kvN chooses another number."
            )
        found: dict[str, Matrix] = {}
        sizes = ((dims.heads, dims.d_head), (groups, dims.d_head), (groups, dims.d_value))
        for role, letter, (heads, channels) in zip("qkv", self.pattern, sizes, strict=True):
            if letter == "X":
                self._refuse_slice(role, heads, channels, dims)
                continue
            matrix = Matrix(dims.d_model, heads * channels)
            if found.setdefault(letter.lower(), matrix) != matrix:
                raise Refusal(
                    f"{self.pattern} makes v with the matrix of {letter.lower()}, so d_value must equal "
                    f"d_head; got d_head={dims.d_head}, d_value={dims.d_value}."
                )
        return found

    def _refuse_slice(self, role: str, heads: int, channels: int, dims: Dims) -> None:
        if heads * channels != dims.d_model:
            size, count = ("d_value" if role == "v" else "d_head"), ("heads" if role == "q" else "kv_heads")
            raise Refusal(
                f"{self.name} has no matrix for {role}: it is x cut into {count} slices, so {count} x {size} "
                f"must equal d_model; got {heads} x {channels} = {heads * channels}, d_model={dims.d_model}."
            )

    def products(self, dims: Dims) -> tuple[str, ...]:
        return tuple(letter.lower() for letter in dict.fromkeys(self.pattern) if letter != "X")

    def _flat(self, letter: str, weights: Weights, x: Array) -> Array:
        return x if letter == "X" else times(x, weights, letter.lower())

    def ask(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> Array:
        return split_heads(self._flat(self.pattern[0], weights, x), dims.heads)

    def remember(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> Memory:
        letters = dict.fromkeys(self.pattern[1:])  # each once: k and v may share
        return Memory({letter.lower(): self._flat(letter, weights, x) for letter in letters}, positions)

    def recall(self, weights: Weights, memory: Memory, dims: Dims) -> tuple[Array, Array]:
        k, v = (memory.kept[letter.lower()] for letter in self.pattern[1:])
        groups = self.kv_heads(dims)
        return split_heads(k, groups), split_heads(v, groups)

    def project(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> tuple[Array, Memory]:
        memory = self.remember(weights, x, dims, positions)
        made = memory.kept.get(self.pattern[0].lower())
        if made is None:
            return self.ask(weights, x, dims, positions), memory
        return split_heads(made, dims.heads), memory


def _words(pattern: str, groups: int | None) -> Words:
    sets: dict[str, list[str]] = {}
    for role, letter in zip("QKV", pattern, strict=True):
        sets.setdefault(letter, []).append(role)
    none = sets.pop("X", [])
    shared = [roles for roles in sets.values() if len(roles) > 1]
    alone = [roles[0] for roles in sets.values() if len(roles) == 1]
    zh, en = [], []
    if shared:
        zh.append(f"{'、'.join(shared[0])} 同一矩阵")
        en.append(f"one matrix for {_and(shared[0])}")
    elif len(alone) == 3:
        zh.append("Q、K、V 各有矩阵")
        en.append("separate matrices for Q, K and V")
    elif len(alone) == 2:
        zh.append(f"{'、'.join(alone)} 各有矩阵")
        en.append(f"separate matrices for {_and(alone)}")
    elif alone:
        zh.append(f"只有 {alone[0]} 有矩阵")
        en.append(f"a matrix for {alone[0]} only")
    if none:
        zh.append(f"{'、'.join(none)} 直接用 x")
        en.append(f"{_and(none)} {'is' if len(none) == 1 else 'are'} x itself")
    if groups is not None:
        zh.append(f"{groups} 个键头")
        en.append(f"{groups} key head{'s' if groups > 1 else ''}")
    return Words("，".join(zh), "; ".join(en))


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


NAMES = {
    "mqa": "QKV/kv1",  # Shazeer, arXiv 1911.02150
    "gqa": "QKV/kv8",  # Ainslie et al., arXiv 2305.13245, settle on eight; /kvN chooses another number
    "identity-query": "XKV",  # Karbevski & Mijoski, arXiv 2510.23912
    "symmetric": "QQV",  # Courtois et al., ACL Findings 2024
}
SHOWN = (*(Way(pattern) for pattern in PATTERNS), *(Way("QKV", groups) for groups in (8, 4, 2, 1)), Way("QKK", 4))
EXAMPLES = (*(Way(pattern) for pattern in PATTERNS), Way("QKV", 1), Way("QKV", 2), Way("QKK", 2))
