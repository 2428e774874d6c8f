"""Products by a kernel of our own: as exact as PyTorch's, in every layout, model by model; compiled steps take them."""

import functools

import pytest
import torch
from test_steps import RUNS, SHORT, nothing_compiled  # noqa: F401

from qkvlab import designs
from qkvlab.kernels import kernel, product
from qkvlab.training import steps
from qkvlab.training.recipe import Run
from qkvlab.training.together import Together, train_compiled


@pytest.fixture(autouse=True)
def others_processor(monkeypatch):
    """A processor that MKL was not written for, whichever it is."""
    monkeypatch.setattr(kernel, "is_intel", lambda: False)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def as_it_lies(x):
    return x


def columns_first(x):
    """The same numbers, columns one behind the other."""
    return x.mT.contiguous().mT


def among_others(x):
    """The same numbers, every second of rows and columns of a larger matrix of NaN."""
    m, n, d = x.shape
    large = x.new_full((m, 2 * n, 3 * d), torch.nan)
    large[:, ::2, ::3] = x
    return large[:, ::2, ::3]


def models_inside(x):
    """The same numbers, models side by side in every row."""
    return x.transpose(0, 1).contiguous().transpose(0, 1)


def repeated(x):
    """One model for all."""
    return x[:1].expand(x.shape)


is_intel = kernel.is_intel.__wrapped__
LAYOUTS = [as_it_lies, columns_first, among_others, models_inside, repeated]
SIZES = [
    (3, 16, 16, 16),
    (2, 33, 7, 87),
    (2, 8, 1, 49),
    (1, 87, 300, 32),
    (2, 9, 129, 600),
    (2, 300, 64, 47),
    (1, 8, 513, 17),
]
"""Models, rows, depth, columns."""
TYPES = [torch.float32, torch.bfloat16]


def multiplied(a, b):
    torch.use_deterministic_algorithms(True)  # what nobody writes is NaN, not what lay there before
    try:
        return product.of(a, b)
    finally:
        torch.use_deterministic_algorithms(False)


def gap(a, b):
    """The error by that of PyTorch's product of the same numbers, and a rounding of the result in bf16."""
    exact = a.double() @ b.double()
    made, usual = multiplied(a, b), torch.bmm(a, b)
    assert made.shape == exact.shape and made.dtype == a.dtype and made.is_contiguous()
    least = exact.square().mean().sqrt() * 1e-9
    return ((made - exact).square().mean().sqrt() / ((usual - exact).square().mean().sqrt() + least)).item()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("right", LAYOUTS)
@pytest.mark.parametrize("left", LAYOUTS)
def test_products_are_pytorchs_in_every_layout(left, right, size, dtype):
    m, rows, depth, columns = size
    a, b = left(draw(m, rows, depth).to(dtype)), right(draw(m, depth, columns, seed=1).to(dtype))
    if not product.pays(a, b):  # of a type that this processor does not multiply, steps leave it to PyTorch
        assert dtype == torch.bfloat16
        return
    assert gap(a, b) < 2


