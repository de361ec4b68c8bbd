"""Personal data in texts: a set of patterns, or Presidio if it is installed and chosen.

Patterns find data with a fixed format. Names, and addresses in prose, have none; Presidio can find those (`pip install
-c constraints.txt ".[personal-data]"`).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator

import polars as pl

from curator.errors import DataError
from curator.pool.screen import Finding, finding
from curator.records import Conversations
from curator.wording import these

Found = Callable[[str], set[str]]
"""A text -> the kinds of personal data in it."""

_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[a-z0-9-]{1,63}\.)+[a-z]{2,24}(?![\w@])", re.IGNORECASE)
# A leading +, or brackets or separators: bare runs of digits are mostly not phone numbers.
_PHONE = re.compile(
    r"(?<![\w.,$€£#/-])(?<!\d{3} )(?:"
    r"\+\d{1,3}[ .\-]?(?:\(0?\d{1,4}\)[ .\-]?)?\d{1,5}(?:[ .\-]?\d{2,5}){1,4}"
    r"|\(\d{3}\)[ .\-]?\d{3}[ .\-]\d{4}"
    r"|(?:1[ .\-])?\d{3}([ .\-])\d{3}\1\d{4}"
    r"|0\d{2,4}[ /\-]\d{3,4}[ \-]?\d{3,4}"
    r")(?![\w/]|[.,-]\d| \d{3})"
)
_IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)")
_CARD = re.compile(r"(?<![\w.-])(?:\d[ -]?){12,18}\d(?![\w-]|\.\d)")
_SOCIAL = re.compile(r"(?<![\w-])(?!000|666|9\d\d)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])")
_ADDRESS = re.compile(r"(?<![\w.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\w.]\d|\d)")


def patterns(text: str) -> set[str]:
    """Kinds of personal data in a text, by patterns: e-mail, phone, IBAN, card, social security number, IP address."""
    return set(_kinds(text))


def _kinds(text: str) -> Iterator[str]:
    if "@" in text and _EMAIL.search(text):
        yield "e-mail"
    if not any(sign.isdigit() for sign in text):
        return
    if any(7 <= _digits(match[0]) <= 15 for match in _PHONE.finditer(text)):
        yield "phone"
    if any(_is_iban(match[0]) for match in _IBAN.finditer(text)):
        yield "IBAN"
    if any(_is_card(match[0]) for match in _CARD.finditer(text)):
        yield "card"
    if _SOCIAL.search(text):
        yield "social security number"
    if any(match[0] not in ("0.0.0.0", "127.0.0.1", "255.255.255.255") for match in _ADDRESS.finditer(text)):
        yield "IP address"


def _digits(text: str) -> int:
    return sum(sign.isdigit() for sign in text)


def _is_iban(text: str) -> bool:
    account = text.replace(" ", "")
    if not 15 <= len(account) <= 34:
        return False
    return int("".join(str(int(sign, 36)) for sign in account[4:] + account[:4])) % 97 == 1


def _is_card(text: str) -> bool:
    digits = [int(sign) for sign in text if sign.isdigit()]
    if not 13 <= len(digits) <= 19 or len(set(digits)) == 1:
        return False
    doubled = [
        2 * digit - 9 * (digit > 4) if position % 2 else digit for position, digit in enumerate(reversed(digits))
    ]
    return sum(doubled) % 10 == 0


def presidio() -> Found:
    """A function from a text to the kinds of personal data that Presidio's analyser finds in it, read as English.

    Raises:
        DataError: Presidio or its language model is not installed.
    """
    try:
        from presidio_analyzer import AnalyzerEngine

        engine = AnalyzerEngine()
    except (ImportError, OSError) as error:
        raise DataError(
            f'presidio: not usable ({error}); run: pip install -c constraints.txt ".[personal-data]", and install the '
            "spaCy model that it names, or omit --presidio to use patterns"
        ) from error
    return lambda text: {entity.entity_type.lower() for entity in engine.analyze(text, language="en")}


def personal(rows: pl.DataFrame, find: Found = patterns) -> list[Finding]:
    """Rows with personal data in any turn, a finding for each kind."""
    ids: dict[str, list[str]] = defaultdict(list)
    for row, messages in zip(rows["id"], Conversations(rows), strict=True):
        for kind in {kind for turn in messages for kind in find(turn["content"])}:
            ids[kind].append(row)
    findings = []
    for kind, row_ids in sorted(ids.items()):
        what = f"{these(len(row_ids), 'row contains', 'rows contain')} what looks like personal data: {kind}."
        advice = "Read the rows, and replace data of real people before training or publishing."
        findings.append(finding("personal-data", "warning", row_ids, rows.height, what=what, advice=advice))
    return findings
