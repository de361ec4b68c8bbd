"""Which rows of the recovery arms are trained on behind an opener, and behind which: drawn before any training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import polars as pl

from curator.errors import SelectionError
from curator.recipe.verify import RECOVERY
from curator.seeds import derive
from curator.wording import these

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OPENED_SCHEMA: dict[str, type[pl.DataType] | pl.DataType] = {
    "id": pl.String,
    "opener": pl.String,
    "tokens": pl.List(pl.Int64),
}
"""`opener` is the text of `tokens`, the first tokens of an opener."""

REFUSAL = "refusal"


def refusals(drawn: pl.DataFrame, traits: pl.DataFrame, *, by: str) -> list[str]:
    """Ids of the refusals in any set of an arm of RECOVERY, sorted.

    Args:
        drawn: The sets of all arms, columns `arm`, `seed`, `id`.
        traits: `id` and `refusal` (REFUSAL, another word, or null) of every candidate.
        by: What says which answers are refusals, for the error.

    Raises:
        SelectionError: There are no refusals, so such an arm would be identical to the arm with the same rows.
    """
    rows = drawn.filter(pl.col("arm").is_in(list(RECOVERY))).select("id").unique()
    refusing = rows.join(traits.filter(refusal=REFUSAL).select("id"), on="id", how="semi")["id"].sort().to_list()
    if not refusing:
        raise SelectionError(
            f"augment.recovery: {by} found no refusal in {these(rows.height, 'row', 'rows')} of the recovery arms, so "
            "no row would get an opener; remove these arms and augment.recovery"
        )
    return refusing


def openers(
    ids: Iterable[str], cut: Sequence[Sequence[int]], tokens: tuple[int, int], *, seed: int
) -> Mapping[str, tuple[int, ...]]:
    """Row id -> the tokens before its answer. Their number is drawn between the bounds in `tokens`, and the opener from
    those that are long enough, each by a hash of seed and id.

    Args:
        cut: Tokens of each opener; the longest has at least `tokens[1]`.
    """
    least, most = tokens
    opened = {}
    for row_id in ids:
        count = least + derive(seed, "recovery", "tokens", row_id) % (most - least + 1)
        long = [opener for opener in cut if len(opener) >= count]
        opened[row_id] = tuple(long[derive(seed, "recovery", "opener", row_id) % len(long)][:count])
    return opened


def table(opened: Mapping[str, tuple[int, ...]], tokenizer: PreTrainedTokenizerBase) -> pl.DataFrame:
    """The openers in the columns of OPENED_SCHEMA."""
    return pl.DataFrame(
        {
            "id": list(opened),
            "opener": [tokenizer.decode(list(tokens), skip_special_tokens=True).strip() for tokens in opened.values()],
            "tokens": [list(tokens) for tokens in opened.values()],
        },
        schema=OPENED_SCHEMA,
    )
