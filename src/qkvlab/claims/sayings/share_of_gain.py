"""People say: a model whose Q and K share loses a real part of what attention brings."""

from qkvlab.claims.asking import loses, part_lost
from qkvlab.claims.claim import Claim, Place, Source
from qkvlab.contracts import Words

PART = 0.05
"""A part that matters: one twentieth of what attention gains over equal attention."""


def _loss(id: str, words: Words, setting: str, design: str) -> Place:
    key = ("text", setting)
    return Place(
        id,
        words,
        (part_lost("part", key, design, "nats", PART), loses("loss", key, design, metric="nats")),
        Words("丢掉的超过 5%，也超过 δ", "it loses more than 5 % of the gain, and more than delta"),
        Words("丢掉的不到 5% 或不到 δ", "it loses less than 5 % of the gain, or less than delta"),
    )


CLAIM = Claim(
    number=6,
    id="share-of-gain",
    sentence=Words(
        "语言模型里 Q、K 共享，会丢掉注意力带来的好处中可观的一部分（超过 5%）",
        "In a language model sharing Q and K loses a real part (over 5 %) of what attention gains",
    ),
    axis=Words(
        "是共享还是干脆不用矩阵，以及参数是否配平",
        "whether a matrix is shared or left out, and whether budgets are equal",
    ),
    places=(
        _loss(
            "shared-params", Words("Q、K 同一矩阵，同参数", "one matrix for Q and K, equal parameters"), "params", "QQV"
        ),
        _loss("shared", Words("Q、K 同一矩阵，不配平", "one matrix for Q and K, budgets as they are"), "plain", "QQV"),
        _loss("raw-params", Words("Q、K 就是 x，同参数", "x itself as Q and K, equal parameters"), "params", "XXV"),
        _loss("raw", Words("Q、K 就是 x，不配平", "x itself as Q and K, budgets as they are"), "plain", "XXV"),
    ),
    literature=(
        Source(
            "for",
            "arXiv 2606.04032 (ICML 2026)",
            Words(
                "3 亿参数：Q=K 困惑度 5.36 对 5.11，三者同一矩阵高 25.4%；2.845 亿对 3.055 亿参数，"
                "一个种子、一个学习率",
                "300M: perplexity 5.36 with Q=K against 5.11, one matrix for all +25.4 %; 284.5M against 305.5M "
                "parameters, one seed, one rate",
            ),
        ),
        Source(
            "against",
            "Reformer (2020)",
            Words(
                "Q=K“不比分开差”；三次训练的复现没能证实",
                "Q=K is “no worse”; a replication with 3 runs could not confirm it",
            ),
        ),
    ),
    why=Words(
        "读法：均匀注意力到 QKV 的差是注意力带来的全部好处，丢掉的按它的百分比算。"
        "这里是小文本上的小模型，不能替大模型作答。",
        "How to read it: from equal attention to QKV is all that attention gains, and losses are parts of that. These "
        "are small models on little text and do not speak for large ones.",
    ),
)
