"""Is it true what people say of Q, K and V? Sharing and dropping matrices against the ordinary QKV, with controls.

Decided per setting by the interval of the difference to QKV: more than delta worse, no more than delta apart, or
better; and per sentence that people say by the checks of ``claims``.
"""

from qkvlab.study.spec import Spec, make


def recipe() -> Spec:
    """QKV against the article's designs and the controls on every task; others where a sentence speaks of them."""
    return make(
        recipe="article",
        designs=("QKV", "QQV", "XXV", "XKV", "QKK", "frozen", "uniform"),
        also={
            "library": ("QQQ", "QDQ", "QKV/h16"),
            "sentence": ("QXV", "QDQ", "QQV/noself", "QKV/kv2"),
            "recall": ("QKV/kv2",),
            "text": ("QXV", "QKV/kv2"),
        },
        tasks=("library", "sentence", "recall", "text"),
        match=("none", "params"),
    )
