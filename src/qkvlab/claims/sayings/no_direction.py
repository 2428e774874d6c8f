"""People say: with one matrix for Q and K scores are symmetric, so who does what to whom is lost."""

from qkvlab.claims.asking import loses
from qkvlab.claims.claim import Claim, Place, Source
from qkvlab.contracts import Words


def _lost(id: str, words: Words, key: tuple[str, str], *names: str) -> Place:
    return Place(
        id,
        words,
        tuple(loses(name.lower(), key, name) for name in names),
        Words("方向确实丢了", "direction is lost"),
        Words("方向没有丢，或丢得不到 δ", "direction is kept, or lost by less than delta"),
    )


CLAIM = Claim(
    number=5,
    id="no-direction",
    sentence=Words(
        "Q、K 共享后得分对称，分不出方向：谁爱谁、谁在谁前面",
        "With shared Q and K scores are symmetric, so direction is lost: who loves whom, what comes next",
    ),
    axis=Words(
        "关系是否成圈、提问的词和被找的词是否同一种、有没有位置、有几层",
        "whether the relation closes a ring, whether asking and answering words are of one kind, positions and depth",
    ),
    places=(
        _lost(
            "ring", Words("三个一圈、给定向量", "rings of three, given vectors"), ("library", "directed/fixed"), "QQV"
        ),
        _lost(
            "ring-signed",
            Words("三个一圈、对称但可为负", "rings of three, symmetric but signed"),
            ("library", "directed/fixed"),
            "QDQ",
        ),
        _lost(
            "ring-trained",
            Words("三个一圈、可训练向量", "rings of three, trained vectors"),
            ("library", "directed/learned"),
            "QQV",
        ),
        _lost("ring-long", Words("24 个一大圈", "one ring of 24"), ("library", "directed-long/fixed"), "QQV", "QDQ"),
        _lost("no-ring", Words("不成圈的先后", "an order without rings"), ("library", "directed-acyclic/fixed"), "QQV"),
        _lost(
            "bag-one",
            Words("没有词序的句子、一层", "sentences without word order, one layer"),
            ("sentence", "one-layer/bag"),
            "QQV",
        ),
        _lost(
            "bag-two",
            Words("没有词序的句子、两层", "sentences without word order, two layers"),
            ("sentence", "two-layers/bag"),
            "QQV",
        ),
        _lost(
            "sentence-one",
            Words("有位置的句子、一层", "sentences with positions, one layer"),
            ("sentence", "one-layer/positions"),
            "QQV",
        ),
        _lost(
            "sentence-signed",
            Words("有位置的句子、一层、对称但可为负", "sentences with positions, one layer, symmetric but signed"),
            ("sentence", "one-layer/positions"),
            "QDQ",
        ),
        _lost(
            "sentence-two",
            Words("有位置的句子、两层", "sentences with positions, two layers"),
            ("sentence", "two-layers/positions"),
            "QQV",
        ),
    ),
    literature=(
        Source(
            "for",
            "arXiv 2502.10927",
            Words(
                "训练后的 GPT-2 的 W_Q·W_Kᵀ 有方向性（-.58），BERT-base 几乎没有（-.08）",
                "in trained GPT-2 the product of W_Q and W_K is directional (-.58), in BERT-base hardly (-.08)",
            ),
        ),
        Source(
            "for",
            "arXiv 2606.04032 (ICML 2026)",
            Words(
                "3 亿参数语言模型：Q=K 困惑度 5.36，分开 5.11",
                "300M language model: perplexity 5.36 with Q=K, 5.11 separate",
            ),
        ),
        Source(
            "against",
            "Courtois et al. (ACL Findings 2024)",
            Words(
                "对称的 BERT（Q·Qᵀ）和成对形式 Q·M·Qᵀ 在 GLUE 上可以训练和比较，参数少 5–6%",
                "BERT with symmetric scores (Q Q^T) or pairwise ones (Q M Q^T) was trained and judged on GLUE, "
                "with 5 to 6 % fewer parameters",
            ),
        ),
    ),
    why=Words(
        "原因：对称意味着 s(a,b)=s(b,a)；一圈里要“下一个总比上一个得分高”，绕一圈就要求分数一路涨回自己，不可能。"
        "不成圈时，键的长短就能排出先后；位置或上一层也能让提问的 x 和被问的 x 不同。",
        "Why: symmetric means s(a,b) = s(b,a); on a ring “the next scores above the previous” would have to rise all "
        "the way round to itself. Without a ring the lengths of keys can order words, and positions or a layer before "
        "make the asking x differ from the asked.",
    ),
)
