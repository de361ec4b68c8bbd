"""The words of a text in any script, and the language that it is in.

Words are segmented by Unicode properties, and in scripts without spaces by ICU's dictionaries. The language comes from
py3langid's model: naive Bayes over byte sequences, included in its package, without network.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import Any

import regex
from icu4py.breakers import WordBreaker

SURE = 0.5
"""The least probability at which a text of Latin letters has a language. Names, formulas, code and invented words stay
below it. It does not apply to other scripts, in which little else is written.
"""
SIGNS = 2000
"""Number of characters of a text that are read."""
_LEFT_OUT = {"an", "bs", "ms", "nn", "vo"}
"""Languages that the model cannot distinguish from es, hr, id and no; and Volapuk."""

BEGINNING, LEAST_WORDS, DOUBT = 400, 4, 0.001
"""Criteria for texts that are certainly not English; see `surely_not_english`."""
_LETTER = regex.compile(r"\p{L}")
_EUROPEAN = regex.compile(r"[\p{Latin}\p{Greek}]")
_WORDS = regex.compile(r"\p{L}[\p{L}\p{M}]+")

# Scripts that are written without spaces, and whose words ICU knows from dictionaries.
_UNSPACED = r"[[\p{Han}\p{Hiragana}\p{Katakana}\u30fc\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]&&[\p{L}\p{N}\p{M}]]"


def _rule(first: str, more: str, operators: str) -> str:
    return (
        rf"{first}{more}*(?:[+#]++(?!{first}))?"  # a word and its symbols: C++, C#
        rf"|!?[{operators}]+"
        rf"|(?<!{more})(?<!\.)[-.!](?={first})"  # -5, .NET, !x; not well-known, 3.5, U.S., wait...then
        rf"|(?<={more})\*+(?={first})|(?<={more} )\*+(?= )"  # 2*3, 2 * 3; not **bold** and not * item
    )


_OPERATORS = r"#%&@/\\^<=>+$|\~"

# On pure ASCII both give the same result; the first takes half the time.
_ASCII = re.compile(_rule("[a-z0-9]", "[a-z0-9]", _OPERATORS))
_ANY = regex.compile(
    rf"{_UNSPACED}[{_UNSPACED}\p{{M}}]*|"
    + _rule(
        rf"[[\p{{L}}\p{{N}}]--{_UNSPACED}]",
        rf"[[\p{{L}}\p{{N}}\p{{M}}]--{_UNSPACED}]",
        rf"{_OPERATORS}\p{{Sm}}\u066a\u2030\u2031",
    )
    + r"|[\p{Sc}\p{So}\U0001f3fb-\U0001f3ff]",  # currency and emoji
    regex.V1,
)
_RUN = regex.compile(_UNSPACED, regex.V1)
_MEANINGFUL = ("<super>", "<sub>", "<fraction>")
_AM = "\u0e33\u0eb3"  # Thai and Lao AM: decomposed, their words are in no dictionary


class _Forms(dict[int, str]):
    """Each character in the form that is compared: without width, typeface and ligatures, which carry no meaning;
    joiners and variation selectors are removed. x\u00b2 stays apart from x2.
    """

    def __missing__(self, code: int) -> str:
        sign = chr(code)
        plain = unicodedata.normalize("NFKC", sign)
        if regex.fullmatch(r"[\p{Cf}\p{Variation_Selector}--\u200b]", sign, regex.V1):
            form = ""
        elif unicodedata.decomposition(sign).startswith(_MEANINGFUL) or sign in _AM or plain.startswith(" "):
            form = sign
        else:
            form = plain
        self[code] = form
        return form


_FORMS = _Forms()


def words(text: str) -> list[str]:
    """The words of a text in order, case folded, in Unicode's NFC, without differences of width and typeface.

    A word is letters or digits of any script with their marks, such as vowel signs; in scripts without spaces, a word
    of ICU's dictionary. C++ and C# are words, and so are symbols that change the meaning of a text: operators (x < 5,
    50%, a/b), currency, a sign before a number, and each emoji. Punctuation, and the marks of lists and bold text, are
    not. A text without words is split at its spaces.
    """
    if text.isascii():
        folded = text.lower()
        found = _ASCII.findall(folded)
    else:
        folded = unicodedata.normalize("NFC", text.translate(_FORMS).casefold())
        found = _ANY.findall(folded)
        if unspaced(folded):
            found = [part for run in found for part in (WordBreaker(run, "en") if _RUN.match(run) else [run])]
    return found or folded.split()


def unspaced(text: str) -> bool:
    """Whether any part of a text is in a script without spaces between words."""
    return not text.isascii() and _RUN.search(text) is not None


def language(text: str) -> str | None:
    """The language as two letters (ISO 639-1), or null if it cannot be identified: no letters, code, names, invented
    words.

    Some languages are reported as a close one: Malay as id, Bosnian as hr, Nynorsk as no.
    """
    text = text[:SIGNS]
    letters = [sign for sign in text if sign.isalpha()]
    if not letters:
        return None
    code, probability = _identifier().classify(text)
    latin = 2 * sum(sign < "\u0250" or "\u1e00" <= sign <= "\u1eff" for sign in letters) >= len(letters)
    return None if code == "zxx" or (latin and probability < SURE) else str(code)


def surely_not_english(text: str) -> bool:
    """Whether a text certainly begins in another language than English.

    For its first 400 characters, English or no language must have a probability of at most 0.001. A text of Latin or
    Greek letters also needs four words, since names, dishes and formulas are ambiguous.
    """
    start = text[:BEGINNING]
    european = 2 * len(_EUROPEAN.findall(start)) >= len(_LETTER.findall(start))
    if len(_WORDS.findall(start)) < (LEAST_WORDS if european else 1):
        return False
    return sum(float(share) for code, share in _identifier().rank(start) if code in ("en", "zxx")) <= DOUBT


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    # zxx is the model's code for texts in no language.
    named = {code for code in identifier.labels if len(code) == 2} - _LEFT_OUT
    identifier.set_languages({*named, "zxx"})
    return identifier
