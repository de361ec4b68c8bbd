"""Stage `pool`: reads, cleans and keeps apart the candidates, tasks, probes and keep rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curator.errors import SelectionError
from curator.pool.workers import reader
from curator.recipe import share
from curator.recipe.verify import CURATED, NONE
from curator.run import Run
from curator.run.folder import write_json

if TYPE_CHECKING:
    from curator.records import Pool


def pool(run: Run, folder: Path) -> Mapping[str, Any]:
    """Reads, cleans and keeps apart the candidates, tasks, probes and keep rows."""
    from curator.model.chat import token_counter
    from curator.model.load import load_tokenizer
    from curator.pool.gather import gather
    from curator.pool.screen.answers import canned
    from curator.pool.semantic import categorised, near_probes
    from curator.represent.vectors import embedder
    from curator.run.files import save_data, save_frame

    recipe, start, cache = run.recipe, run.record("base"), run.vector_cache()
    tokenizer = load_tokenizer(start["tokenizer"], revision=start["revision"], chat_template=recipe.model.chat_template)
    places: list[dict[str, Any]] = []
    arms = recipe.verify.arms
    gathered = gather(
        pool=recipe.pool, tasks=recipe.tasks, weights=recipe.weights(), probes=recipe.probes, keep=recipe.verify.keep,
        arms={arm.name: arm.data for arm in arms if arm.data is not None}, given=recipe.select.data,
        drawn=any(arm.data is None and arm.name not in (CURATED, NONE) for arm in arms), pilot_share=share(recipe),
        count_tokens=token_counter(tokenizer), embed=embedder(recipe.pool.embedder, cache), base=run.base,
        seed=recipe.seed, scratch=folder, read_all=reader(run, folder, places),
    )  # fmt: skip
    refuse_few(run, gathered.data.pool)
    data, hazards = categorised(gathered.data, recipe.pool, cache)
    save_data(folder, data)
    if hazards is not None:
        save_frame(folder / "categories.parquet", hazards)
    save_frame(folder / "dropped-everywhere.parquet", gathered.dropped)
    findings = canned(data.pool.rows, recipe.pool.findings)
    write_json(folder / "findings.json", {"findings": [asdict(finding) for finding in findings]})
    if (near := near_probes(data, recipe.pool, cache)) is not None:
        save_frame(folder / "near-probes.parquet", near)
    tasks = ", ".join(f"{task.name} {task.train.height}+{task.test.height}" for task in data.tasks)
    probes = f"{data.harmful.height} harmful and {data.benign.height} benign probes"
    if data.pilot.height:
        probes += f", {data.pilot.height} more for the pilot"
    rows, dropped = data.pool.rows.height, data.pool.dropped.height
    summary = f"{rows} candidates ({dropped} dropped), tasks {tasks} train+test rows, {probes}"
    summary = "; ".join([summary, *(finding.what.rstrip(".") for finding in findings)])
    kinds = [finding.kind for finding in findings]
    return {"resolved": gathered.resolved, "findings": kinds, "places": places, "summary": summary}


def refuse_few(run: Run, pool: Pool) -> None:
    """Refuses a pool that has fewer rows than are to be chosen.

    Raises:
        SelectionError: It has.
    """
    rows, dropped, k = pool.rows.height, pool.dropped.height, run.recipe.select.k
    if k is not None and k > rows:
        raise SelectionError(
            f"select.k: found {k}; the pool has {rows} rows ({dropped} of {rows + dropped} were dropped, "
            f"see {run.folder('pool') / 'dropped.parquet'}); lower k to {rows} at most, or add sources"
        )
