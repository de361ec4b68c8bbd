"""Stage `publish`: the data set folder with its evidence, or the chosen rows alone, marked as not verified."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from curator.publish.unverified import NOT_VERIFIED, TAG
from curator.recipe.verify import CURATED, FULL
from curator.run import Run
from curator.run.names import DATASET
from curator.run.readers import explanations, report_file
from curator.wording import these

if TYPE_CHECKING:
    from curator.recipe import Recipe
    from curator.report.model import Report


def current(report: Report, recipe: Recipe) -> Report:
    """The report with the recipe that the folder is written by: settings of `publish` leave an earlier report kept."""
    now = recipe.model_dump(mode="json", by_alias=True, exclude={"engine"})
    return report.model_copy(update={"provenance": report.provenance.model_copy(update={"recipe": now})})


def publish(run: Run, folder: Path) -> Mapping[str, str]:
    """Writes the data set folder atomically.

    It includes what may be published of the report, see `publish.record`. Texts of tasks and answers are not published.

    Returns:
        `summary`: how many rows, and where.
    """
    import polars as pl

    from curator.publish.dataset import write_dataset
    from curator.report.markdown import evidence
    from curator.report.model import read_report

    selection, (chosen, _) = run.selection(), explanations(run.root)
    opened = run.opened()
    # The curated set is there already, and the full pool is not a set that was drawn.
    controls = run.drawn().filter(~pl.col("arm").is_in([CURATED, FULL]))
    write_dataset(
        folder / DATASET,
        pool=run.data().pool,
        scores=run.selected_by(),
        selection=selection,
        report=current(read_report(report_file(run.root)), run.recipe),
        evidence=evidence,
        coverage=dict(chosen.select("id", pl.col("covers").list.len()).iter_rows()),
        verdicts=pl.concat(run.panel().values()),
        controls=controls if run.recipe.publish.controls else None,
        openers=None if opened is None else dict(opened.select("id", "opener").iter_rows()),
        repeats=run.curated_repeats(),
    )
    return {"summary": f"{these(len(selection.ids), 'row', 'rows')} in {folder / DATASET}"}


def unverified(run: Run, folder: Path) -> Mapping[str, str]:
    """Writes the chosen rows atomically as a data set folder: `data/curated/`, the card, `croissant.json`,
    the resolved recipe (`recipe.yaml`), and below `evidence/` the selection (`selection.parquet`), the rows that were
    left out (`dropped.parquet`) and the digests of these files. Texts of tasks are not published.

    Returns:
        `summary`: how many rows, and where.
    """
    from curator.publish.card import WARNING, Config, between_marks, facts, origins, yaml_of
    from curator.publish.dataset import (
        RECIPE,
        RECIPE_NOTE,
        arrow,
        dataset_rows,
        describe,
        picked_rows,
        write_data,
        write_table,
    )  # fmt: skip
    from curator.publish.record import dropped_rows, publishable_recipe, replacements, sentence
    from curator.run.folder import replacing_folder, write_text
    from curator.selection.outcome import table
    from curator.wording import page

    recipe, data, scores, selection = run.recipe, run.data(), run.selected_by(), run.selection()
    chosen, _ = explanations(run.root)
    covers = dict(chosen.select("id", chosen["covers"].list.len()).iter_rows())
    rows = dataset_rows(data.pool, scores, selection, covers, run.curated_repeats())
    heads, figures = table(run.record("select")["composition"])
    with replacing_folder(folder / DATASET) as temporary:
        tables = {write_data(temporary, CURATED, "train", rows): rows}
        configs = [Config(CURATED, {"train": next(iter(tables))})]
        write_table(temporary / "evidence" / "selection.parquet", arrow(picked_rows(scores, selection)))
        write_table(temporary / "evidence" / "dropped.parquet", arrow(dropped_rows(data.pool.dropped)))
        written = recipe.model_dump(mode="json", by_alias=True, exclude={"engine"})
        public, known = publishable_recipe(written), replacements(written)
        assert isinstance(public, dict)
        write_text(temporary / RECIPE, RECIPE_NOTE + yaml_of(public))
        metadata = facts(rows, name=recipe.name, configs=configs, tags=[TAG])
        body = page(
            "publish",
            "unverified.md.j2",
            name=recipe.name,
            warning=WARNING,
            not_verified=NOT_VERIFIED,
            rows=rows.num_rows,
            candidates=data.pool.rows.height,
            given=recipe.select.data is not None,
            tasks=[task.name for task in recipe.tasks if task.anticipated],
            heads=heads,
            figures=figures,
            selection=selection,
            scores=scores,
            similarity=sentence(scores.name, known),
            refusals_by=sentence(run.record("pool").get("refusals_by") or "English phrases", known),
            columns=rows.column_names,
            origins=origins(rows),
            versions=run.computed_with()["versions"],
        )
        describe(
            temporary, tables, metadata, name=recipe.name, summary=NOT_VERIFIED, card=between_marks(metadata, body)
        )
    return {"summary": f"{these(rows.num_rows, 'row', 'rows')} in {folder / DATASET}, not verified"}
