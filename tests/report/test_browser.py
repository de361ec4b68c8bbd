"""The pages of runs, audits and suites in a real browser: headless Chromium (Debian packages chromium and
chromium-driver) through selenium.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import time
from pathlib import Path

import pytest

from curator.corpus.model import Audit
from curator.corpus.page import html as audit_page
from curator.report.frontier import frontier_of
from curator.report.html import Example, Sample, webpage
from curator.selection.composition import Composition
from curator.selection.floor import frontier_frame
from curator.selection.frontier import frontier
from curator.selection.limits import limits
from curator.selection.problem import prepare
from curator.suite.page import html as suite_page
from tests.report.invented import invent
from tests.report.test_figures import of
from tests.suite.test_suite_page import suite

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        BROWSER is None or DRIVER is None,
        reason="chromium and chromedriver (Debian: chromium-driver) are not installed",
    ),
]
ATTACK = (
    "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"
    "\"><svg onload=window.hacked=3></textarea></style></script>{{ 7 * 7 }}\u202e=cmd|'/c calc'!A0"
)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of a run in which everything foreign attacks."""
    odd = invent(categories=(ATTACK, "plain", "-1+1"), probe_categories=(ATTACK, "kings"))
    problem = prepare(odd.vectors.matrix, odd.scores.combined, ids=odd.vectors.ids, neighbours=12)
    points = frontier_frame(frontier(problem, limits(problem, len(odd.selection.ids)), odd.selection))
    kinds = {"refusals": 0.7, "unjudged": 0.0, "top_answer": 0.2, "top_opener": 0.2, "formats": {ATTACK: 0.5, "-": 0.5}}
    counts = dict.fromkeys(("rows", "answers", "openers", "openers_by_chance", "words", "categories"), 9.0)
    rest = {"category_entropy": 1.0, "similarity": 0.1, "coverage": 0.5}
    sets = [Composition(set=name, **kinds, **counts, **rest) for name in ("pool", "curated", "random")]
    report = odd.report(
        name="attacked", warnings=[ATTACK], frontier=frontier_of(odd.selection, points), composition=sets
    )
    turns = (("user", ATTACK), ("assistant", ATTACK * 100))
    chosen = [Sample(0, "ab", ATTACK, ATTACK, 0.5, 0.1, turns)]
    answers = [Example("p", ATTACK, "list", 0, turns, (("curated", "after", ATTACK, "harmful"),))]
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(webpage(report, of(odd), chosen=chosen, answers=answers), encoding="utf-8")
    return path, report


@pytest.fixture(scope="module")
def pages(page, tmp_path_factory):
    """A page of each kind, with everything on it, in which what is foreign attacks."""
    folder = tmp_path_factory.mktemp("pages")
    whole, measured = (
        json.loads((Path(__file__).parents[1] / "golden" / "reports" / f"{name}.json").read_text())
        for name in ("audit", "audit-measured")
    )
    whole |= {"measured": measured["measured"], "not_made": measured["not_made"], "licences": {ATTACK: 60}}
    whole["corpus"]["label"] = ATTACK
    whole["findings"][0]["what"] = ATTACK
    (folder / "audit.html").write_text(audit_page(Audit.model_validate(whole)), encoding="utf-8")
    (folder / "suite.html").write_text(suite_page(suite(reason=ATTACK)), encoding="utf-8")
    return {"report": page[0], "audit": folder / "audit.html", "suite": folder / "suite.html"}


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options=options, service=Service(DRIVER))
    found.downloads = tmp_path_factory.mktemp("downloads")
    behaviour = {"behavior": "allow", "downloadPath": str(found.downloads)}
    found.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)
    yield found
    found.quit()


def sized(driver, width, *, dark=False):
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


@pytest.fixture
def opened(driver, page):
    """The browser with the page loaded and every part of it opened."""
    sized(driver, 1200)
    driver.get_log("browser")
    driver.get(page[0].as_uri())
    driver.execute_script("for (const one of document.querySelectorAll('details')) one.open = true")
    return driver


@pytest.fixture(params=["report", "audit", "suite"])
def each(request, driver, pages):
    """The browser with a page loaded and every part of it opened; the pages one after the other."""
    sized(driver, 1200)
    driver.get_log("browser")
    driver.get(pages[request.param].as_uri())
    driver.execute_script("for (const one of document.querySelectorAll('details')) one.open = true")
    return driver


def js(driver, code, *args):
    return driver.execute_script(f"return {code}", *args)


