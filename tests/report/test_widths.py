"""What was made equal is told in numbers: the feed-forward widths in a report are those of the trained models."""

from __future__ import annotations

from datetime import date

import pytest

from qkvlab import tasks
from qkvlab.designs import parse
from qkvlab.report.gather import look
from qkvlab.report.page import page
from qkvlab.study.decisions import Findings
from qkvlab.study.registration import register
from qkvlab.study.spec import make

DESIGNS = ("QKV", "QQV", "XXV", "QKK", "uniform")


@pytest.fixture(scope="module")
def study():
    spec = make(recipe="own", designs=DESIGNS, tasks=("sentence", "library"), match=("none", "params", "flops"))
    return look(Findings(register(spec)))


def test_widths_are_those_of_the_models(study):
    groups = [group for chapter in study.chapters for group in chapter.budgets]
    assert len(groups) == 1 and [setting.match for setting in groups[0]] == ["none", "params", "flops"]
    for setting in groups[0]:
        task = tasks.find(setting.key[0])
        for name in DESIGNS:
            real = task.model(setting.key[1], parse(name)).blocks[0].widen.out_features
            assert setting.width(name, groups[0][0]) == real
    assert groups[0][1].width("QQV", groups[0][0]) > groups[0][0].width("QQV", groups[0][0])


def test_the_page_shows_them(study):
    ((plain, params, _),) = [group for chapter in study.chapters for group in chapter.budgets]
    table = page(study, [], [], date(2026, 1, 1)).split('class="budgets"')[1].split("</table>")[0]
    for setting in (plain, params):
        assert f'<span lang="en">feed-forward </span>{setting.width("QQV", plain)}</small>' in table


def test_no_width_where_there_is_no_such_part(study):
    (library,) = [chapter for chapter in study.chapters if chapter.task == "library"]
    assert library.settings[0].width("QQV", library.settings[0]) is None
