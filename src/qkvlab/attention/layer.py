"""The attention layer of any design: project, attend, mix the heads.

x (b, t, d)    memory: what `remember` kept of (b, s, d)    output (b, t, d)
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from qkvlab.attention import core
from qkvlab.attention.masks import Causal, combine, padding_mask, without_self
from qkvlab.attention.trace import Trace
from qkvlab.contracts import Dims, Memory
from qkvlab.designs import Design, parse
from qkvlab.errors import BadInput

Route = Literal["fused", "plain"]


class Attention(nn.Module):
    """softmax(q k^T / sqrt(d_head)) v per head, then W_O, where the design says how q, k and v are made.

    Args:
        design: a design or its name, such as ``"QQV"``.
        d_model: width of x.
        heads: query heads.
        d_head: channels of a query or key; d_model / heads unless given.
        d_value: channels of a value; d_head unless given.
        route: ``fused`` runs `scaled_dot_product_attention`; ``plain`` runs matrix products, which is faster
            for sequences of a few dozen tokens and under `torch.func.vmap`. Both agree to rounding.

    Raises:
        BadInput: an unknown design or sizes that cannot be meant.
        Refusal: the design cannot exist at these sizes.

    >>> import torch
    >>> attn = Attention("QQV", d_model=16, heads=2)
    >>> attn(torch.ones(1, 3, 16), causal=True).shape
    torch.Size([1, 3, 16])
    """

    def __init__(
        self,
        design: str | Design,
        *,
        d_model: int,
        heads: int = 1,
        d_head: int | None = None,
        d_value: int | None = None,
        route: Route = "fused",
    ) -> None:
        super().__init__()
        if route not in ("fused", "plain"):
            raise BadInput(f"route must be 'fused' or 'plain'; got {route!r}.")
        if not isinstance(design, (str, Design)):
            raise BadInput(f"design must be a name such as 'QQV' or a Design; got {design!r}.")
        self.design = parse(design) if isinstance(design, str) else design
        self.dims = self.design.sizes(Dims.of(d_model, heads, d_head, d_value))
        self.route = route
        self.projections = self.design.build(self.dims)
        self.out = nn.Linear(self.dims.heads * self.dims.d_value, d_model, bias=False)

    def forward(
        self,
        x: Tensor,
        memory: Memory | None = None,
        *,
        causal: Causal = False,
        padding: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Attend from x to itself, or to a memory.

        Args:
            x: (b, t, d).
            memory: what `remember` kept of other tokens (cross-attention); x itself when None.
            causal: each token sees itself and what stands before it; when t differs from s an alignment is
                named, ``"top-left"`` or ``"bottom-right"``.
            padding: lengths (b,) of the keys, or booleans (b, s), True for real tokens.
            mask: booleans that broadcast to (b, h, t, s), True where attention is allowed.

        Returns:
            (b, t, d). Where nothing may be seen, exactly W_O times 0.

        Raises:
            BadInput: shapes or dtypes that do not fit.
        """
        q, k, v = self._qkv(x, memory)
        alone = memory is None and not self.design.sees_itself
        bare_causal = causal is True and q.shape[-2] == k.shape[-2] and padding is None and mask is None
        if self.route == "fused" and bare_causal and not alone:
            return self._join(core.attend_fused(q, k, v, square_causal=True))
        shape = (*q.shape[:-1], k.shape[-2])
        allowed = combine(shape, causal=causal, padding=padding, mask=mask, device=x.device)
        allowed = without_self(allowed, shape[-1], x.device) if alone else allowed
        k, v = _without_padding(k, padding), _without_padding(v, padding)
        if self.route == "fused":
            return self._join(core.attend_fused(q, k, v, allowed))
        # no mask of the caller's, and the causal one leaves every token at least one key
        all_see = padding is None and mask is None and causal != "bottom-right"
        return self._join(core.attend(q, k, v, allowed, all_see=all_see))

    def trace(
        self,
        x: Tensor,
        memory: Memory | None = None,
        *,
        causal: Causal = False,
        padding: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Trace:
        """Do what `forward` does by the explaining route and keep every step; same arguments."""
        q, k, v = self._qkv(x, memory)
        shape = (*q.shape[:-1], k.shape[-2])
        allowed = combine(shape, causal=causal, padding=padding, mask=mask, device=x.device)
        if memory is None and not self.design.sees_itself:
            allowed = without_self(allowed, shape[-1], x.device)
        k, v = _without_padding(k, padding), _without_padding(v, padding)
        scores = core.scaled_scores(q, k)
        weights = core.softmax_allowed(scores, allowed)
        return Trace(q, k, v, scores, weights, self._join(core.mix(weights, v)))

    def remember(self, x: Tensor) -> Memory:
        """What this layer keeps of x, (b, s, d), for queries that come from elsewhere or later."""
        self._check(x)
        return self.projections.remember(x)

    def _qkv(self, x: Tensor, memory: Memory | None) -> tuple[Tensor, Tensor, Tensor]:
        self._check(x)
        if memory is None:
            q, memory = self.projections.project(x)
        else:
            q = self.projections.ask(x)
        return q, *self.projections.recall(memory)

    def _check(self, x: Tensor) -> None:
        if x.ndim < 2 or x.shape[-1] != self.dims.d_model:
            raise BadInput(f"x must be (batch, tokens, d_model={self.dims.d_model}); got {tuple(x.shape)}.")

    def _join(self, heads: Tensor) -> Tensor:
        return self.out(heads.swapaxes(-3, -2).flatten(-2))


def _without_padding(x: Tensor, padding: Tensor | None) -> Tensor:
    # 0 x NaN is NaN: what stands in padding must not reach the sum even with weight 0
    if padding is None:
        return x
    real = padding_mask(x.shape[-2], padding).swapaxes(-2, -1)
    return x.masked_fill(~real, 0.0)
