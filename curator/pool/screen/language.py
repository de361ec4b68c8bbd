"""The language of a text, by py3langid's model: naive Bayes over byte sequences, part of its package, no network."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

import polars as pl

from curator.pool.screen import DEFAULT, Finding, finding
from curator.recipe.pool import Findings
from curator.records import Conversations
from curator.wording import these

SURE = 0.5
"""The least probability at which a text of Latin letters has a language. Names, formulas, code and invented words stay
below; texts of other scripts need none, as little else is written in them.
"""
SIGNS = 2000
"""How much of a text is read, in characters."""
_LEFT_OUT = {"an", "bs", "ms", "nn", "vo"}
"""Next to es, hr, id and no, from which the model tells these only by chance; and Volapuk."""


def language(text: str) -> str | None:
    """Two letters (ISO 639-1), or null where nothing tells: no letters, code, names, invented words.

    Some languages are named by a near one: Malay as id, Bosnian as hr, Nynorsk as no.
    """
    text = text[:SIGNS]
    letters = [sign for sign in text if sign.isalpha()]
    if not letters:
        return None
    code, probability = _identifier().classify(text)
    latin = 2 * sum(sign < "\u0250" or "\u1e00" <= sign <= "\u1eff" for sign in letters) >= len(letters)
    return None if code == "zxx" or (latin and probability < SURE) else str(code)


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    # zxx is what the model calls no language at all.
    named = {code for code in identifier.labels if len(code) == 2} - _LEFT_OUT
    identifier.set_languages({*named, "zxx"})
    return identifier


def languages(rows: pl.DataFrame, limits: Findings = DEFAULT) -> tuple[list[Finding], dict[str, int]]:
    """Rows that are not in the corpus's main language, and how many rows each language has (`unknown` among them)."""
    texts = (" ".join(turn["content"] for turn in messages) for messages in Conversations(rows))
    languages_of = dict(zip(rows["id"], map(language, texts), strict=True))
    counts = Counter(name or "unknown" for name in languages_of.values())
    known = [(name, count) for name, count in counts.most_common() if name != "unknown"]
    shown = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    if len(known) < 2:
        return [], shown
    main = known[0][0]
    others = [row for row, name in languages_of.items() if name not in (None, main)]
    share = len(others) / rows.height
    listed = ", ".join(f"{name} {count:,}" for name, count in known[1:6])
    what = f"{these(len(others), 'row is', 'rows are')} not in {main}, the language of most: {listed}."
    advice = "Check that the target model and the judges read these languages; their probes should be in them too."
    severity = "warning" if share >= limits.some else "info"
    return [finding("languages", severity, others, rows.height, what=what, advice=advice)], shown
