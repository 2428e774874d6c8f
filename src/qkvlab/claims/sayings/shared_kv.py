"""People say: one matrix for K and V halves the cache at almost no cost, better than grouped heads."""

from qkvlab.claims.asking import beats, keeps
from qkvlab.claims.claim import Claim, Place, Source
from qkvlab.contracts import Words

HALF = "QKV/kv2"
"""Half the key heads of the four that the tasks have: the same cache as one matrix for K and V."""


def _free(id: str, words: Words, key: tuple[str, str], metric: str) -> Place:
    return Place(
        id,
        words,
        (keeps("cost", key, "QKK", metric=metric),),
        Words("缓存减半，损失不到 δ", "half the cache for less than delta"),
        Words("缓存减半，损失超过 δ", "half the cache costs more than delta"),
    )


def _better(id: str, words: Words, key: tuple[str, str], metric: str) -> Place:
    return Place(
        id,
        words,
        (beats("lead", key, "QKK", HALF, metric=metric),),
        Words("同样的缓存，比分组头好", "better than grouped heads at the same cache"),
        Words("同样的缓存，不如分组头", "worse than grouped heads at the same cache"),
    )


TEXT, SENTENCE = ("text", "plain"), ("sentence", "two-layers/positions")
CONV, DEEP = ("recall", "conv"), ("recall", "deep")
CLAIM = Claim(
    number=8,
    id="shared-kv",
    sentence=Words(
        "K、V 共用一个矩阵能让缓存减半而几乎没有损失，比同样缓存的分组头更好",
        "One matrix for K and V halves the cache for less than delta and beats grouped heads at equal cache",
    ),
    axis=Words(
        "任务，以及是和完整的头比还是和分组头比", "the task, and whether full or grouped heads are the yardstick"
    ),
    places=(
        _free("recall-conv", Words("键值回忆、卷积加一层", "recall, convolution and one layer"), CONV, "error"),
        _free("recall", Words("键值回忆、两层", "recall, two layers"), DEEP, "error"),
        _free("sentence", Words("两层读句子", "sentences, two layers"), SENTENCE, "error"),
        _free("text", Words("真实文本", "real text"), TEXT, "nats"),
        _better(
            "recall-groups-conv",
            Words("键值回忆、卷积加一层，比分组", "recall, convolution and one layer, against groups"),
            CONV,
            "error",
        ),
        _better("recall-groups", Words("键值回忆、两层，比分组", "recall, two layers, against groups"), DEEP, "error"),
        _better(
            "sentence-groups", Words("两层读句子，比分组", "sentences, two layers, against groups"), SENTENCE, "error"
        ),
        _better("text-groups", Words("真实文本，比分组", "real text, against groups"), TEXT, "nats"),
    ),
    literature=(
        Source(
            "for", "Gemma 4", Words("发布的模型用了 K=V，但没有公布对照实验", "ships K=V, without a published ablation")
        ),
        Source(
            "against",
            "arXiv 2606.04032 (ICML 2026)",
            Words(
                "3 亿参数：K=V 困惑度高 3%（5.27 对 5.11），分组头 GQA-4 只高 0.7%",
                "300M: K=V raises perplexity by 3 % (5.27 against 5.11), grouped heads (GQA-4) by only 0.7 %",
            ),
        ),
        Source(
            "beside",
            "DeepSeek-V2",
            Words(
                "另一条路是潜变量：每词每层存 576 个数，而不是 32768 个",
                "another way are latents: 576 cached numbers per token and layer against 32,768",
            ),
        ),
    ),
    why=Words(
        "原因：K=V 时同一组数既当标签又当内容，x 的每一维要兼两职；分组头则是几个头共用整套键值，各有各的牺牲。",
        "Why: with K=V the same numbers are label and content at once; grouped heads instead share whole keys and "
        "values among several heads. Each gives up something else.",
    ),
)
