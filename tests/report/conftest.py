"""One report for all tests that only read it."""

import fabricated
import pytest

from qkvlab import report


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return fabricated.study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="session")
def written(folder):
    return report.write(folder)


@pytest.fixture(scope="session")
def page(written):
    return written.report.read_text("utf-8")
