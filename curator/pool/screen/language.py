"""The languages of a corpus's rows."""

from __future__ import annotations

from collections import Counter

import polars as pl

from curator.language import language
from curator.pool.screen import DEFAULT, Finding, finding
from curator.recipe.pool import Findings
from curator.records import Conversations
from curator.wording import these


def languages(rows: pl.DataFrame, limits: Findings = DEFAULT) -> tuple[list[Finding], dict[str, int]]:
    """Rows that are not in the corpus's main language, and the number of rows of each language (including
    `unknown`).
    """
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
    what = f"{these(len(others), 'row is', 'rows are')} not in {main}, the language of most rows: {listed}."
    advice = "Check that the target model and the judges support these languages, and add probes in them."
    severity = "warning" if share >= limits.some else "info"
    return [finding("languages", severity, others, rows.height, what=what, advice=advice)], shown
