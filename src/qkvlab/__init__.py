"""qkvlab: the laboratory for how a Transformer makes its queries, keys and values.

``import qkvlab`` is cheap: PyTorch is imported only when ``qkvlab.Attention`` is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qkvlab.attention.layer import Attention

__version__ = "0.1.0"
__all__ = ["Attention", "__version__"]


def __getattr__(name: str) -> object:
    if name == "Attention":
        from qkvlab.attention.layer import Attention

        return Attention
    raise AttributeError(f"module 'qkvlab' has no attribute {name!r}")
