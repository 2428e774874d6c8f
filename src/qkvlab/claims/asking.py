"""The questions that claims ask again and again, each as a function that makes the `Check`."""

from __future__ import annotations

from qkvlab.claims.check import BASELINE, FLOOR, Check, Key, Term, difference
from qkvlab.claims.names import METRICS, SETTINGS
from qkvlab.claims.recorded import BENCHMARK
from qkvlab.contracts import Words


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
    words = Words(f"{one[0]}：{left.zh} − {right.zh}", f"{one[0]}: {left.en} − {right.en}")
    return Check(
        id=id,
        words=_minus(one[1], one[0], other[0]) if left == right else words,
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
            f"{design} {METRICS[metric].zh}：{SETTINGS[here[1]].zh} − {SETTINGS[there[1]].zh}",
            f"{METRICS[metric].en} of {design}: {SETTINGS[here[1]].en} − {SETTINGS[there[1]].en}",
        ),
        terms=(Term(1.0, *here, design, metric), Term(-1.0, *there, design, metric)),
    )


def faster(id: str, benchmark: str, what: str) -> Check:
    """Ask whether recorded ratios of times, narrow by full, are below 1 on average."""
    return Check(
        id=id,
        words=METRICS["ratios"],
        terms=(Term(1.0, BENCHMARK, benchmark, what, "ratios"),),
        asks="below",
        threshold=1.0,
        centre=1.0,
        clip=1.0,
        in_deltas=False,
    )


def _minus(metric: str, design: str, than: str) -> Words:
    return Words(f"{METRICS[metric].zh}：{design} − {than}", f"{METRICS[metric].en}: {design} − {than}")
