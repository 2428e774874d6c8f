"""Table, verdicts and figures beside the page."""

import csv
import itertools
import json
import math
import os
import xml.etree.ElementTree as ET

import fabricated
import pytest

from qkvlab import claims, report
from qkvlab.errors import StoreError
from qkvlab.report.repeat import command
from qkvlab.report.svg import Drawing, spread, text_width, wrap
from qkvlab.study import recipes
from qkvlab.study.registration import register

COLUMNS = "task,setting,design,role,seed,lr,metric,value,diverged,params,steps,seconds"


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_has_a_row_for_every_number(written):
    assert written.results.read_text("utf-8").splitlines()[0] == COLUMNS
    table, done = rows(written.results), fabricated.results(fabricated.registration())
    assert len(table) == sum(max(1, len(r.metrics)) for r in done)
    first = next(
        r for r in table if (r["design"], r["role"], r["seed"], r["metric"]) == ("QQV", "judge", "1000", "error")
    )
    same = next(r for r in done if (r.cell.design, r.cell.role, r.cell.seed) == ("QQV", "judge", 1000))
    assert float(first["value"]) == same.metrics["error"]
    assert (first["lr"], first["diverged"], first["steps"], first["seconds"]) == ("0.003", "false", "200", "0.125")
    assert int(first["params"]) == fabricated.registration()["tasks"][0]["arms"]["QQV"]["params"]


def test_a_run_that_diverged_is_in_the_table(written):
    lost = [row for row in rows(written.results) if row["diverged"] == "true"]
    assert len(lost) == 2 and all(row["value"] == "nan" and row["metric"] == "error" for row in lost)


@pytest.mark.parametrize("sign", "=+-@")
def test_names_are_no_formulas(tmp_path, sign):
    plan = fabricated.renamed(fabricated.registration(), "QQV", f'{sign}HYPERLINK("x","y")')
    table = rows(report.write(fabricated.study(tmp_path, plan, models=False)).results)
    assert {row["design"] for row in table} >= {f'\'{sign}HYPERLINK("x","y")', "QKV"}
    assert not any(value.startswith(sign) for row in table for name, value in row.items() if name != "value")


def test_verdicts_are_plain_json(written):
    document = json.loads(written.verdicts.read_text("utf-8"), parse_constant=lambda _: pytest.fail("NaN in JSON"))
    assert len(document["comparisons"]) == 12 and len(document["claims"]) == len(claims.catalogue())


def test_figures_stand_alone(written):
    names = {path.name for path in written.figures}
    kinds = ("verdicts", "intervals", "curves", "cost", "shelf-synonym-fixed")
    assert names == {f"{kind}.{lang}.svg" for kind in kinds for lang in ("zh", "en")}
    for path in written.figures:
        text = path.read_text("utf-8")
        root = ET.fromstring(text)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert "Noto Sans CJK SC" in text and "PingFang SC" in text and "Microsoft YaHei" in text
        assert "href" not in text and "url(" not in text and " id=" not in text
        said = "".join(root.itertext())
        assert ("同义词" in said) == (".zh." in path.name) and ("synonym" in said) == (".en." in path.name)
        for element in root.iter():
            for value in element.attrib.values():
                assert "nan" not in value and "inf" not in value


def test_equal_stores_give_equal_bytes(tmp_path, written):
    again = report.write(fabricated.study(tmp_path / "elsewhere"))
    for one, other in zip(_files(written), _files(again), strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name
    before = [path.read_bytes() for path in _files(again)]
    report.write(tmp_path / "elsewhere")
    assert [path.read_bytes() for path in _files(again)] == before


def test_nothing_half_written_stays(tmp_path):
    fabricated.study(tmp_path)
    (tmp_path / "report.html").mkdir()  # a file cannot take this place
    with pytest.raises(StoreError, match=r"cannot write .*report\.html"):
        report.write(tmp_path)
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".part")]


def test_no_study_no_report(tmp_path):
    with pytest.raises(StoreError, match="there is no study"):
        report.write(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_command_names_what_differs_from_the_recipe():
    spec = recipes.find("article")
    assert command(register(spec)) == "qkvlab study article --products fp32"
    other = spec.model_copy(update={"settings": ("synonym/fixed",), "delta": 0.1, "judge_seeds": 20})
    assert command(register(other)) == "qkvlab study article --settings synonym/fixed --seeds 20 --delta 0.1"


def test_labels_are_pushed_apart_and_stay_inside():
    found = spread([50, 50, 50, 99, 0], gap=10, low=0, high=100)
    assert sorted(found) == [0, 40, 50, 60, 99]
    crowded = sorted(spread([5.0] * 30, gap=10, low=0, high=100))
    assert math.isclose(crowded[0], 0) and math.isclose(crowded[-1], 100)
    assert all(b > a for a, b in itertools.pairwise(crowded))


@pytest.mark.parametrize(
    "text", ["只有 V 有矩阵，Q、K 直接用 x", "separate matrices for K and V; Q is x itself", "x" * 80, ""]
)
def test_wrapped_lines_fit(text):
    for line in wrap(text, 90, 10, 3):
        assert text_width(line, 10) <= 90
    assert len(wrap(text, 90, 10, 3)) <= 3


def test_a_picture_holds_no_more_than_its_shapes():
    drawing = Drawing(10, 10)
    drawing.text(1, 2, "<b>&\x00")
    drawing.path([(0, 0), (1.26, -0.04)], "mean")
    assert drawing.inside() == '<text x="1" y="2">&lt;b&gt;&amp;</text><path class="mean" d="M0 0L1.3 0"/>'


def _files(written):
    return [written.report, written.results, written.verdicts, *written.figures]
