"""People say: with one matrix for Q and K a word finds only itself, never its synonyms."""

from qkvlab.claims.asking import finds_nothing, loses
from qkvlab.claims.claim import Claim, Place, Source
from qkvlab.contracts import Words

GIVEN = ("library", "synonym/fixed")
TRAINED = ("library", "synonym/learned")
NARROW = ("library", "synonym/fixed/d64")
UNSEEN_GIVEN = ("library", "unseen-synonym/fixed")
UNSEEN_TRAINED = ("library", "unseen-synonym/learned")


def _worse(id: str, words: Words, key: tuple[str, str]) -> Place:
    check = loses("cost", key, "QQV")
    return Place(
        id,
        words,
        (check,),
        Words(
            f"{words.zh}：共享错 {{cost.first}}，分开错 {{cost.second}}，共享确实更差。",
            f"With {words.en}, sharing errs {{cost.first}} and separate matrices {{cost.second}}: sharing is worse.",
        ),
        Words(
            f"{words.zh}：共享错 {{cost.first}}，分开错 {{cost.second}}，差别不到 δ。",
            f"With {words.en}, sharing errs {{cost.first}} and separate matrices {{cost.second}}: "
            "no difference that matters.",
        ),
    )


CLAIM = Claim(
    number=4,
    id="no-synonyms",
    sentence=Words(
        "Q、K 共用一个矩阵，就找不到同义词，只能找到原词",
        "With one matrix for Q and K a word finds only itself, not its synonyms",
    ),
    axis=Words(
        "说的是“找不到”还是“更差”、词向量有多宽、考的同义词训练时见过没有",
        "whether “cannot” or “worse” is meant, how wide the vectors are and whether the pair was seen in training",
    ),
    places=(
        Place(
            "cannot",
            Words("根本找不到（与均匀注意力比）", "cannot at all (against equal attention)"),
            (finds_nothing("gain", GIVEN, "QQV"),),
            Words(
                "共享的错误率 {gain.second}，和均匀注意力的 {gain.first} 差不多：真的找不到。",
                "Sharing errs {gain.second}, equal attention {gain.first}: it does not find them at all.",
            ),
            Words(
                "“找不到”不对：共享的错误率 {gain.second}，均匀注意力是 {gain.first}。",
                "“Cannot” is wrong: sharing errs {gain.second} where equal attention errs {gain.first}.",
            ),
        ),
        _worse("given", Words("给定的词向量", "given vectors"), GIVEN),
        _worse("trained", Words("可训练的词向量", "trained vectors"), TRAINED),
        _worse("narrow", Words("比词数还窄的词向量", "vectors narrower than there are words"), NARROW),
        _worse("unseen-given", Words("没见过的同义词、给定向量", "unseen pairs and given vectors"), UNSEEN_GIVEN),
        _worse(
            "unseen-trained", Words("没见过的同义词、可训练向量", "unseen pairs and trained vectors"), UNSEEN_TRAINED
        ),
    ),
    literature=(
        Source(
            "against",
            "Reformer, ICLR 2020",
            Words(
                "共享 QK（键取单位长度、不看自己）“不比分开差”",
                "shared QK (unit-length keys, no look at oneself) is no worse",
            ),
        ),
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
            "arXiv 2606.04032 (ICML 2026)",
            Words("列表任务上几乎一样（倒序 .705 对 .698）", "almost equal on list tasks (reverse .705 against .698)"),
        ),
    ),
    why=Words(
        "原因：共享矩阵仍然是学出来的，可以把同义词映到一处；得分 x·M·y 只是被限制成对称的，而同义本来就是对称的关系。",
        "Why: a shared matrix is still learned and can map synonyms to one place; it only makes the score symmetric, and "
        "being a synonym is a symmetric relation.",
    ),
)
