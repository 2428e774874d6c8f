"""How answers of `sentence` are marked: wrong roles, exchanged answers, attention on the right nouns.

n sentence    v verb    r role    o noun (class)    h head    t token
"""

from __future__ import annotations

import numpy as np

from qkvlab.tasks import probes
from qkvlab.tasks.grammar import NO_TARGET, TOKENS, Sentences
from qkvlab.tasks.lexicon import PADDING, load


def error(logits: np.ndarray, nouns: np.ndarray) -> float:
    """Share of wrong answers among those that are asked: (n, v, r, o) against (n, v, r)."""
    asked = nouns != NO_TARGET
    return float((logits.argmax(-1) != nouns)[asked].mean())


def error_nearest(sentences: Sentences) -> float:
    """Share of wrong answers of this rule: the subject is the nearest noun on the left, the object on the right.

    A side without nouns gives no answer.
    """
    is_noun = np.isin(sentences.tokens, load().nouns)[:, None, :]
    place = np.arange(TOKENS)
    verb = sentences.verbs[..., None]
    left = np.where(is_noun & (place < verb), place, -1).max(-1)
    right = np.where(is_noun & (place > verb), place, TOKENS).min(-1)
    asked = sentences.nouns != NO_TARGET
    return float((np.stack([left, right], axis=-1) != sentences.places)[asked].mean())


def last_verbs(sentences: Sentences) -> Sentences:
    """Keep the last verb of every sentence: all arrays over verbs then have v = 1."""
    rows = np.arange(len(sentences.tokens))
    last = (sentences.nouns[:, 1, 0] != NO_TARGET).astype(int)
    chosen = (a[rows, last][:, None] for a in (sentences.verbs, sentences.nouns, sentences.places))
    return Sentences(sentences.tokens, *chosen)


def exchange(sentences: Sentences) -> np.ndarray:
    """Say which place's key stands where once the two nouns of the one verb have exchanged theirs: (n, t)."""
    rows = np.arange(len(sentences.tokens))
    subject, thing = sentences.places[:, 0, 0], sentences.places[:, 0, 1]
    keys = np.tile(np.arange(TOKENS), (len(rows), 1))
    keys[rows, subject], keys[rows, thing] = thing, subject
    return keys


def exchanged(before: np.ndarray, after: np.ndarray, nouns: np.ndarray) -> float:
    """Of the verbs that named both nouns rightly, the share that names each in the other's place afterwards.

    Args:
        before: logits with every key in its place, (n, 1, r, o).
        after: logits with the keys of the two nouns exchanged, (n, 1, r, o).
        nouns: the right ones, (n, 1, r).
    """
    right = (before.argmax(-1) == nouns).all(-1)
    turned = (after.argmax(-1) == nouns[..., ::-1]).all(-1)
    return float(turned[right].mean()) if right.any() else 0.0


def mass(weights: np.ndarray, sentences: Sentences) -> float:
    """Mean attention of verbs on their own two nouns together, over heads: (n, h, t, t)."""
    rows = np.arange(len(weights))[:, None]
    of_verbs = weights.mean(1)[rows, sentences.verbs]
    on_nouns = np.take_along_axis(of_verbs, sentences.places, axis=-1).sum(-1)
    return float(on_nouns[sentences.nouns[..., 0] != NO_TARGET].mean())


def own(layers: np.ndarray, tokens: np.ndarray) -> dict[str, float]:
    """Share of rows that look mostly at themselves, layer by layer: (l, n, h, t, t)."""
    return {f"own_{i}": probes.own_share(weights, tokens != PADDING) for i, weights in enumerate(layers, 1)}


def probed(keys: np.ndarray, values: np.ndarray, sentences: Sentences) -> dict[str, float]:
    """How well keys and values of nouns tell their role and which noun they are: (n, t, h c) each."""
    asked = sentences.nouns != NO_TARGET
    # a subject of two verbs is asked twice and stands there once
    asked[:, 1, 0] &= sentences.places[:, 1, 0] != sentences.places[:, 0, 0]
    rows = np.broadcast_to(np.arange(len(asked))[:, None, None], asked.shape)[asked]
    place, noun = sentences.places[asked], sentences.nouns[asked]
    role = np.broadcast_to(np.arange(asked.shape[-1]), asked.shape)[asked]
    read = {"k": keys[rows, place], "v": values[rows, place]}
    return {
        f"{made}_{name}": probes.probe(x, labels)
        for made, x in read.items()
        for name, labels in (("role", role), ("word", noun))
    }
