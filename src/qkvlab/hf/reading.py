"""How an attention module of a model makes q, k and v: what a family reads from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from qkvlab.contracts import Dims
from qkvlab.errors import BadInput

Role = Literal["q", "k", "v"]
ROLES: tuple[Role, ...] = ("q", "k", "v")


@dataclass(frozen=True, eq=False, kw_only=True)
class Reading:
    """Three matrices that stand to the right of x, and their sizes.

    Attributes:
        matrices: of each role, (d_model, heads * channels); k and v have kv_heads heads.
        biases: of each role that has one, (heads * channels,).
        dims: sizes of the layer.
        kv_heads: key heads, each of which serves heads // kv_heads neighbouring queries.
        rotary: channels of a head that are rotated, the first with the one half of them further, and so on.
    """

    matrices: Mapping[Role, Tensor]
    biases: Mapping[Role, Tensor]
    dims: Dims
    kv_heads: int
    rotary: int = 0

    @property
    def parameters(self) -> int:
        """Entries of the matrices and biases."""
        parts: list[Tensor] = [*self.matrices.values(), *self.biases.values()]
        return sum(part.numel() for part in parts)

    @property
    def cache_per_token(self) -> int:
        """Numbers that the model's own cache keeps of a token in this layer: its keys and its values."""
        return self.kv_heads * (self.dims.d_head + self.dims.d_value)


def plain(module: Any, name: str, kind: type[nn.Module] = nn.Linear) -> Any:
    """Return a projection, which must be a plain one.

    Raises:
        BadInput: its numbers are not its weights: it is quantized, or an adapter stands around it.
    """
    found: Any = getattr(module, name)
    if type(found) is not kind or not found.weight.dtype.is_floating_point:
        raise BadInput(
            f"{type(module).__name__}.{name} must be a plain {kind.__name__}; got {type(found).__name__}. "
            "Merge adapters into the weights and load the model without quantization first."
        )
    return found


def read_linears(module: Any, names: tuple[str, str, str], *, dims: Dims, kv_heads: int, rotary: int) -> Reading:
    """Read three `nn.Linear`, which store their matrices as rows of outputs."""
    linears: dict[Role, Any] = {role: plain(module, name) for role, name in zip(ROLES, names, strict=True)}
    return Reading(
        matrices={role: linear.weight.detach().T for role, linear in linears.items()},
        biases={role: linear.bias.detach() for role, linear in linears.items() if linear.bias is not None},
        dims=dims,
        kv_heads=kv_heads,
        rotary=rotary,
    )
