"""Is it true what people say of Q, K and V? Sharing and dropping matrices against the ordinary QKV, with controls.

Decided per setting by the interval of the difference to QKV: more than delta worse, no more than delta apart, or
better.
"""

from qkvlab.study.spec import Spec, make


def recipe() -> Spec:
    """QKV against the article's designs and the three controls, on every setting."""
    return make(
        recipe="article",
        designs=("QKV", "QQV", "XXV", "XKV", "QKK", "QQQ", "QDQ", "frozen", "uniform"),
    )
