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

    r, start, cache = run.recipe, run.record("base"), run.vector_cache()
    tokenizer = load_tokenizer(start["tokenizer"], revision=start["revision"], chat_template=r.model.chat_template)
    places: list[dict[str, Any]] = []
    found = gather(
        pool=r.pool, tasks=r.tasks, weights=r.weights(), probes=r.probes, keep=r.verify.keep,
        arms={arm.name: arm.data for arm in r.verify.arms if arm.data is not None}, given=r.select.data,
        drawn=any(arm.data is None and arm.name not in (CURATED, NONE) for arm in r.verify.arms),
        pilot_share=share(run.recipe),
        count_tokens=token_counter(tokenizer), embed=embedder(r.pool.embedder, cache), base=run.base, seed=r.seed,
        scratch=folder, read_all=reader(run, folder, places),
    )  # fmt: skip
    refuse_few(run, found.data.pool)
    rows, dropped = found.data.pool.rows.height, found.data.pool.dropped.height
    data, hazards = categorised(found.data, r.pool, cache)
    save_data(folder, data)
    if hazards is not None:
        save_frame(folder / "categories.parquet", hazards)
    save_frame(folder / "dropped-everywhere.parquet", found.dropped)
    findings = canned(data.pool.rows, r.pool.findings)
    write_json(folder / "findings.json", {"findings": [asdict(one) for one in findings]})
    if (listed := near_probes(found.data, r.pool, cache)) is not None:
        save_frame(folder / "near-probes.parquet", listed)
    tasks = ", ".join(f"{task.name} {task.train.height}+{task.test.height}" for task in found.data.tasks)
    probes = f"{found.data.harmful.height} harmful and {found.data.benign.height} benign probes"
    if found.data.pilot.height:
        probes += f", {found.data.pilot.height} more for the pilot"
    summary = f"{rows} candidates ({dropped} dropped), tasks {tasks} train+test rows, {probes}"
    summary = "; ".join([summary, *(one.what.rstrip(".") for one in findings)])
    kinds = [one.kind for one in findings]
    return {"resolved": found.resolved, "findings": kinds, "places": places, "summary": summary}


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