@pytest.mark.parametrize("dtype", TYPES)
def test_long_sums_stay_exact(dtype):
    a, b = draw(2, 9, 20000).to(dtype), draw(2, 20000, 40, seed=1).to(dtype)
    assert not product.pays(a, b) or gap(a, b) < 2


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("worst", [torch.nan, torch.inf])
@pytest.mark.parametrize("left", LAYOUTS[:-1])
@pytest.mark.parametrize("right", LAYOUTS[:-1])
def test_what_is_not_finite_stays_in_its_model_and_row(left, right, worst, dtype):
    a, b = draw(3, 21, 87).to(dtype), draw(3, 87, 40, seed=1).to(dtype)
    if not product.pays(a, b):
        return
    spoilt = a.clone()
    spoilt[1, 4, 86] = worst
    made, clean = multiplied(left(spoilt), right(b)), multiplied(left(a), right(b))
    assert not made[1, 4].isfinite().any()
    made[1, 4] = clean[1, 4]
    assert torch.equal(made, clean)
    spoilt = b.clone()
    spoilt[1, 86, 39] = worst
    made = multiplied(left(a), right(spoilt))
    assert not made[1, :, 39].isfinite().any()
    made[1, :, 39] = clean[1, :, 39]
    assert torch.equal(made, clean)


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_share_models_and_rows(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for m, rows in ((5, 9), (1, 700), (2, 8)):
            assert gap(draw(m, rows, 100), columns_first(draw(m, 100, 90, seed=1))) < 2
    finally:
        torch.set_num_threads(before)


def test_others_are_left_to_pytorch():
    a, b = draw(2, 16, 16), draw(2, 16, 16, seed=1)
    assert product.pays(a, b)
    assert not product.pays(a.double(), b.double()) and not product.pays(a, b.bfloat16())
    assert not product.pays(a[:, :4], b) and not product.pays(a, b[..., :8]) and not product.pays(a[..., :0], b[:, :0])
    assert not product.pays(a.to("meta"), b.to("meta"))


def test_without_a_compiler_there_is_none(monkeypatch):
    monkeypatch.setattr(kernel, "compiler", lambda: None)
    monkeypatch.setattr(kernel, "works", functools.cache(kernel.works.__wrapped__))
    monkeypatch.setattr(kernel, "compiled", functools.cache(kernel.compiled.__wrapped__))
    assert not product.pays(draw(2, 16, 16), draw(2, 16, 16))
    made = train_compiled(SHORT, "plain", designs.parse("QKV"), RUNS[:2], unit=2)
    assert made.remark == "" and made.compiling > 0


PLANTED = {
    "a's strides are exchanged": ("a_step[1], a_step[2]", "a_step[2], a_step[1]"),
    "b's strides are exchanged": ("b_step[1], b_step[2]", "b_step[2], b_step[1]"),
    "all models are the first": ("a + m * a_step[0]", "a"),
    "the last rows are left out": ("(rows + R - 1) / R", "rows / R"),
    "the last columns are left out": ("(columns + L - 1) / L, panels", "columns / L, panels"),
    "the last columns of a panel are left out": ("v < WIDE - 1 ? L : place.have", "v < WIDE - 1 ? L : place.have - 1"),
    "sums end early": ("k < depth; k += N::DEPTH", "k < std::min(depth, N::DEPTH); k += N::DEPTH"),
    "parts of sums are forgotten": ("columns, have, k > 0,", "columns, have, false,"),
    "the last panels are left out": ("group < panels; group += PANELS", "group < 1; group += PANELS"),
    "a panel that does not lie so is not copied": ("b.right == 1 && panels == 1 && columns % L == 0", "panels == 1"),
    "turned columns are mixed up": ("x = low, y = high", "x = high, y = low"),
    "one long sum": ("DEPTH = 128", "DEPTH = 1 << 18"),
}


@pytest.fixture
def plant(monkeypatch, tmp_path):
    """Change a place of the kernel's source."""

    def planted(right, wrong):
        source = (kernel._FOLDER / "product.cpp").read_text()
        assert right in source
        (tmp_path / "product.cpp").write_text(source.replace(right, wrong))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setattr(kernel, "compiled", functools.cache(kernel.compiled.__wrapped__))
        monkeypatch.setattr(kernel, "works", functools.cache(kernel.works.__wrapped__))
        monkeypatch.setattr(kernel, "_FOLDER", tmp_path)
        monkeypatch.setattr(kernel, "_CALLED_BY_PROGRAMS", ())  # what programs call is the right one

    return planted


def looks():
    """Errors of a few products that meet every branch; the first ones are square, so that wrong strides stay inside."""
    yield gap(draw(2, 40, 40), draw(2, 40, 40, seed=1))
    for m, rows, depth, columns in ((2, 33, 140, 87), (2, 24, 20, 600), (2, 16, 32, 32)):
        a, b = draw(m, rows, depth), draw(m, depth, columns, seed=1)
        for left, right in ((as_it_lies, columns_first), (columns_first, as_it_lies), (among_others, among_others)):
            yield gap(left(a), right(b))
    yield gap(draw(1, 8, 200000), draw(1, 200000, 16, seed=1))


@pytest.mark.parametrize("bug", PLANTED)
def test_planted_bugs_are_seen(bug, plant):
    plant(*PLANTED[bug])
    assert not all(each < 2 for each in looks())  # NaN is caught, too


PLANTED_HALF = {
    "an odd number counts twice": ("if (deep < 2) return (V)one;", ""),
    "an odd number of a row has a neighbour": ("a.right != 1 || depth % P", "a.right != 1"),
    "parts of sums are not kept": ("if (place.last)", "if (true)"),
}


@pytest.mark.parametrize("bug", PLANTED_HALF)
def test_planted_bugs_in_bf16_are_seen(bug, plant):
    a, b = draw(2, 16, 87).bfloat16(), draw(2, 87, 40, seed=1).bfloat16()
    if not product.pays(a, b):
        return
    plant(*PLANTED_HALF[bug])
    a[0, 5], b[1, 0] = torch.inf, torch.inf  # what stands behind row 4, and behind the first model
    seen = [not multiplied(a, b)[0, :5].isfinite().all()]
    for depth in (87, 600):
        seen.append(not gap(draw(2, 16, depth).bfloat16(), draw(2, depth, 40, seed=1).bfloat16()) < 2)
    assert any(seen)


def test_shorter_vectors_compute_the_same(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(kernel, "_FLAGS", (*(flag for flag in kernel._FLAGS if "march" not in flag), "-march=haswell"))
    monkeypatch.setattr(kernel, "_CALLED_BY_PROGRAMS", ())
    monkeypatch.setattr(kernel, "compiled", functools.cache(kernel.compiled.__wrapped__))
    assert all(each < 2 for each in looks())
    assert not product.pays(draw(2, 16, 16).bfloat16(), draw(2, 16, 16).bfloat16())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_compiled_steps_take_it_and_are_the_plain_steps(precision, monkeypatch):
    called = []
    monkeypatch.setattr(product, "called", lambda made=product.called: called.append(1) or made())
    group = Together(SHORT, "plain", designs.parse("QKV"), RUNS[:2], compile=True, products=precision)
    own = product.pays(*(draw(2, 16, 16).to({"fp32": torch.float32, "bf16": torch.bfloat16}[precision]),) * 2)
    assert group.remark == "" and called == [1] * own and (own or precision == "bf16")
    given = group._given(0)
    gradients, losses = group.take(*given)
    want, others = steps.plain(group.skeleton, precision)(*given)
    room = {"fp32": 1e-5, "bf16": 0.03}[precision]
    torch.testing.assert_close(losses, others, rtol=room, atol=0)
    for part, gradient in want.items():
        assert float((gradients[part] - gradient).abs().max()) < room * float(gradient.abs().max())


def test_products_in_fp32_are_pytorchs_on_processors_of_intel(monkeypatch):
    a = draw(2, 16, 16)
    assert product.pays(a, a)
    monkeypatch.setattr(kernel, "is_intel", lambda: True)
    assert not product.pays(a, a)


@pytest.mark.parametrize(("told", "there"), [("GenuineIntel", True), ("AuthenticAMD", False)])
def test_processors_tell_who_made_them(told, there, monkeypatch, tmp_path):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nvendor_id\t: {told}\n")
    monkeypatch.setattr(kernel, "Path", lambda name: tmp_path / "cpuinfo")
    assert is_intel() is (there and torch.backends.mkl.is_available())


def test_a_model_that_diverged_disturbs_no_other():
    group = Together(SHORT, "plain", designs.parse("QKV"), [Run(0, 0.01), Run(1, 0.01)], compile=True)
    own, *rest = group._given(0)
    clean, _ = group.take(own, *rest)
    spoilt, _ = group.take({name: torch.stack([w[0] * torch.nan, w[1]]) for name, w in own.items()}, *rest)
    for name, gradient in clean.items():
        assert torch.equal(spoilt[name][1], gradient[1])
    assert any(gradient[0].isnan().all() for gradient in spoilt.values())


def test_another_process_finds_the_program_that_one_compiled():
    declared = product.called()["aot_inductor.custom_ops_to_c_shims"]
    assert torch.ops.qkvlab.product.default in declared
    made, (told,) = declared.__reduce__()
    assert [*made(told)] == ["qkvlab.product.default"], "ops cannot be written down"


def test_the_gradient_of_gelu_is_pytorchs():
    x, slope = torch.cat([torch.linspace(-12, 12, 10001), draw(1000)]), draw(11001, seed=1)
    exact = torch.ops.aten.gelu_backward(slope.double(), x.double())
    assert float((steps._gelu_backward(slope, x) - exact).abs().max()) < 1e-6
    half = steps._gelu_backward(slope.bfloat16(), x.bfloat16())
    torch.testing.assert_close(half, torch.ops.aten.gelu_backward(slope.bfloat16(), x.bfloat16()), rtol=0.01, atol=1e-3)
    for worst in (torch.nan, torch.inf):
        assert steps._gelu_backward(torch.ones(1), torch.full((1,), worst)).isnan().all()
