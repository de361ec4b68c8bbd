"""More judges on a run's stored answers: their verdicts are added below stage `judge`, and nothing is overwritten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curator.errors import JudgeError
from curator.recipe.judge import Judge
from curator.recipe.verify import CURATED
from curator.run import Site
from curator.run.folder import key_of, make, opened
from curator.steps.judges import identity
from curator.steps.judging import JUDGE_VERSION, verdicts_of
from curator.steps.naming import ADDED, judges_of, site_of, stored_judges

if TYPE_CHECKING:
    import polars as pl

    from curator.run import Tell


def rejudge(run: Path, specs: Sequence[str], tell: Tell) -> dict[str, Any]:
    """Asks judges about a run's answers, each once for what it has not said yet.

    Args:
        specs: Judges of the command line; the recipe's panel when there are none.

    Returns:
        `judges`: name, told, kept (its verdicts were there already), outcomes of answers to harmful probes, and the
        primary comparison by its verdicts (difference, low, high); `agreement`: each pair, as in a report; both of all
        judges whose verdicts the run holds, those asked now first.

    Raises:
        JudgeError: A judge has the name of another one of the run.
        RunError: See `naming.site_of`; or another curator is at work on the folder.
    """
    import polars as pl

    from curator.report.agreement import agreement, outcome_counts
    from curator.run.files import load_frame

    with opened(run):
        site = site_of(run, tell)
        known = stored_judges(site)
        asked = judges_of(specs, known) if specs else list(site.recipe.judges.panel)
        kept = {judge.name: _verdicts(site, judge, known) for judge in asked}
        found = stored_judges(site)
        order = [*kept, *(name for name in found if name not in kept)]
        verdicts = {name: load_frame(found[name][1]) for name in order}
    return {
        "judges": [
            {
                "name": name,
                "told": found[name][0].told,
                "kept": kept.get(name, True),
                "outcomes": outcome_counts(verdicts[name], name),
                **_difference(site, verdicts[name]),
            }
            for name in order
        ],
        "agreement": agreement(pl.concat(list(verdicts.values())), order),
    }


def _verdicts(site: Site, judge: Judge, known: Mapping[str, tuple[Judge, Path]]) -> bool:
    """Makes the judge's verdicts where they are not there; whether they were."""
    own = {one.name: one for one in site.recipe.judges.panel}.get(judge.name)
    other = known[judge.name][0] if judge.name in known else own
    if other is not None and other.deciding() != judge.deciding():
        raise JudgeError(
            f"judge {judge.name!r}: the run has a judge of that name with other settings, whose verdicts stay; "
            "give this one another name, with NAME= in front"
        )
    if judge.name in known and known[judge.name][1].parent.parent.name == "panel":
        return True
    answers = site.done("answer")["key"]
    key = key_of("added", JUDGE_VERSION, judge.deciding(), identity(judge), answers)

    def work(folder: Path) -> Mapping[str, Any]:
        from curator.run.files import load_data, load_frame, save_frame

        frame = load_frame(site.folder("answer") / "answers.parquet")
        data = load_data(site.folder("pool"))
        verdicts, revision, cost = verdicts_of(judge, frame, data, folder, site.progress("judge"))
        save_frame(folder / "verdicts.parquet", verdicts)
        return {"judge": judge.model_dump(), "answers": answers, "revision": revision, "cost": cost}

    return make(site.folder("judge") / ADDED / judge.name, key, work).kept


def _difference(site: Site, verdicts: pl.DataFrame) -> dict[str, float | None]:
    """The primary comparison by one judge's verdicts; it decides nothing."""
    from curator.verify.comparisons import anticipated, compare
    from curator.verify.tables import lay_out

    after = lay_out(verdicts)["harmfulness", "after"]
    found = compare(after, CURATED, site.recipe.verify.control, anticipated(site.recipe.weights()))
    return {"difference": found.difference, "low": found.low, "high": found.high}
