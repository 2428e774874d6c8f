"""People say: K tells what role a word plays, V holds what the word means."""

from qkvlab.claims.asking import more
from qkvlab.claims.claim import Claim, Place, Source
from qkvlab.contracts import Words


def _role(id: str, words: Words, setting: str) -> Place:
    return Place(
        id,
        words,
        (more("gap", ("sentence", setting), ("QKV", "k_role"), ("QKV", "v_role")),),
        Words("角色更多在 K 里", "the role is more in K"),
        Words("角色并不更多在 K 里", "the role is not more in K"),
    )


def _word(id: str, words: Words, setting: str) -> Place:
    return Place(
        id,
        words,
        (more("gap", ("sentence", setting), ("QKV", "v_word"), ("QKV", "k_word")),),
        Words("是哪个词更多在 V 里", "which word it is, is more in V"),
        Words("是哪个词并不更多在 V 里", "which word it is, is not more in V"),
    )


CLAIM = Claim(
    number=11,
    id="roles",
    sentence=Words(
        "K 里是词的角色（主语、宾语），V 里是词的内容",
        "K carries the role of a word (subject, object), V its content",
    ),
    axis=Words("说的是角色还是内容、有几层", "whether role or content is meant, and the depth"),
    places=(
        _role("role-one", Words("角色、一层", "role, one layer"), "one-layer/positions"),
        _word("word-one", Words("内容、一层", "content, one layer"), "one-layer/positions"),
        _role("role-two", Words("角色、两层", "role, two layers"), "two-layers/positions"),
        _word("word-two", Words("内容、两层", "content, two layers"), "two-layers/positions"),
    ),
    literature=(
        Source(
            "for",
            "Elhage et al. (2021)",
            Words(
                "把一个头拆成两条路：QK 决定看哪里，OV 决定搬什么",
                "a head is two circuits: QK decides where to look, OV what is moved",
            ),
        ),
        Source(
            "against",
            "Gemma 4",
            Words("发布的模型 K=V：同一组数兼任两职", "ships K=V: the same numbers do both jobs"),
        ),
    ),
    why=Words(
        "量法：用线性探针从 K、从 V 读出角色和词，在没见过的句子上比正确率；读得出不等于用得到，只说明信息在那里。",
        "How it is measured: linear probes read role and word from K and from V on unseen sentences; what can be read "
        "need not be used, it only is there.",
    ),
)
