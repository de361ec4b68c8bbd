"""Stage `publish`: the data set folder with its evidence."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from curator.run import Site, _verdicts

if TYPE_CHECKING:
    pass


def publish(site: Site, folder: Path) -> Mapping[str, str]:
    """Writes the data set folder, whole or not at all."""
    import polars as pl

    from curator.publish.dataset import write_dataset
    from curator.report.markdown import evidence
    from curator.report.model import read_report
    from curator.run.files import load_arms, load_data, load_frame, load_scores, load_selection

    selection, chosen = load_selection(site.folder("select")), site.folder("select") / "chosen.parquet"
    controls = load_arms(site.folder("select")).filter(~pl.col("arm").is_in(["curated", "full"]))
    write_dataset(
        folder / "dataset",
        pool=load_data(site.folder("pool")).pool,
        scores=load_scores(site.folder("select")),
        selection=selection,
        report=read_report(site.folder("report") / "report.json"),
        evidence=evidence,
        coverage=dict(load_frame(chosen).select("id", pl.col("covers").list.len()).iter_rows()),
        verdicts=pl.concat(_verdicts(site).values()),
        controls=controls if site.recipe.publish.controls else None,
    )
    return {"summary": f"{len(selection.ids)} rows in {folder / 'dataset'}"}
