"""Equal budgets: how wide the feed-forward part must be for a design to cost what the baseline QKV costs.

A design that drops a matrix of attention gets its numbers back as feed-forward width, layer by layer.
"""

from __future__ import annotations

from qkvlab.contracts import Dims
from qkvlab.designs import Design, parse
from qkvlab.tasks.task import Match, joining

REFERENCE = "QKV"


def hidden(design: Design, dims: Dims, width: int, match: Match) -> int:
    """Return the feed-forward width of a design.

    The feed-forward part of a layer has 2 d_model width entries and takes 4 d_model width FLOPs per token.

    Args:
        design: whose width is wanted.
        dims: sizes of the attention layer.
        width: feed-forward width of QKV.
        match: what is made equal, as nearly as whole channels allow.

    Raises:
        Refusal: the design cannot exist at these sizes.

    >>> hidden(parse("QQV"), Dims.of(64, 4), 128, "params")
    160
    """
    if match == "none":
        return width
    reference = parse(REFERENCE)
    mine, theirs = design.cost(dims), reference.cost(dims)
    if match == "params":
        joined = joining(reference, dims) - joining(design, dims)
        spare = (theirs.parameters - mine.parameters + joined) / (2 * dims.d_model)
    else:
        joined = joining(reference, dims, bias=False) - joining(design, dims, bias=False)
        spare = (theirs.flops_per_token - mine.flops_per_token + 2 * joined) / (4 * dims.d_model)
    return max(1, round(width + spare))
