"""Refusals among the answers of the pool, by the judge that the recipe names: English phrases, or another judge.

Phrases find about three quarters of the sandbox's refusals, and none in other languages. A rule-based judge of the
panel, or a head written by `curator judge fit`, can find others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from curator.errors import JudgeError
from curator.judge.phrases import refused
from curator.judge.resources import corpus_judge
from curator.pool.words import last
from curator.recipe.refusals import FITTED
from curator.records import Conversations

if TYPE_CHECKING:
    import polars as pl

    from curator.recipe.judge import Judge


BOTH = 0.1
"""Least share of refusals, and of other answers, from which a pool holds both kinds."""


def of_both(rows: pl.DataFrame, judge: Judge | None = None) -> float | None:
    """The share of refusals among rows that hold both refusals and other answers; null if they hold one kind alone.
    Arguments and errors as of `refusals`.
    """
    judged = [refused for refused in refusals(rows, judge) if refused is not None]
    share = sum(judged) / len(judged) if judged else 0.0
    return share if BOTH <= share <= 1.0 - BOTH else None


def refusals(rows: pl.DataFrame, judge: Judge | None = None) -> list[bool | None]:
    """Whether the last answer of each row refuses; null where the judge cannot tell.

    Args:
        rows: In the columns of ROW_SCHEMA.
        judge: The judge of refusals; null for English phrases at the start of the answer.

    Raises:
        JudgeError: The head cannot be read.
        ModelError: Its embedder cannot be loaded.
    """
    conversations = Conversations(rows)
    if judge is None:
        return [refused(last(messages, "assistant")) for messages in conversations]
    try:
        return [verdict.refused for verdict in corpus_judge(judge)(conversations)]
    except JudgeError as error:
        if judge.name != FITTED:
            raise
        raise JudgeError(str(error).replace("judges.panel.embedding", "pool.refusals.embedding")) from error
