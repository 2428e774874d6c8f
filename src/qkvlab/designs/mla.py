"""``MLA64/rope32``: keys and values of all heads from one short latent, the KV cache (DeepSeek-V2, arXiv 2405.04434).

    latent    c = norm(x W_DKV)                        kept
    turned    r = RoPE(x W_KR)                         kept, one for all heads
    key       k = [c W_UK, r]    value  v = c W_UV     per head
    query     q = [a W_Q, RoPE(a W_QR)]                per head; a = x, or norm(x W_DQ) where it has its own latent

A name says ``MLA``, the numbers of the latent, ``q`` and those of the query's latent, ``/rope``, the turned channels
and options of `rotation`: ``MLA512q1536/rope64-base500000``. What is not said is as the paper chooses it: 4 d_head
numbers, no latent of the query, d_head / 2 turned channels. d_head counts the channels of a head that do not turn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from qkvlab.contracts import Array, Dims, HeadSizes, Memory, Words
from qkvlab.designs.absorbed import Absorbed
from qkvlab.designs.design import (
    Design,
    Matrix,
    Weights,
    functions,
    join_heads,
    rms_normed,
    split_heads,
    times,
)
from qkvlab.designs.joined import Joined
from qkvlab.designs.rotation import Rotation, read
from qkvlab.errors import BadInput, Refusal

EPSILON = 1e-6
"""In the norms of latents, as in DeepSeek's code."""


