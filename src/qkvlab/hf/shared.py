"""What a model's attention module becomes: its own class, whose q, k and v are made by a design.

Everything else stays the model's: norms of heads, rotation, mask, attention function, dropout and output matrix. Its
cache stores what the design keeps, in the cache's two places:

    k and v differ         keys, normed and turned, and values, as before
    k and v are one        that one array before norm and rotation, and its positions as whole numbers
"""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from qkvlab.designs.projections import Projections

Rotation = tuple[Tensor, Tensor]
"""cos and sin of the tokens' angles, each (b, t, c) or (1, t, c)."""


class Shared(nn.Module):
    """Mixed in front of a model's attention class; a family adds ``forward``."""

    projections: Projections
    angles: tuple[nn.Module, ...]
    """The model's own maker of rotations, in a tuple so that it is not registered twice."""

    if TYPE_CHECKING:  # the rest is the model's own class

        def __getattr__(self, name: str) -> Any: ...

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return _revive, type(self).__bases__, self.__dict__  # the class itself is made when it is needed

    def turned(self, heads: Tensor, role: str, rotation: Rotation | None) -> Tensor:
        """Do to queries ("q") or keys ("k"), (b, h, t, c), what the model does once they are made."""
        return heads

    def rotation_at(self, like: Tensor, positions: Tensor) -> Rotation | None:
        """Make the rotation of tokens at these places, (b, s)."""
        return None

    def made(
        self, x: Tensor, cache: Any = None, rotation: Rotation | None = None, positions: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Make q (b, h, t, c) of x, and k and v (b, g, s, c) of x and of what the cache holds.

        Args:
            x: (b, t, d).
            cache: the model's own cache, which is updated.
            rotation: of x.
            positions: of x, (b, t) or (1, t); needed where the cache keeps what is yet to be turned.
        """
        q, memory = self.projections.project(x)
        k, v = self.projections.recall(memory)
        q = self.turned(q, "q", rotation)
        if self.projections.design.keys_are_values is None:
            k = self.turned(k, "k", rotation)
            if cache is not None:
                k, v = cache.update(k, v, self.layer_idx)
            return q, *self._repeated(k, v)
        if cache is not None:
            v, places = cache.update(v, self._places(v, rotation, positions), self.layer_idx)
            if rotation is not None:
                rotation = self.rotation_at(x, places[:, 0, :, 0].long())
        return q, *self._repeated(self.turned(v, "k", rotation), v)

    def attended(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *, dropout: float, **more: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Run the model's attention function: what the heads brought, (b, t, h * c), and weights where it gives them.

        Args:
            q: (b, h, t, c).
            k: (b, g, s, c).
            v: likewise.
            mask: as the model makes it.
            dropout: while training.
            more: passed on.
        """
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

        own = self.of_model("eager_attention_forward")
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, own)
        more = {"scaling": self.scaling, "dropout": dropout if self.training else 0.0, **more}
        out, weights = attend(self, q, k, v, mask, **more)
        return out.flatten(-2).contiguous(), weights

    def of_model(self, name: str) -> Any:
        """Return a function that stands in the file of the model's own class."""
        own = next(c for c in type(self).__mro__ if c.__module__.startswith("transformers."))
        return getattr(sys.modules[own.__module__], name)

    def _places(self, kept: Tensor, rotation: Rotation | None, positions: Tensor | None) -> Tensor:
        # in the shape of values, because caches hold as many heads of both; no channel where nothing is turned
        if rotation is None:
            return kept[..., :0]
        assert positions is not None, "the model gave a rotation and a cache without positions"
        return positions.to(torch.int32)[:, None, :, None].expand(kept.shape[0], kept.shape[1], -1, 1)

    def _repeated(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        groups = self.projections.dims.heads // k.shape[1]
        if groups == 1 or hasattr(self, "num_key_value_groups"):  # then the attention function repeats heads itself
            return k, v
        return k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)


@cache
def mixed(family: type[Shared], own: type[nn.Module]) -> type[nn.Module]:
    """Return the class of a rebuilt module; still the model's own, by which transformers finds attention and more."""
    return type(f"Shared{own.__name__}", (family, own), {"__module__": __name__})


def _revive(family: type[Shared], own: type[nn.Module]) -> nn.Module:
    kind = mixed(family, own)
    return kind.__new__(kind)
