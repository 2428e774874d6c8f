"""People say: with one matrix for Q and K a word finds only itself, never its synonyms."""

from qkvlab.claims.asking import finds_nothing, loses
from qkvlab.claims.claim import Claim, Place, Source
from qkvlab.contracts import Words

_WORSE = (Words("共享更差", "sharing is worse"), Words("共享不差", "sharing is no worse"))


def _cost(setting: str) -> tuple:
    return (loses("cost", ("library", setting), "QQV"),)


CLAIM = Claim(
    number=4,
    id="no-synonyms",
    sentence=Words(
        "Q、K 共用一个矩阵，就找不到同义词，只能找到原词",
        "With one matrix for Q and K a word finds only itself, not its synonyms",
    ),
    axis=Words(
        "说的是“找不到”还是“更差”、词向量给定还是可训练、训练时见过没有",
        "whether “cannot” or “worse” is meant, whether the vectors are trained and whether training showed the pair",
    ),
    places=(
        Place(
            "cannot",
            Words("“根本找不到”", "“cannot at all”"),
            (finds_nothing("gain", ("library", "synonym/fixed"), "QQV"),),
            Words("和均匀注意力一样，真的找不到", "no better than equal attention, so it is true"),
            Words("远比均匀注意力强，这话不对", "better than equal attention, so it is wrong"),
        ),
        Place("given", Words("给定的词向量", "given vectors"), _cost("synonym/fixed"), *_WORSE),
        Place("trained", Words("可训练的词向量", "trained vectors"), _cost("synonym/learned"), *_WORSE),
        Place(
            "narrow",
            Words("比词数还窄的向量", "vectors narrower than the words are many"),
            _cost("synonym/fixed/d64"),
            *_WORSE,
        ),
        Place(
            "unseen-given",
            Words("没见过的同义词、给定向量", "unseen pairs, given vectors"),
            _cost("unseen-synonym/fixed"),
            *_WORSE,
        ),
        Place(
            "unseen-trained",
            Words("没见过的同义词、可训练向量", "unseen pairs, trained vectors"),
            _cost("unseen-synonym/learned"),
            *_WORSE,
        ),
    ),
    literature=(
        Source(
            "for",
            "arXiv 2606.04032 (ICML 2026)",
            Words(
                "3 亿参数语言模型：Q=K 困惑度 5.36，分开 5.11；一个种子、一个学习率、参数不等",
                "300M language model: perplexity 5.36 with Q=K, 5.11 separate; one seed, one rate, unequal parameters",
            ),
        ),
        Source(
            "against",
            "Reformer (2020)",
            Words(
                "Q=K（键取单位长度、不看自己）“不比分开差”；三次训练的复现没能证实",
                "Q=K (unit-length keys, no look at oneself) is no worse; a replication of 3 runs could not confirm it",
            ),
        ),
        Source(
            "against",
            "arXiv 2606.04032 (ICML 2026)",
            Words("倒序任务的正确率：Q=K .705，分开 .698", "accuracy on reversing lists: .705 with Q=K, .698 separate"),
        ),
    ),
    why=Words(
        "原因：共享的矩阵也是学出来的，能把同义词映到一处；它只让得分对称，而“同义”本来就是对称的关系。",
        "Why: a shared matrix is learned too and can map synonyms to one place; it only makes scores symmetric, and "
        "being a synonym is a symmetric relation.",
    ),
)
