"""Stage `publish`: the data set folder with its evidence."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from curator.recipe.verify import CURATED, FULL
from curator.run import Run
from curator.run.names import DATASET
from curator.run.readers import explanations, report_file


def publish(run: Run, folder: Path) -> Mapping[str, str]:
    """Writes the data set folder, whole or not at all.

    What may be published of the report goes with it, see `publish.record`; texts of tasks and answers stay here.

    Returns:
        `summary`: how many rows, and where.
    """
    import polars as pl

    from curator.publish.dataset import write_dataset
    from curator.report.markdown import evidence
    from curator.report.model import read_report

    selection, (chosen, _) = run.selection(), explanations(run.root)
    opened, often = run.opened(), run.repeats()
    # The curated set is there already, and the full pool is not a set that was drawn.
    controls = run.drawn().filter(~pl.col("arm").is_in([CURATED, FULL]))
    write_dataset(
        folder / DATASET,
        pool=run.data().pool,
        scores=run.selected_by(),
        selection=selection,
        report=read_report(report_file(run.root)),
        evidence=evidence,
        coverage=dict(chosen.select("id", pl.col("covers").list.len()).iter_rows()),
        verdicts=pl.concat(run.panel().values()),
        controls=controls if run.recipe.publish.controls else None,
        openers=None if opened is None else dict(opened.select("id", "opener").iter_rows()),
        repeats=None if often is None else dict(often.filter(arm=CURATED).select("id", "repeats").iter_rows()),
        base=run.base,
    )
    return {"summary": f"{len(selection.ids)} rows in {folder / DATASET}"}
