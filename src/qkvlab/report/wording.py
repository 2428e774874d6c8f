"""Verdicts in words, in both languages: the word, its symbol, and the sentence that says why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qkvlab.contracts import Words
from qkvlab.evidence import Verdict, Word
from qkvlab.report.numbers import short, whole

VERDICTS: dict[Word, Words] = {
    "better": Words("更好", "better"),
    "better, by less than delta": Words("略好（小于 δ）", "slightly better (less than δ)"),
    "equivalent": Words("相当", "equivalent"),
    "worse, by less than delta": Words("略差（小于 δ）", "slightly worse (less than δ)"),
    "worse": Words("更差", "worse"),
    "undecided": Words("未定", "undecided"),
    "nothing to compare": Words("无从比较", "nothing to compare"),
    "inconsistent": Words("数据自相矛盾", "inconsistent"),
}

SYMBOLS: dict[Word, str] = {
    "better": "▲",
    "better, by less than delta": "△",
    "equivalent": "=",
    "worse, by less than delta": "▽",
    "worse": "▼",
    "undecided": "?",
    "nothing to compare": "–",
    "inconsistent": "!",
}

STYLES: dict[Word, str] = {
    "better": "better",
    "better, by less than delta": "better",
    "equivalent": "equivalent",
    "worse, by less than delta": "worse",
    "worse": "worse",
    "undecided": "undecided",
    "nothing to compare": "nothing",
    "inconsistent": "inconsistent",
}
"""The colour class of each word; colour never stands without the symbol."""

MATCHES = {
    "none": Words("原样", "as they are"),
    "params": Words("参数拉平", "equal parameters"),
    "flops": Words("算力拉平", "equal FLOPs"),
}
"""What is made equal across designs."""

METRICS = {
    "error": Words("错误率", "error rate"),
    "coverage": Words("覆盖率", "coverage"),
    "nats": Words("每个字符的纳特", "nats per character"),
    "error_nearest": Words("只看最近名词的错误率", "error rate of the nearest-noun rule"),
    "error_new_verbs": Words("新句式动词的错误率", "error rate on verbs in new forms"),
    "swap": Words("换键后答案也交换的比例", "share of answers that exchange with the keys"),
    "mass": Words("动词给两个名词的注意力", "attention of verbs on their two nouns"),
    "k_role": Words("从 k 读出角色", "role read from k"),
    "v_role": Words("从 v 读出角色", "role read from v"),
    "k_word": Words("从 k 读出是哪个词", "word read from k"),
    "v_word": Words("从 v 读出是哪个词", "word read from v"),
    "own_1": Words("最看自己的词（第一层）", "words that look most at themselves, layer 1"),
    "own_2": Words("最看自己的词（第二层）", "words that look most at themselves, layer 2"),
    "own_1_before": Words("最看自己的词（第一层，训练前）", "words that look most at themselves, layer 1, untrained"),
    "own_2_before": Words("最看自己的词（第二层，训练前）", "words that look most at themselves, layer 2, untrained"),
    "nats_5gram": Words("五元模型的每字符 nat 数", "nats per character of the 5-gram"),
}

FACTS = {
    "version": Words("任务版本", "version of the task"),
    "d_model": Words("宽度", "width"),
    "heads": Words("注意力头", "heads"),
    "layers": Words("层数", "layers"),
    "books": Words("架上的书", "books on a shelf"),
    "words": Words("词", "words"),
    "contents": Words("内容", "contents"),
    "batch": Words("每批", "batch"),
    "steps": Words("训练步数", "training steps"),
    "hidden": Words("QKV 的前馈宽度", "feed-forward width of QKV"),
    "match": Words("拉平", "made equal"),
    "none": Words("无", "nothing"),
    "params": Words("参数", "parameters"),
    "flops": Words("算力", "FLOPs"),
    "positions": Words("位置", "positions"),
    "tokens": Words("词元", "tokens"),
    "nouns": Words("名词", "nouns"),
    "verbs": Words("动词", "verbs"),
    "new_verbs": Words("只在普通句里学的动词", "verbs trained in plain sentences only"),
    "sentences": Words("考题（句）", "sentences in the exam"),
    "text": Words("文本", "text"),
    "sha256": Words("SHA-256", "SHA-256"),
    "characters": Words("字符", "characters"),
    "training_characters": Words("训练用字符", "characters for training"),
    "held_out_characters": Words("考试用字符", "characters held out"),
    "classes": Words("字符种类（含“其他”）", "kinds of character, “other” included"),
    "nats_5gram": Words("五元模型的每个字符纳特", "nats per character of the 5-gram"),
    "grams": Words("最长的 n 元组", "longest n-gram"),
    "buckets": Words("每种长度的 n 元组向量", "vectors per length of n-gram"),
    "span": Words("卷积看几个词元", "tokens of the convolution"),
    "pairs": Words("键值对", "pairs"),
    "power": Words("间隔的幂", "power of the gaps"),
    "held_out_sequences": Words("考题（序列）", "sequences in the exam"),
    "held_out": Words("考题（架）", "shelves in the exam"),
    "vectors": Words("向量", "vectors"),
    "cosine": Words("同义词余弦", "cosine of synonyms"),
    "fixed": Words("给定", "given"),
    "learned": Words("可训练", "trained"),
}
"""Registered facts; one that has no words keeps its code."""

MIN_SEEDS = 8


def metric_words(metric: str) -> Words:
    """Name a metric; one that has no words keeps its code."""
    return METRICS.get(metric, Words(metric, metric))


def facts(known: Mapping[str, Any]) -> Words:
    """List registered facts.

    >>> str(facts({"d_model": 96, "vectors": "fixed"}))
    '宽度 96，向量 给定 / width 96, vectors given'
    """
    pairs = [(_fact(name), _fact(str(value))) for name, value in known.items()]
    return Words(
        "，".join(f"{n.zh} {v.zh}" for n, v in pairs) or "–", ", ".join(f"{n.en} {v.en}" for n, v in pairs) or "–"
    )


def _fact(code: str) -> Words:
    return FACTS.get(code, Words(code, code))


def label(words: Words, code: str) -> Words:
    """Put the words first and the code second.

    >>> str(label(Words("同一矩阵", "one matrix"), "QQV"))
    '同一矩阵（QQV） / one matrix (QQV)'
    """
    if words.zh[-1:] in {")", "）"} and words.en.endswith(")"):  # one bracket is enough
        return Words(f"{words.zh[:-1]}，{code}{words.zh[-1]}", f"{words.en[:-1]}, {code})")
    return Words(f"{words.zh}（{code}）", f"{words.en} ({code})")


def capital(text: str) -> str:
    """Begin with a capital letter and leave the rest alone."""
    return text[:1].upper() + text[1:]


def explain(verdict: Verdict, baseline: str, delta: float, metric: str) -> Words:
    """Say in a sentence or two why a verdict is the word it is.

    Args:
        verdict: what was found.
        baseline: code of the design it was held against.
        delta: the smallest difference that matters.
        metric: the judged metric.
    """
    d, what = short(delta), metric_words(metric)
    within = Words(f"区间整个落在 ±{d} 以内", f"The interval lies within ±{d}")
    known: dict[str, Words] = {
        "better": Words(
            f"{what.zh}比 {baseline} 低：区间整个在 0 以下。",
            f"Its {what.en} is lower than that of {baseline}: the whole interval lies below 0.",
        ),
        "worse": Words(
            f"{what.zh}比 {baseline} 高：区间整个在 0 以上。",
            f"Its {what.en} is higher than that of {baseline}: the whole interval lies above 0.",
        ),
        "better, by less than delta": Words(
            f"{what.zh}确实比 {baseline} 低，但差距小于 {d}。",
            f"Its {what.en} is lower than that of {baseline}, by less than {d}.",
        ),
        "worse, by less than delta": Words(
            f"{what.zh}确实比 {baseline} 高，但差距小于 {d}。",
            f"Its {what.en} is higher than that of {baseline}, by less than {d}.",
        ),
        "equivalent": Words(
            f"{within.zh}，而且 {baseline} 确实学会了这道题（明显胜过平均注意力）。",
            f"{within.en}, and {baseline} has learned the task (it clearly beats equal attention).",
        ),
    }
    if not verdict.reason:
        return known[verdict.verdict]
    gate = short(2 * delta)
    return {
        "too few seeds": _few(verdict.n),
        "interval still wide": Words(
            f"区间还太宽：既没排除 0，也没排除 ±{d} 的差距，要再跑一些种子。",
            f"The interval is still wide: it excludes neither 0 nor a difference of {d}. More seeds are needed.",
        ),
        "waiting for the floor": Words(
            f"{within.zh}，但还没证实 {baseline} 比平均注意力好 {gate} 以上，要等这两者再跑一些种子。",
            f"{within.en}, but it is not yet shown that {baseline} beats equal attention by more than {gate}; "
            "those two need more seeds.",
        ),
        "floor not beaten": Words(
            f"{within.zh}，但 {baseline} 自己也没比平均注意力好出 {gate}：没学会的东西谈不上相当。",
            f"{within.en}, but {baseline} itself is not ahead of equal attention by more than {gate}: "
            "where nothing was learned, nothing can be equivalent.",
        ),
        "no floor": Words(
            f"{within.zh}，但这项研究没有平均注意力作对照，不能叫相当。",
            f"{within.en}, but without the control of equal attention it cannot be called equivalent.",
        ),
        "too many diverged": Words(
            f"{within.zh}，但有一方超过 10% 的训练发散了，不能叫相当。",
            f"{within.en}, but more than 10% of the runs of one side diverged, so it is not called equivalent.",
        ),
        "below the bar": Words(
            f"调参时 {baseline} 自己也没达到这项任务的门槛：没学会的东西不作比较，也没有再跑评判用的种子。",
            f"In tuning {baseline} itself missed the bar of this task: what was not learned is not compared, "
            "and no judging seeds were run.",
        ),
        "interval empty": Words(
            "没有哪个平均值能同时符合所有种子：数据违背了检验的前提，得不出结论。",
            "No mean fits all seeds: the data break the assumptions of the test, and nothing follows from them.",
        ),
    }[verdict.reason]


def _few(n: int) -> Words:
    if n == 0:
        return Words("还没开始。", "Not started yet.")
    zh = f"才跑了 {whole(n)} 个种子，不到 {MIN_SEEDS} 个什么也定不了。"
    return Words(zh, f"Only {whole(n)} seed{'s' * (n > 1)} so far; fewer than {MIN_SEEDS} decide nothing.")
