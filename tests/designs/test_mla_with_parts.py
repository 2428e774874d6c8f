"""Every part that stands behind a slash of some example combines with MLA, absorbed too, or is refused in words."""

import pytest
from plain_mla import EXACT, draw, layer_of

from qkvlab.designs import examples, parse
from qkvlab.designs.around import Around
from qkvlab.errors import BadInput
from qkvlab.testing import CHECKS, sizes

BASES = ("MLA11", "MLA10q7/rope4")
JUDGES = [
    check
    for check in CHECKS
    if check.__name__
    in ("refusals_name_the_numbers", "cache_equals_cost", "flops_equal_cost", "steps_equal_all_at_once")
]


def behind(design):
    """What stands behind the innermost design of a name."""
    inside = design
    while isinstance(inside, Around):
        inside = inside.inner
    return design.name[len(inside.name) :]


PARTS = sorted({behind(design) for design in examples().values()} - {""})


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("base", BASES)
def test_it_combines_or_refuses(base, part):
    refused = None
    try:
        design = parse(base + part)
        dims = sizes(design)
    except BadInput as refusal:
        refused = str(refusal)
    if refused is not None:
        assert "MLA" in refused and "\n" not in refused
        return
    for check in JUDGES:
        check(design)
    absorbed = design.absorbed()
    if absorbed is not None:
        of = {name: getattr(dims, name) for name in ("d_model", "heads", "d_head", "d_value")}
        plain = layer_of(design, **of)
        x, other = draw(2, 7, dims.d_model), layer_of(absorbed, plain, **of)
        assert (other(x, causal=True) - plain(x, causal=True)).abs().max() < EXACT["atol"]


def test_parts_were_found_and_some_are_absorbed():
    assert len(PARTS) > 10
    found = {part: parse(f"MLA11{part}").absorbed() for part in ("/noself", "/alibi", "/window3", "/bias", "/diff")}
    assert [part for part, absorbed in found.items() if absorbed is None] == ["/diff"]


@pytest.mark.parametrize(
    ("name", "biased"), [("MLA11", "q dkv"), ("MLA11/rope4", "q dkv qr kr"), ("MLA11q7/rope4", "dq dkv kr")]
)
def test_a_bias_stands_behind_each_product_with_x(name, biased):
    layer = layer_of(f"{name}/bias")
    found = {key.removesuffix("_bias") for key in layer.projections.weights if key.endswith("_bias")}
    assert found == set(biased.split())