@dataclass(frozen=True)
class MLA(Design):
    """Multi-head latent attention; scores are divided by the root of all channels, sqrt(d_head + turned).

    As in DeepSeek's code, latents are divided by their root mean square and multiplied by trained gains, and turned
    pairs are neighbours. Where a scaling of RoPE lets scores grow (by YaRN's ``gain``, squared), they grow as a whole,
    not in the turned channels alone: DeepSeek's mscale_all_dim with an equal mscale.

    Attributes:
        latent: numbers of c; 4 d_head when None.
        query_latent: numbers of the latent that queries are made of; None is x itself.
        rotation: how the shared part of the keys turns; None is no such part.
        turned: its channels; d_head / 2 when None.
    """

    latent: int | None = None
    query_latent: int | None = None
    rotation: Rotation | None = None
    turned: int | None = None

    def __post_init__(self) -> None:
        for whose, size in (("its latent", self.latent), ("the query's latent", self.query_latent)):
            if size is not None and size < 1:
                raise BadInput(f"MLA needs at least 1 number in {whose}; got {size} in {self.name}.")
        if self.turned is not None and (self.rotation is None or self.turned < 2 or self.turned % 2):
            raise BadInput(f"MLA turns pairs of channels, an even number from 2 on; got /rope{self.turned}.")
        if self.rotation is not None and (self.rotation.first is not None or self.rotation.pairing != "interleaved"):
            raise BadInput(
                "MLA turns all channels of the shared part, in neighbouring pairs; say how many they are, such as "
                f"MLA64/rope32; got {self.name}."
            )

    @property
    def _said(self) -> Rotation:
        assert self.rotation is not None
        return replace(self.rotation, pairing="halves")  # that MLA pairs neighbours goes without saying

    @property
    def _latents(self) -> str:
        sizes = "" if self.latent is None else str(self.latent)
        return f"MLA{sizes}" if self.query_latent is None else f"MLA{sizes}q{self.query_latent}"

    @property
    def name(self) -> str:
        if self.rotation is None:
            return self._latents
        return f"{self._latents}/rope{'' if self.turned is None else self.turned}{self._said.options}"

    @property
    def words(self) -> Words:
        zh = [f"K、V 出自一个 {'4 倍头宽' if self.latent is None else f'{self.latent} 维'}的隐向量"]
        en = [f"K and V from one latent of {'4 d_head' if self.latent is None else self.latent} numbers"]
        if self.query_latent is not None:
            zh.append(f"Q 出自 {self.query_latent} 维的隐向量")
            en.append(f"Q from one of {self.query_latent}")
        if self.rotation is not None:
            how = self._said.words
            zh.append(f"另加{'半个头宽' if self.turned is None else f' {self.turned} 维'}的旋转位置 RoPE{how.zh}")
            en.append(f"{'d_head / 2' if self.turned is None else self.turned} rotary channels beside{how.en}")
        return Words("，".join(zh), "; ".join(en))

    @property
    def turns_as(self) -> str | None:
        return f"{self._latents}/rope"

    def kv_heads(self, dims: Dims) -> int:
        return dims.heads

    def widths(self, dims: Dims) -> tuple[int, int]:
        """Return how many numbers the latent has and how many channels turn."""
        latent = 4 * dims.d_head if self.latent is None else self.latent
        if self.rotation is None:
            return latent, 0
        return latent, dims.d_head // 2 if self.turned is None else self.turned

    def head_sizes(self, dims: Dims) -> HeadSizes:
        return replace(super().head_sizes(dims), channels=dims.d_head + self.widths(dims)[1])

    def matrices(self, dims: Dims) -> dict[str, Matrix]:
        (latent, turned), heads = self.widths(dims), dims.heads
        if self.rotation is not None and (turned < 2 or turned % 2):
            raise Refusal(
                f"{self.name} turns d_head / 2 channels in pairs, so d_head must be a multiple of 4; got "
                f"d_head={dims.d_head}. Choose another, or say how many channels turn: {self._latents}/rope2."
            )
        asked = dims.d_model if self.query_latent is None else self.query_latent
        found = {"q": Matrix(asked, heads * dims.d_head)}
        if self.query_latent is not None:
            found = {"dq": Matrix(dims.d_model, asked), "dq_gain": _gain(asked), **found}
        found |= {"dkv": Matrix(dims.d_model, latent), "dkv_gain": _gain(latent)}
        found |= {"uk": Matrix(latent, heads * dims.d_head), "uv": Matrix(latent, heads * dims.d_value)}
        if turned:
            found |= {"qr": Matrix(asked, heads * turned), "kr": Matrix(dims.d_model, turned)}
        return found

    def products(self, dims: Dims) -> tuple[str, ...]:
        asked = ("q", "qr") if self.query_latent is None else ("dq",)
        return tuple(name for name in (*asked, "dkv", "kr") if name in self.matrices(dims))

    def asking(self, weights: Weights, x: Array) -> Array:
        """Make what queries are made of: x, or a latent of it."""
        return x if self.query_latent is None else self.normed(times(x, weights, "dq"), weights["dq_gain"])

    def normed(self, latent: Array, gain: Array) -> Array:
        """Divide a latent by its root mean square; each number has a gain."""
        return rms_normed(latent, EPSILON) * gain

    def asked(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> tuple[Array, Array | None]:
        """Make the two parts of q, what stays (..., h, t, d_head) and what turns (..., h, t, turned)."""
        x = self.asking(weights, x)
        still = split_heads(times(x, weights, "q"), dims.heads)
        if self.rotation is None:
            return still, None
        return still, self.rotation.level.turn(split_heads(times(x, weights, "qr"), dims.heads), positions)

    def ask(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> Array:
        still, turned = self.asked(weights, x, dims, positions)
        return still if turned is None else functions(x).concat([still, turned], -1)

    def remember(self, weights: Weights, x: Array, dims: Dims, positions: Array | None) -> Memory:
        kept = self.normed(times(x, weights, "dkv"), weights["dkv_gain"])
        if self.rotation is not None:
            turned = self.rotation.level.turn(split_heads(times(x, weights, "kr"), 1), positions)
            kept = functions(x).concat([kept, join_heads(turned)], -1)
        return Memory({"latent": kept}, positions)

    def recall(self, weights: Weights, memory: Memory, dims: Dims) -> tuple[Array, Array]:
        kept, f = memory.kept["latent"], functions(memory.kept["latent"])
        latent, width = self.widths(dims)
        c, r = kept[..., :latent], kept[..., None, :, latent:]
        k, v = (split_heads(c @ weights[name], dims.heads) for name in ("uk", "uv"))
        if width:
            k = f.concat([k, f.broadcast_to(r, (*k.shape[:-1], width))], -1)
        return k, v

    def root(self, dims: Dims) -> float:
        grown = 1.0 if self.rotation is None else self.rotation.amplitude**2
        return super().root(dims) / grown

    def absorbed(self) -> Design:
        return Absorbed(self)

    def joined(self, dims: Dims) -> Joined | None:
        return None if self.rotation is None else Joined(self)  # else nothing is put beside anything


def _gain(width: int) -> Matrix:
    return Matrix(1, width, start=1.0, multiplies=False)


def _make(latent: str | None, asked: str | None, rope: str | None, turned: str | None, options: str | None) -> MLA:
    rotation = replace(read(options or ""), pairing="interleaved") if rope else None
    sizes = [None if size is None else int(size) for size in (latent, asked, turned)]
    return MLA(sizes[0], sizes[1], rotation, sizes[2])


BASE = (r"MLA([0-9]{1,6})?(?:q([0-9]{1,6}))?(?:(/rope)([0-9]{1,5})?((?:-[a-z0-9.]+)*))?", _make)
_DEEPSEEK = "MLA512q1536/rope64-yarn-by40-of4096"
NAMES = {
    "deepseek-v2-lite": f"MLA512/rope64-yarn-by40-of4096-gain{0.1 * 0.707 * math.log(40) + 1:.12f}",
    "deepseek-v2": f"{_DEEPSEEK}-gain{0.1 * 0.707 * math.log(40) + 1:.12f}",
    "deepseek-v3": _DEEPSEEK,
}
EXAMPLES = (
    MLA(11),
    MLA(rotation=Rotation(pairing="interleaved")),
    MLA(11, 7, replace(read("-base500-yarn-by4-of16"), pairing="interleaved"), 4),
)
SHOWN = (MLA(), MLA(rotation=Rotation(pairing="interleaved")))
