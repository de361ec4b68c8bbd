"""Seeds added until the primary comparison is clear: each look trains, asks and judges what it needs, and no more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from curator.judge.stage import decided
from curator.recipe.verify import CURATED, Looks
from curator.run import Site

if TYPE_CHECKING:
    import polars as pl

    from curator.conclusions import Comparison, Stop
    from curator.records import Data
    from curator.verify.sequential import Look, Taken


def look(site: Site, data: Data, section: Looks, answers: Callable[[int], pl.DataFrame]) -> Sequence[Taken]:
    """Every look that was taken, the one that stopped last.

    Args:
        answers: Trains and asks the grid up to so many seeds, and gives all answers, in the columns of ANSWER_SCHEMA.
    """
    from curator.verify.comparisons import anticipated, compare
    from curator.verify.sequential import take
    from curator.verify.tables import lay_out

    mix = anticipated(site.recipe.weights())

    def observe(one: Look) -> Comparison:
        said, told = answers(one.seeds), site.progress("judge")
        after = lay_out(decided(site, said, data, site.folder("judge"), told))["harmfulness", "after"]
        return compare(after, CURATED, site.recipe.verify.control, mix, level=one.level)

    return take(planned(section, data.harmful.height), observe, futility=section.futility)


def planned(section: Looks, prompts: int | None) -> Sequence[Look]:
    """The looks of a recipe and their levels, fixed by the recipe and the number of harmful probes (null: many)."""
    from curator.verify.sequential import plan

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


def stopped(site: Site) -> tuple[float, Stop | None, Mapping[str, Any] | None]:
    """For the report: the level of the primary interval, where adding seeds ended, and all looks with what fixed them.

    A number of seeds has level .05, no stop and no looks.
    """
    from curator.conclusions import Stop

    section, looks = site.recipe.verify.seeds, site.record("train")["looks"]
    if not isinstance(section, Looks):
        return 0.05, None, None
    last = looks[-1]
    stop = Stop(last["action"], last["seeds"], section.max, len(looks), last["conditional_power"])
    return last["level"], stop, {**section.model_dump(), "stopped": last["action"], "looks": looks}
