"""suite.json and suite.html, assembled from how every run of a suite stands and what the finished ones found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from curator.report.part import plain
from curator.run.folder import write_json, write_text
from curator.suite.model import VERSION, Contrast, Found, Paper, Run, Suite, Timing, Trainings
from curator.suite.recovered import Recovered, known
from curator.suite.results import Result, decided
from curator.suite.run import Outcome


def assemble(
    name: str, outcomes: Sequence[Outcome], results: Mapping[str, Result], paper: Recovered | None = None
) -> Suite:
    """The suite from the results of its finished variants, by name."""
    rows = []
    for outcome in outcomes:
        variant = outcome.variant
        found = results[variant.name].found if outcome.status == "done" and variant.name in results else None
        arms = [] if found is None else [*found.arms, *(arm for arm in found.utility if arm not in found.arms)]
        rows.append(
            Run(
                name=variant.name,
                source=variant.source,
                k=variant.k,
                task=variant.task,
                status=outcome.status,
                reason=outcome.reason,
                bug=outcome.bug,
                found=found,
                paper={arm: known(paper, found.model.id, variant.k, variant.task, arm) for arm in arms}
                if paper is not None and found is not None
                else {},
            )
        )
    done = [(row.name, row.found) for row in rows if row.found is not None]
    return Suite(
        version=VERSION,
        name=name,
        runs=tuple(rows),
        contrasts=_contrasts(done, results),
        trainings=Trainings(
            made=sum(found.trainings.made for _, found in done), shared=sum(found.trainings.shared for _, found in done)
        ),
        paper=None if paper is None else Paper(source=paper.source, caution=paper.caution),
        timing=Timing(seconds={variant: result.seconds for variant, result in results.items()}),
    )


def _contrasts(done: Sequence[tuple[str, Found]], results: Mapping[str, Result]) -> tuple[Contrast, ...]:
    """One Holm family for each pair of arms, among the verdicts that decide and among all other judges' apart."""
    families: dict[tuple[str, str, bool], list[dict[str, Any]]] = {}
    for variant, found in done:
        for judge, comparisons in results[variant].comparisons.items():
            decides = found.judges[judge].decides
            for one in comparisons:
                family = families.setdefault((one["treatment"], one["control"], decides), [])
                family.append({"variant": variant, "judge": judge, "decides": decides, **one})
    return tuple(Contrast.model_validate(one) for family in families.values() for one in decided(family))


def write(root: Path, suite: Suite) -> None:
    """Writes suite.json and suite.html, each whole or not at all."""
    from curator.suite.page import html

    write_json(root / "suite.json", plain(suite))
    write_text(root / "suite.html", html(suite))


Text = Annotated[str, Field(min_length=1)]
