"""Gemma 3: Llama's maps, norms of queries and keys, windows in most layers, and angles that differ by type of layer."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from qkvlab.hf.families.llama import PROJECTIONS, read
from qkvlab.hf.rotary import Rotary
from qkvlab.hf.shared import Rotation

MODULES = {"Gemma3Attention": "gemma3_text"}

__all__ = ["MODULES", "PROJECTIONS", "Rebuilt", "read"]


class Rebuilt(Rotary):
    """Asks for the angles of its type of layer."""

    def rotation_at(self, like: Tensor, positions: Tensor) -> Rotation | None:
        return self.angles[0](like, positions, self.layer_type)

    def extras(self) -> dict[str, Any]:
        return {"sliding_window": self.sliding_window}
