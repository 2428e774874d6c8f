"""In a real browser: the switch changes the language and is remembered, nothing complains, nothing is loaded."""

import shutil

import fabricated
import pytest
from playwright.sync_api import sync_playwright

from qkvlab import report


@pytest.fixture(scope="module")
def chromium():
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert found, "this test needs a browser: install chromium (apt-get install chromium)"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


def opened(browser, path, **how):
    page = browser.new_context(**how).new_page()
    page.complaints, page.requests = [], []
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("request", lambda request: page.requests.append(request.url))
    page.goto(path.as_uri())
    return page


def shown(page, selector="#answer"):
    return page.locator(selector).inner_text().strip()


def test_the_switch_changes_the_language_and_is_remembered(chromium, written):
    page = opened(chromium, written.report, locale="en-GB")
    assert shown(page) == "The short answer" and page.evaluate("document.documentElement.lang") == "en"
    page.get_by_text("中文", exact=True).click()
    assert shown(page) == "先说结论" and page.evaluate("document.documentElement.lang") == "zh"
    assert "研究" in page.title()
    assert page.locator("svg text[lang=en]").first.is_hidden()
    page.reload()
    assert shown(page) == "先说结论"
    page.locator("#show-zh").focus()
    page.keyboard.press("ArrowRight")  # by keyboard as well
    assert shown(page) == "The short answer"
    assert not page.complaints
    assert {url.split("#")[0] for url in page.requests} <= {written.report.as_uri(), "data:,"}


def test_it_starts_in_the_readers_language_or_in_the_reports(chromium, written, tmp_path):
    assert shown(opened(chromium, written.report, locale="zh-CN")) == "先说结论"
    chosen = report.write(fabricated.study(tmp_path), "zh").report
    assert shown(opened(chromium, chosen, locale="en-GB")) == "先说结论"


def test_without_scripts_one_language_shows_and_the_switch_works(chromium, written):
    page = opened(chromium, written.report, java_script_enabled=False)
    assert shown(page) == "The short answer"
    page.get_by_text("中文", exact=True).click()
    assert shown(page) == "先说结论"


def test_a_phone_scrolls_down_and_not_sideways(chromium, written):
    page = opened(chromium, written.report, viewport={"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_two_tasks_fit_a_phone_and_complain_of_nothing(chromium, tmp_path):
    two = report.write(fabricated.study_of_two_tasks(tmp_path)).report
    page = opened(chromium, two, viewport={"width": 360, "height": 740})
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert not page.complaints


def test_dark_is_dark_and_paper_is_light(chromium, written):
    page = opened(chromium, written.report, color_scheme="dark")
    assert _light(page) < 60
    page.emulate_media(media="print", color_scheme="dark")
    assert _light(page) > 200
    page.emulate_media(media="screen", color_scheme="light")
    assert _light(page) > 200


def test_a_hostile_name_runs_nothing(chromium, tmp_path):
    plan = fabricated.renamed(fabricated.registration(), "QQV", "<img src=x onerror=\"document.title='owned'\">")
    page = opened(chromium, report.write(fabricated.study(tmp_path, plan, models=False)).report)
    assert page.title() != "owned" and not page.complaints


def _light(page):
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(int(part) for part in colour.strip("rgb()").split(",")) / 3
