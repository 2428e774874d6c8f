"""People say: with one matrix for Q and K (or none) every word looks at itself and is blind to the rest."""

from qkvlab.claims.asking import loses, more, share
from qkvlab.claims.check import Check
from qkvlab.claims.claim import Claim, Place, Source
from qkvlab.contracts import Words

ONE = ("sentence", "one-layer/positions")
TWO = ("sentence", "two-layers/positions")
TEXT = ("text", "plain")
_MOST = (
    Words("过半的词最看自己", "most tokens look most at themselves"),
    Words("不到一半的词最看自己", "fewer than half do"),
)


def _own(key: tuple[str, str], metric: str, *names: str) -> tuple[Check, ...]:
    return tuple(share(name.lower(), key, name, metric) for name in names)


CLAIM = Claim(
    number=3,
    id="self-attention",
    sentence=Words(
        "Q、K 共享后大多数词主要看自己，看不见上下文，所以变差",
        "With shared Q and K most words look mostly at themselves, blind to the context, and that does harm",
    ),
    axis=Words(
        "训练前还是训练后、哪个任务、第几层，以及说的是“看自己”还是“有害”",
        "whether training has happened, the task, the layer, and whether “looks” or “harms” is meant",
    ),
    places=(
        Place("before", Words("训练前", "before training"), _own(ONE, "own_1_before", "QQV", "XXV"), *_MOST),
        Place(
            "one",
            Words("一层读句子，Q、K 同一矩阵", "sentences, one layer, one matrix"),
            _own(ONE, "own_1", "QQV"),
            *_MOST,
        ),
        Place(
            "one-raw",
            Words("一层读句子，Q、K 就是 x", "sentences, one layer, x itself"),
            _own(ONE, "own_1", "XXV"),
            *_MOST,
        ),
        Place(
            "two-first",
            Words("两层读句子，第一层", "sentences, first of two layers"),
            _own(TWO, "own_1", "QQV"),
            *_MOST,
        ),
        Place(
            "two-second",
            Words("两层读句子，第二层", "sentences, second of two layers"),
            _own(TWO, "own_2", "QQV"),
            *_MOST,
        ),
        Place("text", Words("真实文本，第一层", "real text, first layer"), _own(TEXT, "own_1", "QQV"), *_MOST),
        Place("text-second", Words("真实文本，第二层", "real text, second layer"), _own(TEXT, "own_2", "QQV"), *_MOST),
        Place(
            "more",
            Words("和分开相比", "against separate matrices"),
            (more("more", ONE, ("QQV", "own_1"), ("QKV", "own_1")),),
            Words("共享让词更看自己", "sharing makes words look more at themselves"),
            Words("共享没有让词更看自己", "sharing does not"),
        ),
        Place(
            "harm",
            Words("禁止看自己之后", "once the look at oneself is forbidden"),
            (loses("harm", ONE, "QQV", than="QQV/noself"),),
            Words("明显变好，看自己确实有害", "clearly better, so it did harm"),
            Words("好不了多少，看自己不是病根", "hardly better, so it was not the trouble"),
        ),
    ),
    literature=(
        Source(
            "for",
            "Reformer (2020)",
            Words(
                "Q=K 时专门不让词看自己（给一个有限的低分）",
                "with Q=K it keeps words from looking at themselves, by a finite low score",
            ),
        ),
        Source(
            "against",
            "Reformer (2020)",
            Words(
                "这样之后“不比分开差”；三次训练的复现没能证实",
                "then “no worse” than separate; a replication with 3 runs could not confirm it",
            ),
        ),
    ),
    why=Words(
        "原因：共享时一个词对自己的得分是 |k|²，平均最大，所以一开始偏向自己；但训练可以拉长别的词的键，"
        "softmax 也不只看最大的一个。",
        "Why: a shared matrix gives a word the score |k|² with itself, the largest on average, so training starts from "
        "there; but it can lengthen the keys of others, and a softmax is more than its largest weight.",
    ),
)
