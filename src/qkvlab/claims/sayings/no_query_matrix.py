"""People say: one of W_Q and W_K can go, since the score needs only their product."""

from qkvlab.claims.asking import keeps
from qkvlab.claims.claim import Claim, Place, Source
from qkvlab.contracts import Words


def _dropped(id: str, words: Words, key: tuple[str, str], metric: str) -> Place:
    return Place(
        id,
        words,
        (keeps("query", key, "XKV", metric=metric), keeps("key", key, "QXV", metric=metric)),
        Words("去掉一个，损失不到 δ", "dropping one costs less than delta"),
        Words("至少去掉其中一个会损失超过 δ", "dropping at least one of them costs more than delta"),
    )


CLAIM = Claim(
    number=2,
    id="no-query-matrix",
    sentence=Words(
        "W_Q 和 W_K 只留一个就够了，去掉另一个损失不到 δ",
        "One of W_Q and W_K is enough; dropping the other costs less than delta",
    ),
    axis=Words("任务、层数和参数是否配平", "the task, the depth and whether budgets are equal"),
    places=(
        _dropped(
            "sentence-one", Words("一层读句子", "sentences, one layer"), ("sentence", "one-layer/positions"), "error"
        ),
        _dropped(
            "sentence-two", Words("两层读句子", "sentences, two layers"), ("sentence", "two-layers/positions"), "error"
        ),
        _dropped(
            "sentence-params",
            Words("两层读句子、同参数", "sentences, two layers, equal parameters"),
            ("sentence", "two-layers/positions/params"),
            "error",
        ),
        _dropped("text", Words("真实文本", "real text"), ("text", "plain"), "nats"),
        _dropped("text-params", Words("真实文本、同参数", "real text, equal parameters"), ("text", "params"), "nats"),
    ),
    literature=(
        Source(
            "for",
            "arXiv 2510.23912",
            Words(
                "去掉 W_Q 的 1.17 亿参数模型与 1.24 亿的原版相当；缩放和权重衰减也同时改了",
                "a 117M model without W_Q matches 124M with it; scale and weight decay were changed at the same time",
            ),
        ),
        Source(
            "beside",
            "arXiv 2606.04032 (ICML 2026)",
            Words(
                "去掉得更多就有代价：三者共用一个矩阵，困惑度高 25.4%",
                "going further has a price: one matrix for all three raises perplexity by 25.4 %",
            ),
        ),
    ),
    why=Words(
        "原因：单头时得分只用到乘积 W_Q·W_Kᵀ，一个满秩矩阵就能代替；多头时每头只剩 x 的一段，表达力才真的变少，"
        "前后的层可以补一部分。",
        "Why: with one head the score needs only the product of W_Q and W_K, which one full matrix can be; of several "
        "heads each keeps only a slice of x, and layers around it can make up for part of that.",
    ),
)
