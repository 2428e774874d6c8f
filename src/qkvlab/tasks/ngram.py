"""An interpolated n-gram model by Witten and Bell: what counting alone can predict.

    p(c | h) = (n(h c) + d(h) p(c | h')) / (n(h) + d(h))

n counts in the training text, d(h) is how many different characters followed h there, h' is h without its oldest
character, and below the empty context stands 1 / classes (Witten & Bell, IEEE Trans. Inf. Theory 37(4), 1991). So a
context that was never seen says what its shorter one says, and one with many different successors trusts itself less.

    t character    k length of a context
"""

from __future__ import annotations

import numpy as np


class WittenBell:
    """Counts of a text, and the probabilities that follow from them.

    Args:
        text: classes of characters in order, whole numbers (t,) in 0..classes - 1.
        classes: how many there are.
        order: longest n-gram; its contexts have one character less.
    """

    def __init__(self, text: np.ndarray, classes: int, order: int) -> None:
        assert classes**order < 2**63, "a gram must fit a 64-bit number"
        self.classes, self.order = classes, order
        self._tables = [_Table(_numbers(text, n, classes), classes) for n in range(1, order + 1)]

    def probabilities(self, text: np.ndarray) -> np.ndarray:
        """Probability of every character of a text after those before it: (t,) -> (t - order + 1,).

        The first ``order - 1`` characters are context only.
        """
        p: np.ndarray | float = 1 / self.classes
        for n, table in enumerate(self._tables, start=1):
            p = table.interpolate(_numbers(text[self.order - n :], n, self.classes), p)
        return np.asarray(p)

    def nats(self, text: np.ndarray) -> float:
        """Mean negative log-probability of the characters that `probabilities` predicts."""
        return float(-np.log(self.probabilities(text)).mean())


class _Table:
    # all grams of one length as sorted numbers; the context of gram g is g // classes
    def __init__(self, grams: np.ndarray, classes: int) -> None:
        self.classes = classes
        self.grams, self.counts = np.unique(grams, return_counts=True)
        self.contexts, first, self.different = np.unique(self.grams // classes, return_index=True, return_counts=True)
        self.totals = np.add.reduceat(self.counts, first)

    def interpolate(self, grams: np.ndarray, shorter: np.ndarray | float) -> np.ndarray:
        found = _look_up(self.grams, self.counts, grams)
        contexts = grams // self.classes
        total, different = (_look_up(self.contexts, v, contexts) for v in (self.totals, self.different))
        seen = total > 0
        return np.where(seen, (found + different * shorter) / np.where(seen, total + different, 1), shorter)


def _numbers(text: np.ndarray, n: int, classes: int) -> np.ndarray:
    # every n characters in a row as one number, oldest first: (t,) -> (t - n + 1,)
    grams = np.zeros(len(text) - n + 1, dtype=np.int64)
    for i in range(n):
        grams = grams * classes + text[i : len(text) - n + 1 + i]
    return grams


def _look_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    # the value of a key, 0 where there is none
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0)
