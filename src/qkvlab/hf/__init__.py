"""Attention of Hugging Face models, rebuilt with a design so that it can be fine-tuned: ``share(model, "QKK")``.

Needs transformers, which nothing else here does: ``pip install 'qkvlab[hf]'``.
"""

from __future__ import annotations

try:
    import transformers  # noqa: F401
except ImportError as missing:
    raise ImportError(f"qkvlab.hf needs transformers ({missing}); install it with: pip install 'qkvlab[hf]'") from None

from qkvlab.hf.loading import load
from qkvlab.hf.rebuilding import share
from qkvlab.hf.report import Report
from qkvlab.hf.shared import Shared

__all__ = ["Report", "Shared", "load", "share"]
