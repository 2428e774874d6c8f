"""People say: the verb finds its subject and object by attending to them, as 爱 does in 我爱北京."""

from qkvlab.claims.asking import share
from qkvlab.claims.claim import Claim, Place, Source
from qkvlab.contracts import Words

_FOLLOWS = (
    Words("答案跟着键走，注意力确实载着答案", "answers follow the keys, so attention carries them"),
    Words("答案大多不跟着键走", "most answers do not follow the keys"),
)


def _swapped(id: str, words: Words, setting: str, design: str) -> Place:
    key = ("sentence", setting)
    # equal attention ignores keys: if its answers followed them too, the test would measure something else
    checks = (share("swap", key, design, "swap"), share("control", key, "uniform", "swap", below=True))
    return Place(id, words, checks, *_FOLLOWS)


CLAIM = Claim(
    number=7,
    id="carries-answer",
    sentence=Words(
        "“爱”靠注意力看到“我”和“北京”，才知道谁爱、爱什么",
        "The verb knows its subject and object because its attention looks at them",
    ),
    axis=Words("层数以及 Q、K 是否共享", "the depth and whether Q and K share"),
    places=(
        _swapped("one", Words("一层，矩阵分开", "one layer, separate matrices"), "one-layer/positions", "QKV"),
        _swapped(
            "one-shared",
            Words("一层，Q、K 同一矩阵", "one layer, one matrix for Q and K"),
            "one-layer/positions",
            "QQV",
        ),
        _swapped("two", Words("两层，矩阵分开", "two layers, separate matrices"), "two-layers/positions", "QKV"),
        _swapped(
            "two-shared",
            Words("两层，Q、K 同一矩阵", "two layers, one matrix for Q and K"),
            "two-layers/positions",
            "QQV",
        ),
    ),
    literature=(
        Source(
            "for",
            "arXiv 2209.11895 (Olsson et al.)",
            Words(
                "语言模型里有“归纳头”：靠注意力找到前一次出现之后的词并抄过来",
                "language models hold induction heads: attention finds what followed the last time and copies it",
            ),
        ),
        Source(
            "beside",
            "arXiv 2410.10781 (Gu et al.)",
            Words(
                "很多注意力落在第一个词上而不取用它：权重大不等于用到了",
                "much attention rests on the first token without using it: a large weight is not yet a use",
            ),
        ),
    ),
    why=Words(
        "办法：在注意力里交换两个名词的键，别的都不动；答案若跟着交换，就是由“看向谁”决定的；若不跟着换，"
        "多半因为谁是主语、谁是宾语也写在取回的 V 里。",
        "How it is tried: the keys of the two nouns are exchanged inside attention and nothing else; if the answers "
        "exchange too, it was the look that decided them; if not, V likely says who is who, too.",
    ),
)