def column(driver, table, place):
    rows = f"[...document.querySelectorAll('table[data-name={table}] tbody tr')]"
    return js(driver, f"{rows}.map((row) => row.cells[{place}].textContent)")


def click(driver, selector):
    driver.execute_script("document.querySelector(arguments[0]).click()", selector)


def test_the_console_stays_silent_and_the_script_has_run(each):
    assert each.get_log("browser") == []
    assert js(each, "document.body.dataset.ready") == "yes"
    assert js(each, "window.hacked") is None


def test_hostile_text_stays_text(opened):
    assert js(opened, "window.hacked") is None
    assert js(opened, "document.querySelectorAll('script').length") == 1
    assert js(opened, "document.querySelectorAll('img, iframe, object, embed, form').length") == 0
    shown = js(opened, "document.querySelector('#texts').innerText")
    assert "<script>window.hacked = 1</script>" in shown
    assert "{{ 7 * 7 }}" in shown
    assert "\u202e" not in js(opened, "document.documentElement.textContent")


def test_a_script_that_was_slipped_in_would_not_run(opened):
    """The content policy itself holds, whatever the template does."""
    opened.execute_script(
        "document.body.insertAdjacentHTML('beforeend', '<b onclick=\"window.hacked = 4\" id=\"b\">x</b>');"
        "document.querySelector('#b').click()"
    )
    assert js(opened, "window.hacked") is None
    assert any("Content Security Policy" in one["message"] for one in opened.get_log("browser"))


def test_every_figure_is_drawn_and_has_a_size(opened):
    boxes = js(
        opened,
        "[...document.querySelectorAll('[role=img]')].map((one) => [one.getAttribute('aria-label'), "
        "one.getBoundingClientRect().width, one.getBoundingClientRect().height, "
        "one.querySelectorAll('circle, rect, polyline, polygon').length])",
    )
    assert len(boxes) >= 11
    for label, width, height, shapes in boxes:
        assert width > 300, label
        assert height > 40, label
        assert shapes > 0, label


def test_tables_sort_by_number_and_by_word_both_ways(opened, page):
    head = "table[data-name=comparisons] th:nth-child({}) button"
    shown = [one.difference for one in page[1].comparisons if one.difference is not None]
    differences = {f"{round(100 * one, 1) + 0.0:+.1f}": one for one in shown}
    click(opened, head.format(6))
    falling = [differences[one] for one in column(opened, "comparisons", 5)]
    assert falling == sorted(falling, reverse=True)
    assert len(set(falling)) > 3
    click(opened, head.format(6))
    rising = [differences[one] for one in column(opened, "comparisons", 5)]
    assert rising == sorted(rising)
    assert js(opened, "document.querySelector('table[data-name=comparisons] th:nth-child(6)').ariaSort") == "ascending"
    click(opened, head.format(1))
    names = column(opened, "comparisons", 0)
    expected = js(opened, "arguments[0].toSorted((a, b) => a.localeCompare(b))", names)
    assert names == expected != expected[::-1]
    click(opened, head.format(1))
    assert column(opened, "comparisons", 0) == expected[::-1]
    click(opened, head.format(1))
    assert column(opened, "comparisons", 0) == expected
    holm = head.format(10)
    click(opened, holm)
    assert column(opened, "comparisons", 9)[-1] == "not measured", "what is unknown stays at the end"
    click(opened, holm)
    assert column(opened, "comparisons", 9)[-1] == "not measured"


def downloaded(driver, table):
    path = driver.downloads / f"attacked-{table}.csv"
    path.unlink(missing_ok=True)
    click(driver, f"button[data-csv={table}]")
    for _ in range(100):
        if path.exists() and path.stat().st_size:
            return list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")))
        time.sleep(0.05)
    raise AssertionError(f"{path} did not appear; there is {list(driver.downloads.iterdir())}")


def test_a_table_is_taken_away_as_csv_with_its_numbers_unrounded(opened, page):
    head, *rows = downloaded(opened, "gates")
    assert head == ["gate", "outcome", "cost", "low", "high", "allowed"]
    assert [float(row[2]) for row in rows] == [gate.cost for gate in page[1].gates]


def test_a_spreadsheet_computes_nothing_of_it(opened):
    head, *rows = downloaded(opened, "categories")
    assert len(head) == len(rows[0])
    assert {row[0] for row in rows} >= {"plain", "'-1+1"}
    assert not [cell for row in rows for cell in row if cell[:1] in "=+@" and cell]


