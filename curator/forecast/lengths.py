"""Tokens of rows that no tokenizer has counted yet, estimated from the length of their text. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from curator.experiment.plan import Tally
from curator.forecast.measured import Measured, section_of
from curator.recipe import Recipe
from curator.wording import percent, these

if TYPE_CHECKING:
    import polars as pl

LONG = 0.1
"""Share of rows that a training leaves out as too long, above which it is reported."""

_TRAINED = {
    "pool": "the pool",
    "keep": "verify.keep",
    "arm": "the arm",
    "train": "the task",
    "regime": "the attack on the task",
    "defence": "the defence of the task",
}
"""First word of a role whose rows are trained on -> what these rows are called."""

SIGNS = 3.5
"""Characters per token, a little fewer than in English."""


def signs(rows: pl.DataFrame) -> pl.Series:
    """Number of characters of each row's messages `(n,)`."""
    import polars as pl

    return rows["messages"].list.eval(pl.element().struct.field("content").str.len_chars()).list.sum()


_DENSE = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
RATES = {
    rf"[{_DENSE}]": 2.3,
    r"\p{N}": 1.2,
    r"[\p{P}\p{S}]": 1.0,
    r"\p{Cyrillic}": 0.7,
    rf"[^{_DENSE}\p{{Cyrillic}}\p{{N}}\p{{P}}\p{{S}}\x00-\x7f]": 1.5,
}
"""Characters -> tokens for each of them, at most: of an English vocabulary, SmolLM2's. Of others SIGNS are a token."""
TEMPLATE = 40
"""Tokens that a chat template adds to a conversation of a question and an answer, with its default system text."""


def at_most(rows: pl.DataFrame) -> pl.Series:
    """Tokens of each conversation `(n,)`, at most, by the scripts of its text."""
    import polars as pl

    text = rows["messages"].list.eval(pl.element().struct.field("content")).list.join("")
    tokens = text.str.len_chars() / SIGNS + TEMPLATE
    for characters, rate in RATES.items():
        tokens += text.str.count_matches(characters) * (rate - 1 / SIGNS)
    return tokens


def with_lengths(known: Measured, rows: Mapping[str, pl.Series], recipe: Recipe) -> Measured:
    """The figures, with estimated tallies of those roles of `rows` that no earlier run has counted.

    Args:
        rows: Role, as in `Measured.tallies` -> characters of each of its rows. Candidates that are too long for the
            pool by this estimate are left out.
    """
    tallies = dict(known.tallies)
    for role, lengths in rows.items():
        tokens = (lengths / SIGNS).ceil()
        if role == "pool":
            tokens = tokens.filter(tokens <= recipe.pool.clean.max_tokens)
        if role not in tallies:
            tallies[role] = replace(Tally.of(tokens, section_of(recipe, role)), counted=False)
    return replace(known, tallies=tallies)


def left_out(recipe: Recipe, known: Measured) -> Iterator[str]:
    """A sentence for each kind of rows of which trainings leave out many, because they are too long."""
    for role, tally in known.tallies.items():
        part, _, name = role.partition(" ")
        longer, section = tally.rows - tally.kept, section_of(recipe, role)
        if part not in _TRAINED or longer <= LONG * tally.rows:
            continue
        key = "align" if section is recipe.verify.align else "finetune"
        where = f"{_TRAINED[part]} {name!r}" if name else _TRAINED[part]
        about, rows = "" if tally.counted else "about ", these(tally.rows, "row", "rows")
        yield (
            f"verify.{key}.max_tokens: found {section.max_tokens:,}, and trainings leave out {about}{longer:,} of "
            f"{rows} of {where} ({percent(longer / tally.rows)}), which are longer; raise it, unless the shorter "
            "rows will do"
        )
