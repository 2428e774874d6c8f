"""People say: Q and K must be different. Is it the difference that helps, or the learning?"""

from qkvlab.claims.asking import loses
from qkvlab.claims.claim import Claim, Place, Source
from qkvlab.contracts import Words


def _learnt(id: str, words: Words, key: tuple[str, str], metric: str = "error") -> Place:
    return Place(
        id,
        words,
        (loses("cost", key, "frozen", metric=metric),),
        Words("光是不同没用，学过才行", "being different is not enough, learning is what helps"),
        Words("随机而不学的矩阵也够用", "random matrices that never learn do as well"),
    )


CLAIM = Claim(
    number=10,
    id="learning",
    sentence=Words(
        "起作用的是 W_Q、W_K 学到的东西，而不是它们彼此不同",
        "What helps is that W_Q and W_K learn, not merely that they differ",
    ),
    axis=Words("任务，以及模型别处还有没有可以学的东西", "the task, and what else in the model can learn"),
    places=(
        _learnt(
            "synonym", Words("找同义词、给定向量", "finding a synonym, given vectors"), ("library", "synonym/fixed")
        ),
        _learnt(
            "directed",
            Words("找下一本、给定向量", "finding what comes next, given vectors"),
            ("library", "directed/fixed"),
        ),
        _learnt(
            "synonym-trained",
            Words("找同义词、可训练向量", "finding a synonym, trained vectors"),
            ("library", "synonym/learned"),
        ),
        _learnt("sentence", Words("一层读句子", "sentences, one layer"), ("sentence", "one-layer/positions")),
        _learnt("sentence-two", Words("两层读句子", "sentences, two layers"), ("sentence", "two-layers/positions")),
        _learnt("recall", Words("键值回忆", "recall"), ("recall", "conv")),
        _learnt("text", Words("真实文本", "real text"), ("text", "plain"), "nats"),
    ),
    literature=(
        Source(
            "for",
            "arXiv 2502.10927",
            Words(
                "没训练的头几乎不对称（约 1/d），编码器训练后才偏对称",
                "untrained heads are hardly symmetric (about 1/d); those of encoders become so by training",
            ),
        ),
        Source(
            "against",
            "arXiv 2510.23912",
            Words("把 W_Q 固定成单位矩阵，不必学也相当", "W_Q can be fixed to the identity, and need not learn"),
        ),
    ),
    why=Words(
        "对照：同样的 QKV，两个矩阵随机给定、彼此不同、永不训练；它和 QKV 的差距就是“学”的份量。",
        "The control is QKV with two random, different matrices that are never trained: what it lacks is what learning "
        "gives.",
    ),
)