# Of every element with text of its own that is to be seen: its words, their colour, and what they stand on.
COLOURS = """(() => {
  const found = [];
  for (const one of document.body.querySelectorAll("*:not(script)")) {
    const own = [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    const box = one.getBoundingClientRect();
    if (!own || !box.width || !box.height || one.className === "skip") continue;
    let under = one;
    while (getComputedStyle(under).backgroundColor === "rgba(0, 0, 0, 0)") under = under.parentElement;
    const style = getComputedStyle(one);
    const ink = one.ownerSVGElement ? style.fill : style.color;
    found.push([one.textContent.slice(0, 30), ink, getComputedStyle(under).backgroundColor]);
  }
  return found;
})()"""


def luminance(colour):
    channels = [int(one) / 255 for one in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [one / 12.92 if one <= 0.03928 else ((one + 0.055) / 1.055) ** 2.4 for one in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_has_contrast_in_light_and_dark(each, dark):
    """WCAG AA: 4.5 to 1 for text."""
    sized(each, 1200, dark=dark)
    found = js(each, COLOURS)
    assert len(found) > 100
    for text, ink, under in found:
        high, low = sorted((luminance(ink), luminance(under)), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, (text, ink, under)
    assert (luminance(js(each, "getComputedStyle(document.body).backgroundColor")) < 0.1) is dark


def test_the_button_turns_light_to_dark_and_back(opened):
    def under():
        return luminance(js(opened, "getComputedStyle(document.body).backgroundColor"))

    light = under()
    click(opened, "#theme")
    assert under() < 0.1 < light
    click(opened, "#theme")
    assert under() == light


def test_it_fits_a_phone(each):
    sized(each, 390)
    assert js(each, "document.documentElement.scrollWidth") <= 390
    beyond = "(one) => !one.closest('.scroll, nav, pre, .skip') && one.getBoundingClientRect().right > 391"
    assert js(each, f"[...document.querySelectorAll('body *')].filter({beyond}).map((one) => one.outerHTML)") == []
    sizes = js(each, "[...document.querySelectorAll('svg text')].map((one) => one.getBoundingClientRect().height)")
    assert min(sizes) >= 9, "text in figures does not shrink with the screen"


def test_everything_is_reached_with_the_keyboard(opened):
    from selenium.webdriver.common.keys import Keys

    opened.execute_script(
        "for (const one of document.querySelectorAll('details')) one.open = false; document.activeElement.blur()"
    )
    opened.switch_to.active_element.send_keys(Keys.TAB)
    assert js(opened, "document.activeElement.className") == "skip"
    opened.execute_script("document.querySelector('#costs summary').focus()")
    opened.switch_to.active_element.send_keys(Keys.ENTER)
    assert js(opened, "document.querySelector('#costs details').open")
    opened.switch_to.active_element.send_keys(Keys.TAB)
    assert js(opened, "document.activeElement.dataset.csv") == "gates"
    opened.switch_to.active_element.send_keys(Keys.TAB, Keys.TAB)
    opened.switch_to.active_element.send_keys(Keys.ENTER)
    assert js(opened, "document.activeElement.closest('th').ariaSort") == "ascending"


# Every element that takes the focus, once, in the order in which it does.
WATCH = """
window.seen = [];
document.addEventListener("focusin", (event) => window.seen.push(event.target));
document.activeElement.blur();
"""
CONTROLS = "[...document.querySelectorAll('a[href], button, summary, [tabindex=\"0\"]')]"


def test_every_control_is_reached_with_tab(each):
    from selenium.webdriver.common.keys import Keys

    each.execute_script(WATCH)
    count = js(each, f"{CONTROLS}.length")
    assert count > 30
    each.switch_to.active_element.send_keys(Keys.TAB * (count + 2))
    missed = js(each, f"{CONTROLS}.filter((one) => !window.seen.includes(one)).map((one) => one.outerHTML)")
    assert missed == []
    assert js(each, f"{CONTROLS}.filter((one) => !one.textContent.trim() && !one.ariaLabel).length") == 0


def test_text_and_figures_share_one_measure(each):
    """Text is not narrower than the figures and tables between it."""
    widths = js(
        each,
        "[...document.querySelectorAll('main > * > p, main > * > figure, main > * > details')]"
        ".map((one) => Math.round(one.getBoundingClientRect().width))",
    )
    assert len(widths) > 10
    assert len(set(widths)) == 1


def test_without_scripts_all_of_it_is_still_there(page, driver):
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        driver.get(page[0].as_uri())
        html = driver.page_source
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert 'data-ready="yes"' not in html
    assert html.count("<table") >= 14
    assert html.count('role="img"') >= 11
