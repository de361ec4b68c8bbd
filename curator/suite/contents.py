"""suite.json and suite.html, assembled from the status of every run of a suite and the results of finished ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from curator.conclusions.part import plain
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
        facts = results[variant.name].found if outcome.status == "done" and variant.name in results else None
        arms = [] if facts is None else [*facts.arms, *(arm for arm in facts.utility if arm not in facts.arms)]
        rows.append(
            Run(
                name=variant.name,
                source=variant.source,
                k=variant.k,
                task=variant.task,
                status=outcome.status,
                reason=outcome.reason,
                bug=outcome.bug,
                found=facts,
                paper={arm: known(paper, facts.model.id, variant.k, variant.task, arm) for arm in arms}
                if paper is not None and facts is not None
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
            made=sum(facts.trainings.made for _, facts in done), shared=sum(facts.trainings.shared for _, facts in done)
        ),
        paper=None if paper is None else Paper(source=paper.source, caution=paper.caution),
        timing=Timing(seconds={variant: result.seconds for variant, result in results.items()}),
    )


def _contrasts(done: Sequence[tuple[str, Found]], results: Mapping[str, Result]) -> tuple[Contrast, ...]:
    """One Holm family for each pair of arms among the verdicts that decide, and a separate one among all other
    judges'.
    """
    families: dict[tuple[str, str, bool], list[dict[str, Any]]] = {}
    for variant, facts in done:
        for judge, comparisons in results[variant].comparisons.items():
            decides = facts.judges[judge].decides
            for comparison in comparisons:
                family = families.setdefault((comparison["treatment"], comparison["control"], decides), [])
                family.append({"variant": variant, "judge": judge, "decides": decides, **comparison})
    return tuple(Contrast.model_validate(contrast) for family in families.values() for contrast in decided(family))


def write(root: Path, suite: Suite) -> None:
    """Writes suite.json and suite.html, each atomically."""
    from curator.suite.page import html

    write_json(root / "suite.json", plain(suite))
    write_text(root / "suite.html", html(suite))
