"""Every page of docs/ runs, is there in two languages that say the same, and names what exists."""

import io
import re
import tokenize
from pathlib import Path

import pytest

from qkvlab.designs import catalogue, examples, famous, misread, parse
from qkvlab.designs.grammar import bases

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(path for path in DOCS.glob("*.md") if not path.name.endswith(".zh.md"))
LAYER = DOCS / "attention.md"
SHAPE = re.compile(r"#+|    |```|\||<!--|!\[|- |\d+\. ")


def twin(path):
    return path.with_name(f"{path.stem}.zh.md")


def blocks(path):
    return re.findall(r"```python\n(.*?)```", path.read_text("utf-8"), re.DOTALL)


def said(code):
    """What stands in the code beside comments and line breaks."""
    tokens = tokenize.generate_tokens(io.StringIO(code).readline)
    return [token.string for token in tokens if token.type not in (tokenize.COMMENT, tokenize.NL)]


def names(text):
    """Design names, and parts behind a slash, among what stands between backticks."""
    spans = re.findall(r"`([^`\n]+)`", text)
    yield from (
        span for span in spans if re.fullmatch(r"(?:[QX][A-Z]{2}|MLA[0-9]*(?:q[0-9]+)?)(?:/[a-z0-9.-]+)*", span)
    )
    yield from (f"QKK{span}" for span in spans if re.fullmatch(r"/[a-z][a-z0-9.-]*", span) and span != "/learned")


@pytest.mark.parametrize("path", [path for path in PAGES if blocks(path)], ids=lambda path: path.stem)
def test_python_blocks_of_a_page_run_from_top_to_bottom(path):
    page: dict[str, object] = {}
    for block in blocks(path):
        exec(compile(block, str(path), "exec"), page)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page_and_its_twin_have_the_same_shape_and_the_same_code(path):
    shapes = [
        [found[0] for line in page.read_text("utf-8").splitlines() if (found := SHAPE.match(line))]
        for page in (path, twin(path))
    ]
    assert shapes[0] == shapes[1]
    assert [said(block) for block in blocks(path)] == [said(block) for block in blocks(twin(path))]


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.md")), ids=lambda path: path.name)
def test_links_and_names_of_a_page_lead_somewhere(path):
    text = path.read_text("utf-8")
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)#]+)\)", prose):
        assert link.startswith("https://") or (DOCS / link).exists(), link
    for example in re.findall(r"`((?:examples|tests|src|benchmarks)/[^`]+)`", text):
        assert (DOCS.parent / example).exists(), example


@pytest.mark.parametrize("path", [LAYER, twin(LAYER)], ids=lambda path: path.name)
def test_the_page_of_the_layer_names_every_base_and_part_and_only_what_exists(path):
    text = path.read_text("utf-8")
    found = {parse(name) for name in names(text.replace("/window`", "/window3`"))}
    assert len(found) > 20
    pieces = {re.split("[0-9]", piece)[0] for piece in misread.pieces(examples().values())}
    written = {re.split("[0-9-]", span)[0] for span in re.findall(r"`/([a-z][^`]*)`", text)}
    assert pieces <= written
    for whole in catalogue():
        assert f"`{whole}`" in text or set(whole) <= set("QKVX"), whole
    assert len(bases()) == 1  # MLA: a new base needs a row of its own
    assert re.search("`MLA", text)
    assert "gqa" in famous()
