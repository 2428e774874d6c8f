"""The questions that claims ask again and again, each as a function that makes the `Check`."""

from __future__ import annotations

from qkvlab.claims.check import BASELINE, FLOOR, Check, Key, Term, difference
from qkvlab.contracts import Words

METRICS = {
    "error": Words("错误率", "error"),
    "error_new_verbs": Words("生动词上的错误率", "error on held-out verbs"),
    "nats": Words("每字损失（nat）", "nats per character"),
    "coverage": Words("四本该看的书里看到的比例", "share of the four relevant books that are seen"),
    "swap": Words("交换两个名词的 K 后答案跟着交换的比例", "answers exchanged when the keys of the two nouns are"),
    "k_role": Words("从 K 读出角色的正确率", "accuracy of reading the role from K"),
    "v_role": Words("从 V 读出角色的正确率", "accuracy of reading the role from V"),
    "k_word": Words("从 K 读出是哪个词的正确率", "accuracy of reading the word from K"),
    "v_word": Words("从 V 读出是哪个词的正确率", "accuracy of reading the word from V"),
    "own_1": Words("第一层最看自己的词的比例", "tokens that look most at themselves, layer 1"),
    "own_2": Words("第二层最看自己的词的比例", "tokens that look most at themselves, layer 2"),
    "own_1_before": Words(
        "训练前第一层最看自己的词的比例", "tokens that look most at themselves, layer 1, before training"
    ),
}


def loses(id: str, key: Key, design: str, than: str = BASELINE, metric: str = "error", by: float = 1) -> Check:
    """Ask whether a design has the larger loss by more than ``by`` deltas."""
    return Check(id=id, words=_minus(metric, design, than), terms=difference(key, design, than, metric), threshold=by)


def keeps(id: str, key: Key, design: str, than: str = BASELINE, metric: str = "error") -> Check:
    """Ask whether a design loses less than delta, where there is something to lose."""
    return Check(
        id=id,
        words=_minus(metric, design, than),
        terms=difference(key, design, than, metric),
        asks="below",
        floor=key,
    )


def finds_nothing(id: str, key: Key, design: str, metric: str = "error") -> Check:
    """Ask whether equal attention is behind a design by less than delta."""
    return Check(id=id, words=_minus(metric, FLOOR, design), terms=difference(key, FLOOR, design, metric), asks="below")


def beats(id: str, key: Key, design: str, than: str, metric: str = "error") -> Check:
    """Ask whether a design has the smaller loss, by however little."""
    return Check(
        id=id,
        words=_minus(metric, design, than),
        terms=difference(key, design, than, metric),
        asks="below",
        threshold=0.0,
    )


def share(id: str, key: Key, design: str, metric: str, threshold: float = 0.5, *, below: bool = False) -> Check:
    """Ask whether a share in [0, 1] lies above (or below) a threshold."""
    return Check(
        id=id,
        words=Words(f"{design}：{METRICS[metric].zh}", f"{METRICS[metric].en}, {design}"),
        terms=(Term(1.0, *key, design, metric),),
        asks="below" if below else "above",
        threshold=threshold,
        centre=0.5,
        clip=0.5,
        in_deltas=False,
    )


def more(id: str, key: Key, one: tuple[str, str], other: tuple[str, str], by: float = 0.05) -> Check:
    """Ask whether one (design, metric), a share in [0, 1], exceeds another by more than ``by``."""
    left, right = METRICS[one[1]], METRICS[other[1]]
    return Check(
        id=id,
        words=Words(f"{one[0]} {left.zh} − {other[0]} {right.zh}", f"{left.en} ({one[0]}) − {right.en} ({other[0]})"),
        terms=(Term(1.0, *key, *one), Term(-1.0, *key, *other)),
        threshold=by,
        clip=4 * by,
        in_deltas=False,
    )


def part_lost(id: str, key: Key, design: str, metric: str, threshold: float) -> Check:
    """Ask whether a design loses more than a part of what QKV gains over equal attention."""
    return Check(
        id=id,
        words=Words(
            f"{design} 丢掉的占注意力收益的比例（{METRICS[metric].zh}）",
            f"part of what attention gains that {design} loses ({METRICS[metric].en})",
        ),
        terms=difference(key, design, BASELINE, metric),
        of=difference(key, FLOOR, BASELINE, metric),
        threshold=threshold,
    )


def across(id: str, design: str, here: Key, there: Key, metric: str = "error") -> Check:
    """Ask whether a design loses more than delta more in one setting than in another of its task."""
    return Check(
        id=id,
        words=Words(
            f"{design} {METRICS[metric].zh}：{here[1]} − {there[1]}",
            f"{METRICS[metric].en} of {design}: {here[1]} − {there[1]}",
        ),
        terms=(Term(1.0, *here, design, metric), Term(-1.0, *there, design, metric)),
    )


def _minus(metric: str, design: str, than: str) -> Words:
    return Words(f"{METRICS[metric].zh}：{design} − {than}", f"{METRICS[metric].en}: {design} − {than}")
