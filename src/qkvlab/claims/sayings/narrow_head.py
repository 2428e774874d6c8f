"""People say: projecting to a narrow head (64 of 768) is faster and keeps what matters."""

from qkvlab.claims.asking import faster, keeps
from qkvlab.claims.check import Check
from qkvlab.claims.claim import Claim, Place, Source
from qkvlab.contracts import Words


def _kept(id: str, words: Words, question: str) -> Place:
    checks: tuple[Check, ...] = (keeps("cost", ("library", f"{question}/fixed"), "QKV/h16"),)
    return Place(
        id,
        words,
        checks,
        Words("窄到六分之一，损失不到 δ", "a sixth of the width costs less than delta"),
        Words("窄到六分之一，损失超过 δ", "a sixth of the width costs more than delta"),
    )


CLAIM = Claim(
    number=9,
    id="narrow-head",
    sentence=Words(
        "把 768 维压到 64 维的头，算得更快，也不丢东西",
        "A narrow head (64 of 768) is faster and loses nothing",
    ),
    axis=Words(
        "说的是快还是不丢东西，以及要分清多少东西", "whether speed or loss is meant, and how much must be told apart"
    ),
    places=(
        Place(
            "faster",
            Words("一个头，64/768 维", "one head, 64 of 768 channels"),
            (faster("time", "narrow_head", "QKV/h64"),),
            Words("窄头更快", "the narrow head is faster"),
            Words("窄头并不更快", "the narrow head is no faster"),
        ),
        _kept("same-word", Words("找原词", "finding the very word"), "same-word"),
        _kept("synonym", Words("找同义词", "finding a synonym"), "synonym"),
        _kept("directed", Words("找下一本", "finding what comes next"), "directed"),
    ),
    literature=(
        Source(
            "for",
            "arXiv 1706.03762 (Transformer)",
            Words(
                "d_model 512 分成 8 个 64 维的头，总计算量与一个全宽的头相近",
                "d_model 512 in 8 heads of 64 costs about what one full head does",
            ),
        ),
        Source(
            "against",
            "arXiv 2002.07028 (Bhojanapalli et al.)",
            Words(
                "头的宽度小于序列长度时，注意力表达不了任意的权重（低秩瓶颈）",
                "heads narrower than the sequence is long cannot attend in every pattern (a low-rank bottleneck)",
            ),
        ),
    ),
    why=Words(
        "快在哪里：做 q、k、v 的乘法与宽度成正比，64/768 就是十二分之一；但十二个窄头合起来又是全宽，"
        "便宜的是一个头，不是整层。",
        "Where the speed is: making q, k and v takes work in proportion to the width, a twelfth at 64 of 768; but "
        "twelve such heads are full width again, so a head is cheaper and the layer is not.",
    ),
)
