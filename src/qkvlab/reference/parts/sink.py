"""``/sink``: one more key in every softmax, the same for all queries of a head, that has no value."""

from __future__ import annotations

import numpy as np

from qkvlab.reference.definition import Array, Kind, Mask, softmax


def with_sink(kind: Kind) -> Kind:
    """Share out with the sink, then leave its share out."""

    class WithSink(kind):
        def shares(self, scores: Array, allowed: Mask) -> Array:
            shape = (*scores.shape[:-1], 1)
            logits = np.broadcast_to(self.weights["sink"].reshape(-1, 1, 1), shape)
            everyone = np.concatenate([np.ones(shape, bool), np.broadcast_to(allowed, scores.shape)], -1)
            return softmax(np.concatenate([logits, scores], -1), everyone)[..., 1:]

    return WithSink


PART = (r"sink", with_sink)
