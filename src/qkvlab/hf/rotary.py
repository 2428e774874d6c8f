"""What families with rotated heads have in common: the model's own norms, rotation and maker of angles."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from qkvlab.hf.shared import Rotation, Shared


class Rotary(Shared):
    """Norms heads where the model does, then rotates them by the function of the model's own file."""

    OUT = "o_proj"

    def turned(self, heads: Tensor, role: str, rotation: Rotation | None) -> Tensor:
        norm = getattr(self, f"{role}_norm", None)
        if norm is not None:
            heads = norm(heads)
        if rotation is None:
            return heads
        # the function takes q and k together; no head stands in for the other one
        return self.of_model("apply_rotary_pos_emb")(heads, heads[:, :0], *rotation)[0]

    def rotation_at(self, like: Tensor, positions: Tensor) -> Rotation | None:
        return self.angles[0](like, positions)

    def extras(self) -> dict[str, Any]:
        """What the model gives its attention function besides mask, scale and dropout."""
        return {}

    def forward(
        self,
        hidden_states: Tensor,
        position_embeddings: Rotation | None = None,
        attention_mask: Tensor | None = None,
        cache: Any = None,
        **more: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """(b, t, d) -> (b, t, d) and weights (b, h, t, s) where the attention function gives them."""
        for name in ("past_key_values", "layer_past"):  # names of other versions and families
            cache = more.pop(name, cache)
        q, k, v = self.made(hidden_states, cache, position_embeddings, more.get("position_ids"))
        more = {**self.extras(), **more}
        out, weights = self.attended(q, k, v, attention_mask, dropout=self.attention_dropout, **more)
        return getattr(self, self.OUT)(out), weights
