import html
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from curator.wording import (
    at_least,
    confidence,
    duration,
    gibibytes,
    inert,
    model_name,
    number,
    page,
    percent,
    points,
    probability,
    rate,
    reach,
    these,
    visible,
)


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (percent(None), "not measured"),
        (percent(0.123), "12%"),
        (percent(0.004), "0.4%"),
        (percent(0.0), "0%"),
        (percent(0.9949), "99%"),
        (percent(0.995), "99.5%"),
        (percent(0.996), "99.6%"),
        (percent(0.99996), "99.9%"),  # rounded down: it is not all
        (percent(1.0), "100%"),
        (rate(0.99, 0.97, 0.998), "99% [97, 99.8]"),
        (confidence(0.05), "95%"),
        (confidence(0.0228), "97.7%"),
        (confidence(0.00022), "99.98%"),
        (confidence(1e-7), "99.99999%"),
        (confidence(0.0), "100%"),
        (confidence(None), "not measured"),
        (rate(0.12, 0.08, 0.17), "12% [8, 17]"),
        (rate(0.12, None, None), "12%"),
        (points(-0.0662), "-6.6"),
        (points(-0.0), "+0.0"),
        (points(-0.0001), "+0.0"),
        (points(None), "not measured"),
        (reach(-0.131, -0.002), "[-13.1, -0.2]"),
        (reach(None, 0.1), "not measured"),
        (probability(0.0004), "below 0.001"),
        (probability(0.0412), "0.041"),
        (at_least(0.99999), "99.9%"),
        (at_least(1.0), "100.0%"),
        (number(12345.0), "12,345"),
        (number(0.12345), "0.123"),
        (number(1891.4), "1,891"),
        (duration(3.21), "3.2 s"),
        (duration(3599.6), "1 h 0 min"),
        (duration(75), "1 min 15 s"),
        (duration(42.4), "42 s"),
        (duration(9.96), "10 s"),
        (duration(59.7), "1 min 0 s"),
        (duration(3600 * 117_878.2), "117,878 h"),
        (gibibytes(0.0663 * 2**30), "0.07 GiB"),
        (gibibytes(1.0), "0.01 GiB"),
        (gibibytes(2.51 * 2**30), "2.5 GiB"),
        (gibibytes(1234.4 * 2**30), "1,234 GiB"),
        (gibibytes(None), "not measured"),
        (model_name("sandbox:"), "the sandbox model"),
        (model_name("owner/name"), "owner/name"),
    ],
)
def test_figures_read_as_a_person_writes_them(found, told):
    assert found == told


@settings(deadline=None)
@given(st.floats(0, 1))
def test_what_is_proven_is_never_rounded_up(share):
    assert float(at_least(share)[:-1]) <= 100 * share + 1e-6


@settings(deadline=None)
@given(st.text(max_size=80))
def test_inert_text_comes_out_of_a_table_as_it_went_in(text):
    rendered = (
        MarkdownIt("commonmark", {"html": True})
        .enable("table")
        .render(f"| a | b |\n|---|---|\n| x{inert(text)}x | y |\n")
    )
    cells = re.findall(r"<td>(.*?)</td>", rendered, flags=re.S)
    assert [html.unescape(cell) for cell in cells] == [f"x{visible(text)}x", "y"]
    assert not re.search(r"<(?!/?(table|thead|tbody|tr|th|td)\b)", rendered)


@settings(deadline=None)
@given(st.text(max_size=80))
def test_visible_text_is_one_line_without_control_or_direction_marks(text):
    shown = visible(text)
    assert "\n" not in shown
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff]", shown)
    shown.encode()


@pytest.mark.parametrize("text", ["-__0__-", "__0__", "a_ _b", "\u0301__0__\u0301", "x___0___x", "_"])
def test_underscores_never_open_emphasis(text):
    rendered = MarkdownIt("commonmark").render(f"x{inert(text)}x and {inert(text)}")
    assert html.unescape(rendered) == f"<p>x{text}x and {text}</p>\n"


def test_plain_words_stay_readable():
    assert inert("drug_abuse, weapons (A/B) 50% - it's") == "drug_abuse, weapons (A/B) 50% - it's"


@pytest.mark.parametrize("text", ["https://evil.example", "www.evil.example", "a@evil.example", "[a](b)", "<a>", "$x$"])
def test_links_and_markup_are_taken_apart(text):
    assert html.unescape(inert(text)) == text != inert(text)


def test_long_text_is_cut():
    assert len(visible("y" * 5_000)) == 1000
    assert len(visible("y " * 500_000)) == 1000


def test_a_template_that_names_what_it_was_not_given_fails():
    import jinja2

    with pytest.raises(jinja2.UndefinedError):
        page("report", "report.md.j2")


def test_one_row_and_several_have_their_own_words() -> None:
    assert these(1, "row is", "rows are") == "1 row is"
    assert [these(n, "row is", "rows are") for n in (0, 2000)] == ["0 rows are", "2,000 rows are"]
