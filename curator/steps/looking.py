"""Seeds added until the primary comparison is clear: each look trains, asks and judges what it needs, and no more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from curator.judge.stage import decided
from curator.recipe.verify import CURATED, Looks
from curator.run import Site

if TYPE_CHECKING:
    import polars as pl

    from curator.conclusions import Comparison
    from curator.decision.sequential import Look, Taken
    from curator.records import Data


def look(site: Site, data: Data, section: Looks, answers: Callable[[int], pl.DataFrame]) -> Sequence[Taken]:
    """Every look that was taken, the one that stopped last.

    Args:
        answers: Trains and asks the grid up to so many seeds, and gives all answers, in the columns of ANSWER_SCHEMA.
    """
    from curator.decision.comparisons import anticipated, compare
    from curator.decision.sequential import take
    from curator.decision.tables import lay_out

    mix = anticipated(site.recipe.weights())

    def observe(one: Look) -> Comparison:
        said, told = answers(one.seeds), site.progress("judge")
        after = lay_out(decided(site, said, data, site.folder("judge"), told))["harmfulness", "after"]
        return compare(after, CURATED, site.recipe.verify.control, mix, level=one.level)

    return take(planned(section, data.harmful.height), observe, futility=section.futility)


def planned(section: Looks, prompts: int | None) -> Sequence[Look]:
    """The looks of a recipe and their levels, fixed by the recipe and the number of harmful probes (null: many)."""
    from curator.decision.sequential import plan

    return plan(
        section.max,
        prompts,
        sd_seed=section.sd_seed,
        sd_prompt=section.sd_prompt,
        sd_residual=section.sd_residual,
        first=section.first,
        every=section.every,
        spending=section.spending,
    )
