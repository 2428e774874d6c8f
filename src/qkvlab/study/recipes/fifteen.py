"""Which of the fifteen ways of sharing matrices between q, k, v and x lose something, and where?

Decided as in ``article``, for all fifteen ways and the controls.
"""

from qkvlab.designs import PATTERNS
from qkvlab.study.spec import Spec, make


def recipe() -> Spec:
    """All fifteen ways and the controls, on every setting."""
    return make(recipe="fifteen", designs=(*PATTERNS, "QDQ", "frozen", "uniform"))
