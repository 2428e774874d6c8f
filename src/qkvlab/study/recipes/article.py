"""Is it true what people say of Q, K and V? Sharing and dropping matrices against the ordinary QKV, with controls.

Decided per setting by the interval of the difference to QKV: more than delta worse, no more than delta apart, or
better; and per sentence that people say by the checks of ``claims``.
"""

from qkvlab import tasks
from qkvlab.study.spec import Spec, make

TASKS = ("library", "sentence", "recall", "text")
ASIDE = ("deep",)
"""Recall through two layers takes a quarter of an hour more and asks nothing new: ``qkvlab study --tasks recall``."""


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
        tasks=TASKS,
        settings=tuple(s for task in TASKS for s in tasks.find(task).settings() if s not in ASIDE),
        match=("none", "params"),
    )
