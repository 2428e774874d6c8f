"""What `share` did, in words."""

from __future__ import annotations

from dataclasses import dataclass

from qkvlab.contracts import Words
from qkvlab.designs import Way


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was kept, what was dropped and what it saves; prints in Chinese and English.

    Attributes:
        model: class of the model.
        design: as its first rebuilt layer has it.
        layers: which layers were rebuilt, counted from 0.
        biased: whether matrices have biases.
        kv_heads: of the first of them, before and after.
        parameters: that make q, k and v in these layers, before and after.
        cache_per_token: numbers that decoding keeps of a token in these layers, before and after.
        places_per_token: whole numbers kept beside them: positions, where keys are turned only when they are used.
    """

    model: str
    design: Way
    layers: tuple[int, ...]
    biased: bool
    kv_heads: tuple[int, int]
    parameters: tuple[int, int]
    cache_per_token: tuple[int, int]
    places_per_token: int

    @property
    def words(self) -> Words:
        """All of it, a few lines in each language."""
        return Words("\n".join(self._lines("zh")), "\n".join(self._lines("en")))

    def __str__(self) -> str:
        return f"{self.words.zh}\n\n{self.words.en}"

    def _lines(self, lang: str) -> list[str]:
        count, which = len(self.layers), ", ".join(map(str, self.layers))
        lines = [
            Words(
                f"{self.model}：第 {which} 层（共 {count} 层）改为 {self.design}：{self.design.words.zh}。",
                f"{self.model}: {count} layer{'s' * (count > 1)} ({which}) rebuilt as {self.design}: "
                f"{self.design.words.en}.",
            ),
            *_fates(self.design.pattern, self.biased),
            *_regrouped(*self.kv_heads),
            _change(Words("做 q、k、v 的参数", "parameters that make q, k and v"), *self.parameters),
            _change(Words("解码时每个词元存的数", "numbers kept per token"), *self.cache_per_token),
        ]
        if self.places_per_token:
            places = f"{self.places_per_token:,}"
            lines.append(
                Words(
                    f"另存位置：每个词元 {places} 个整数，因为 K 用到时才旋转",
                    f"and {places} whole numbers per token for positions, since keys are rotated when they are used",
                )
            )
        lines.append(
            Words(
                "其余都是模型自己的：位置、归一化、窗口、掩码、缓存类、dropout、输出矩阵",
                "all else is the model's own: positions, norms, windows, masks, cache classes, dropout, W_O",
            )
        )
        return [lines[0].of(lang), *(f"  {line.of(lang)}" for line in lines[1:])]


def _fates(pattern: str, biased: bool) -> list[Words]:
    """Say of each letter what its matrix starts as."""
    bias = Words("和偏置", " and bias") if biased else Words("", "")
    found = []
    for letter in dict.fromkeys(pattern):
        roles = [role for role, name in zip("QKV", pattern, strict=True) if name == letter]
        zh, en = "、".join(roles), " and ".join(roles)
        if letter == "X":
            found.append(Words(f"{zh}：不要矩阵{bias.zh}，直接用 x", f"{en}: matrix{bias.en} dropped, x itself"))
        elif len(roles) == 1:
            found.append(Words(f"{zh}：保留模型的矩阵{bias.zh}", f"{en}: the model's matrix{bias.en}, kept"))
        else:
            start = Words("二者的平均", "the mean of both")
            if pattern[0] == pattern[1]:
                start = Words("最接近原打分的对称打分", "the tied scores closest to the model's")
            if len(roles) == 3:
                start = Words("最接近原打分的对称打分与 V 的平均", "the mean of the closest tied scores and V")
            found.append(
                Words(
                    f"{zh}：共用一个矩阵{bias.zh}，从{start.zh}开始",
                    f"{en}: one matrix{bias.en}, starting from {start.en}",
                )
            )
    return found


def _regrouped(before: int, after: int) -> list[Words]:
    if before == after:
        return []
    pooled = Words("相邻头取平均", "neighbours pooled by their mean")
    how = pooled if after < before else Words("逐个重复", "each repeated")
    return [Words(f"键头：{before} → {after}，{how.zh}", f"key heads: {before} → {after}, {how.en}")]


def _change(what: Words, before: int, after: int) -> Words:
    change = f"{before:,} → {after:,}" + ("" if before == after else f" ({after / before - 1:+.0%})")
    return Words(f"{what.zh}：{change}", f"{what.en}: {change}")
