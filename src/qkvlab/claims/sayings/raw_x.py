"""People say: with x itself as Q and K only the very same word is found, no synonym and nothing related."""

from qkvlab.claims.asking import across, finds_nothing, keeps, loses, more
from qkvlab.claims.claim import Claim, Place, Source
from qkvlab.contracts import Words

GIVEN = ("library", "synonym/fixed")
_LOSES = (
    Words("比有矩阵差得多", "far behind learned matrices"),
    Words("并不比有矩阵差", "no worse than learned matrices"),
)

CLAIM = Claim(
    number=1,
    id="raw-x",
    sentence=Words(
        "不用矩阵、直接拿 x 当 Q 和 K，只能找到和自己一模一样的词，找不到同义词和相关词",
        "With x itself as Q and K a word finds only what is the same as itself, no synonym and nothing related",
    ),
    axis=Words(
        "词向量给定还是可训练、x 里同义词本来挨得多近",
        "whether the vectors are trained and how near x already places synonyms",
    ),
    places=(
        Place(
            "same-word",
            Words("原词", "the very word"),
            (keeps("cost", ("library", "same-word/fixed"), "XXV"),),
            Words("不用矩阵也找得到", "found without a matrix"),
            Words("连原词也找得更差", "even this is found less well"),
        ),
        Place(
            "given",
            Words("同义词，给定且互不相关的向量", "synonyms, given and unrelated vectors"),
            (loses("cost", GIVEN, "XXV"),),
            *_LOSES,
        ),
        Place(
            "related",
            Words("相关词，给定且互不相关的向量", "related words, given and unrelated vectors"),
            (loses("cost", ("library", "related/fixed"), "XXV"),),
            *_LOSES,
        ),
        Place(
            "coverage",
            Words("四本该看的书里看到几本，给定向量", "how many of four relevant books are seen, given vectors"),
            (more("seen", GIVEN, ("QKV", "coverage"), ("XXV", "coverage")),),
            Words("看到的更少", "fewer are seen"),
            Words("看到的不少", "no fewer are seen"),
        ),
        Place(
            "nothing",
            Words("“根本找不到”", "“nothing at all”"),
            (finds_nothing("gain", GIVEN, "XXV"),),
            Words("和均匀注意力一样", "no better than equal attention"),
            Words("还是比均匀注意力强", "still better than equal attention"),
        ),
        Place(
            "nearer",
            Words("x 里同义词挨得越近找得越好", "the nearer x places synonyms, the better they are found"),
            (
                across("some", "XXV", GIVEN, ("library", "synonym/fixed/cos0.3")),
                across("near", "XXV", GIVEN, ("library", "synonym/fixed/cos0.6")),
            ),
            Words("找到的正是 x 已经放在一起的", "what is found is what x already places together"),
            Words("挨得近并没有帮多少", "nearness helps little"),
        ),
        Place(
            "trained",
            Words("同义词，可训练的向量", "synonyms, trained vectors"),
            (loses("cost", ("library", "synonym/learned"), "XXV"),),
            *_LOSES,
        ),
        Place(
            "related-trained",
            Words("相关词，可训练的向量", "related words, trained vectors"),
            (loses("cost", ("library", "related/learned"), "XXV"),),
            *_LOSES,
        ),
    ),
    literature=(
        Source(
            "against",
            "arXiv 2510.23912",
            Words(
                "1.17 亿参数时去掉 W_Q 与 1.24 亿的原版相当（缩放和权重衰减也改了）",
                "117M parameters without W_Q match 124M with it (scale and weight decay were changed too)",
            ),
        ),
        Source(
            "beside",
            "arXiv 2502.10927",
            Words(
                "训练后的编码器里 W_Q 与 W_K 的乘积大多偏对称：BERT-base .51，GPT-2 .15",
                "in trained encoders the product of W_Q and W_K leans to symmetry: BERT-base .51, GPT-2 .15",
            ),
        ),
    ),
    why=Words(
        "原因：x·x 只看两个向量本来有多近；没有矩阵可学，就只能靠训练词向量把该找的词挪到一起。",
        "Why: x·x only sees how near two vectors already are; without a matrix to learn, the vectors themselves must "
        "be trained until they lie together.",
    ),
)
