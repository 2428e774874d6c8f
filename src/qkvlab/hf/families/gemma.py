"""Gemma and Gemma 2: Llama's maps; Gemma 2 has capped scores, a query scale of its own, and windows in some layers."""

from __future__ import annotations

from typing import Any

from qkvlab.hf.families.llama import PROJECTIONS, read
from qkvlab.hf.rotary import Rotary

MODULES = {"GemmaAttention": "gemma", "Gemma2Attention": "gemma2"}

__all__ = ["MODULES", "PROJECTIONS", "Rebuilt", "read"]


class Rebuilt(Rotary):
    """Gives window and cap to the attention function."""

    def extras(self) -> dict[str, Any]:
        names = {"sliding_window": "sliding_window", "softcap": "attn_logit_softcapping"}
        return {given: getattr(self, own) for given, own in names.items() if hasattr(self, own)}
