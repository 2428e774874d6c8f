"""qkvlab: the laboratory for how a Transformer makes its queries, keys and values.

``import qkvlab`` is cheap: PyTorch is imported only when ``qkvlab.Attention`` is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qkvlab.attention.layer import Attention
    from qkvlab.contracts import Dims
    from qkvlab.designs.costing import cost

__version__ = "0.2.0"
__all__ = ["Attention", "Dims", "__version__", "cost"]

_HOMES = {"Attention": "qkvlab.attention.layer", "Dims": "qkvlab.contracts", "cost": "qkvlab.designs.costing"}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'qkvlab' has no attribute {name!r}")
