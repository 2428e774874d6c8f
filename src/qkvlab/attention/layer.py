"""The attention layer of any design: project, attend, mix the heads.

x (b, t, d)    memory: what `remember` kept of (b, s, d)    output (b, t, d)
"""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor, nn

from qkvlab.attention import core, interop, routes
from qkvlab.attention.cache import Cache
from qkvlab.attention.decoding import step
from qkvlab.attention.fitting import require_device, require_memory, require_tokens
from qkvlab.attention.known import Known
from qkvlab.attention.making import found, make
from qkvlab.attention.masks import Causal, require_positions, without_padding
from qkvlab.attention.packed import Lengths, attend_packed
from qkvlab.attention.ready import Preparation
from qkvlab.attention.routes import Route
from qkvlab.attention.scoring import Scoring
from qkvlab.attention.trace import Trace
from qkvlab.attention.visible import Visible, standing
from qkvlab.contracts import Dims, Memory
from qkvlab.designs import Design, parse
from qkvlab.errors import BadInput


class Attention(nn.Module):
    """softmax(q k^T / sqrt(d_head)) v per head, then W_O, where the design says how q, k and v are made.

    Parts of the design behind a slash may say more: positions, norms, windows, sinks (`qkvlab.designs`).

    Args:
        design: a design or its name, such as ``"QQV"``.
        d_model: width of x.
        heads: query heads.
        d_head: channels of a query or key; d_model / heads unless given.
        d_value: channels of a value; d_head unless given.
        route: ``fused`` runs `scaled_dot_product_attention`; ``plain`` runs matrix products, which is faster
            for sequences of a few dozen tokens and under `torch.func.vmap`; ``native`` compiles the layer's own kernel
            for the CPU, with the C++ compiler that is there. All agree to rounding.
        dropout: chance that a weight is dropped while training.

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
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if route not in get_args(Route):
            raise BadInput(f"route must be one of {', '.join(get_args(Route))}; got {route!r}.")
        if not isinstance(design, (str, Design)):
            raise BadInput(f"design must be a name such as 'QQV' or a Design; got {design!r}.")
        if not isinstance(dropout, (int, float)) or not 0 <= dropout < 1:
            raise BadInput(f"dropout must be at least 0 and below 1; got {dropout!r}.")
        self.design = parse(design) if isinstance(design, str) else design
        self.dims = self.design.sizes(Dims.of(d_model, heads, d_head, d_value))
        self.route = route
        self.dropout = dropout
        self.projections = self.design.build(self.dims)
        self.out = nn.Linear(self.dims.heads * self.dims.d_value, d_model, bias=self.design.out_bias)
        found(self.design, self.dims)  # once per design and sizes: here, and not in anybody's count or trace
        said = Scoring.of(self.design, self.dims, self.projections.weights)
        self._scoring = said if said.fusible else None  # which no weight can change
        self.preparation: Preparation | None = None
        self._known = Known()

    def forward(
        self,
        x: Tensor,
        memory: Memory | None = None,
        *,
        causal: Causal = False,
        padding: Tensor | None = None,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
        packed: Lengths | None = None,
    ) -> Tensor:
        """Attend from x to itself, or to a memory.

        Args:
            x: (b, t, d); with ``packed``, (total, d) or (1, total, d); or nested texts (b, any, d) of jagged layout.
            memory: what `remember` kept of other tokens (cross-attention); x itself when None.
            causal: each token sees itself and what stands before it; when t differs from s an alignment is
                named, ``"top-left"`` or ``"bottom-right"``.
            padding: lengths (b,) of the keys, or booleans (b, s), True for real tokens.
            mask: booleans that broadcast to (b, h, t, s), True where attention is allowed.
            positions: where the tokens of x stand, whole numbers (t,) or (b, t), or (total,) of packed or nested texts.
                Unless given they are 0, 1, 2, ... in each text; under ``"bottom-right"`` those of the last keys.
            packed: length of each text, whole numbers (b,), where texts stand in x one behind the other. Each attends
                to itself alone and nothing is padded. As a tuple they may be compiled.

        Returns:
            As x. Where nothing may be seen, exactly W_O times 0.

        Raises:
            BadInput: shapes or dtypes that do not fit.
        """
        alone = memory is None and padding is None and mask is None and positions is None and packed is None
        known = self._known.of(self, x, causal) if alone else None
        if known is not None:
            return self.join(known(*self._made(x)))
        if packed is not None or (isinstance(x, Tensor) and x.is_nested):
            other = {"memory": memory, "padding": padding, "mask": mask}
            return attend_packed(self, x, packed, causal, positions, other)
        made = self._look(x, memory, causal, padding, mask, positions, folds=True)
        if alone:
            self._known.keep(self, x, causal, *made)
        return self.join(routes.attend(self, *made))

    def trace(
        self,
        x: Tensor,
        memory: Memory | None = None,
        *,
        causal: Causal = False,
        padding: Tensor | None = None,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Trace:
        """Do what `forward` does by the explaining route, without dropout, and keep every step; no ``packed``."""
        q, k, v, visible, scoring = self._look(x, memory, causal, padding, mask, positions, folds=False)
        scores, weights = core.shares(q, k, visible, scoring)
        return Trace(q, k, v, scores, weights, self.join(core.mix(weights, v)), self)

    def remember(self, x: Tensor, positions: Tensor | None = None) -> Memory:
        """What this layer keeps of x, (b, s, d), for queries that come from elsewhere or later.

        Args:
            x: (b, s, d).
            positions: where its tokens stand, (s,) or (b, s); 0, 1, 2, ... unless given.
        """
        self.require_tokens(x, positions)
        return self.projections.remember(x, positions)

    def prepare(self) -> Attention:
        """Make calls faster, once and for all; returns the layer.

        Without gradients, a copy of the matrices is kept side by side. It is made anew when a parameter was written to;
        what is written through ``.data`` is not seen: call this again then. With and without gradients, the fast route
        takes the layer's own kernel where it is faster than PyTorch's and there is a C++ compiler, which needs two
        seconds when a machine meets a kind of numbers and channels for the first time. It has no second derivatives.
        """
        self.preparation = Preparation()
        return self

    @classmethod
    def from_torch(cls, module: nn.MultiheadAttention, route: Route = "fused") -> Attention:
        """Make the layer that computes what PyTorch's own does, from the same numbers; see `interop.from_torch`."""
        return interop.from_torch(cls, module, route)

    def to_torch(self, *, batch_first: bool = True) -> nn.MultiheadAttention:
        """Make PyTorch's own layer from these numbers, where it can hold them; see `interop.to_torch`."""
        return interop.to_torch(self, batch_first=batch_first)

    def new_cache(
        self, batch: int, max_tokens: int, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> Cache:
        """Make room for the tokens that `step` will bring; see `Cache`."""
        return Cache(self, batch, max_tokens, dtype, device)

    def step(self, x: Tensor, cache: Cache) -> Tensor:
        """Attend from the next tokens to all so far and to each other, causally; keep what later ones need, in place.

        Step by step it computes what `forward` computes with ``causal=True``, without dropout and without gradients.

        Args:
            x: (b, t, d), one token or many of each sequence.
            cache: of this layer, from `new_cache`; all its sequences have the same length.

        Returns:
            (b, t, d).

        Raises:
            BadInput: tokens or a cache that do not fit, or a cache without room for them.
        """
        return step(self, x, cache)

    def visible(
        self,
        shape: tuple[int, ...],
        device: torch.device,
        *,
        own: bool,
        causal: Causal = False,
        padding: Tensor | None = None,
        mask: Tensor | None = None,
        positions: tuple[Tensor | None, Tensor | None] = (None, None),
    ) -> Visible:
        """Join what the caller and the design say about who sees whom.

        Args:
            shape: of the scores, (b, h, t, s).
            device: of the masks.
            own: whether the keys are the queries' own tokens.
            causal: as in `forward`.
            padding: as in `forward`.
            mask: as in `forward`.
            positions: of queries and of keys.
        """
        return Visible(
            shape=shape,
            device=device,
            causal=causal,
            padding=padding,
            mask=mask,
            served=self.design.served(self.dims),
            window=self.design.window,
            itself=not own or self.design.sees_itself,
            asked=positions[0],
            kept=positions[1],
        )

    def _look(
        self,
        x: Tensor,
        memory: Memory | None,
        causal: Causal,
        padding: Tensor | None,
        mask: Tensor | None,
        positions: Tensor | None,
        *,
        folds: bool,
    ) -> tuple[Tensor, Tensor, Tensor, Visible, Scoring]:
        self.require_tokens(x, positions)
        require_device("padding", padding, x)
        require_device("mask", mask, x)
        scoring, at = self.scoring(), positions
        if memory is None and folds:
            q, k, v, scoring = self._made(x, positions)
        elif memory is None:
            q, kept = self.projections.project(x, positions)
            k, v = self.projections.recall(kept)
        else:
            require_memory(memory, x, self.design, self.dims)
            standing_at = standing(x.shape[-2], memory, causal) if positions is None else positions
            q, (k, v), at = self.projections.ask(x, standing_at), self.projections.recall(memory), memory.positions
            if at is not None or x.shape[-2] > k.shape[-2]:  # else `Visible` says the same without a tensor
                positions = standing_at
        shape = (*q.shape[:-1], k.shape[-2])
        visible = self.visible(
            shape, x.device, own=memory is None, causal=causal, padding=padding, mask=mask, positions=(positions, at)
        )
        return q, without_padding(k, padding), without_padding(v, padding), visible, scoring

    def _made(self, x: Tensor, positions: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Scoring]:
        # q, k, v and what is left of the scoring
        ready = None if self.preparation is None else self.preparation.of(self, x)
        if ready is not None:
            return ready.make(x, positions)
        once = self.preparation is not None and routes.takes_its_own(self)
        return make(self.design, self.dims, self.projections.weights, x, positions, self.scoring(), once=once)

    def scoring(self) -> Scoring:
        """Return how scores are made and shared out, with dropout while training."""
        dropout = self.dropout if self.training else 0.0
        if self._scoring is not None and not dropout:
            return self._scoring
        return Scoring.of(self.design, self.dims, self.projections.weights, dropout)

    def require_tokens(self, x: Tensor, positions: Tensor | None = None) -> None:
        """Refuse tokens or positions that do not fit this layer, by their shapes, dtypes and devices.

        Raises:
            BadInput: what came and what was expected.
        """
        require_tokens(x, self.dims, getattr(self.out, "weight", None))
        require_device("positions", positions, x)
        require_positions("tokens", x.shape[-2], positions, x.shape[:-2])

    def join(self, heads: Tensor, design: Design | None = None) -> Tensor:
        """Make the output (b, t, d) of what the heads brought, (b, h, t, e); of another form of the design if given."""
        return self.out(self.brought(heads, design))

    def brought(self, heads: Tensor, design: Design | None = None) -> Tensor:
        """Make what W_O is multiplied with, (b, t, h e), of what the heads brought."""
        finished = (design or self.design).finish(self.projections.weights, heads, self.dims)
        return finished.swapaxes(-3, -2).flatten(-2)
