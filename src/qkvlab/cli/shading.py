"""How attention looks in a terminal: the more, the stronger."""

from __future__ import annotations


def shade(weight: float) -> str:
    """Return Rich's style for a share of attention.

    >>> shade(0.6), shade(0.3), shade(0.1), shade(0.01)
    ('bold reverse', 'bold', '', 'dim')
    """
    return "bold reverse" if weight >= 0.5 else "bold" if weight >= 0.25 else "dim" if weight < 0.05 else ""
