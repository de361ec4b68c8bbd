"""Stage `pool`: reads, cleans and separates candidates, tasks, probes and keep rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curator.errors import DataError
from curator.pool.workers import reader
from curator.recipe import share
from curator.recipe.refusals import refusal_judge, refusals_by
from curator.recipe.verify import UNDRAWN
from curator.run import Run
from curator.run.folder import write_json
from curator.wording import these

if TYPE_CHECKING:
    import polars as pl
    from transformers import PreTrainedTokenizerBase

    from curator.pool.gather import Gathered
    from curator.records import Data


def pool(run: Run, folder: Path) -> Mapping[str, Any]:
    """Reads, cleans and keeps apart the candidates, tasks, probes and keep rows."""
    from curator.model.chat import template_of, token_counter
    from curator.model.load import load_tokenizer
    from curator.pool.gather import gather
    from curator.pool.screen.answers import canned
    from curator.pool.screen.markup import markup
    from curator.pool.semantic import categorised, near_probes
    from curator.pool.taxonomy import sureness
    from curator.pool.traits import traits
    from curator.provenance import packages
    from curator.represent.vectors import embedder
    from curator.run.files import save_data, save_frame
    from curator.run.names import FINDINGS, HAZARDS, NEAR_PROBES, TRAITS

    recipe, start, cache = run.recipe, run.record("base"), run.vector_cache()
    dtype, judge = start.get("dtype", "fp32"), refusal_judge(recipe)
    tokenizer = load_tokenizer(start["tokenizer"], revision=start["revision"], chat_template=recipe.model.chat_template)
    places: list[dict[str, Any]] = []
    arms = recipe.verify.arms
    gathered = gather(
        pool=recipe.pool, tasks=recipe.tasks, weights=recipe.weights(), probes=recipe.probes, keep=recipe.verify.keep,
        arms={arm.name: arm.data for arm in arms if arm.data is not None}, given=recipe.select.data,
        drawn=any(arm.data is None and arm.name not in UNDRAWN for arm in arms), pilot_share=share(recipe),
        count_tokens=token_counter(tokenizer), embed=embedder(recipe.pool.embedder, cache, dtype=dtype),
        seed=recipe.seed, scratch=folder, read_all=reader(run, folder, places),
    )  # fmt: skip
    refuse_unwritten(gathered.data, tokenizer)
    data, hazards = categorised(gathered.data, recipe.pool, cache, dtype=dtype)
    kinds_of_answer = traits(data.pool.rows, judge)
    save_data(folder, data)
    save_frame(folder / TRAITS, kinds_of_answer)
    if hazards is not None:
        save_frame(folder / HAZARDS, hazards)
    save_frame(folder / "dropped-everywhere.parquet", gathered.dropped)
    template = template_of(tokenizer)
    findings = [*canned(data.pool.rows, recipe.pool.findings), *markup(data.pool.rows, template.control.tokens)[0]]
    write_json(folder / FINDINGS, {"findings": [asdict(finding) for finding in findings]})
    if (near := near_probes(data, recipe.pool, cache, dtype=dtype)) is not None:
        save_frame(folder / NEAR_PROBES, near)
    summary = _counts(data, "pilot" if recipe.select.piloted else "regime")
    folded = 0 if template.system else with_system(data)
    if folded:
        summary += (
            f"; the chat template has no system role, so the system text of {these(folded, 'row', 'rows')} is put "
            "before the user's first message"
        )
    noted = _noted(gathered, near, f"{folder.name}/{NEAR_PROBES}")
    noted |= {} if judge is None else {f"refusals are recognised by {refusals_by(recipe)}": None}
    noted |= {} if hazards is None else {sureness(hazards): None}
    summary = "; ".join([summary, *noted, *(finding.what.rstrip(".") for finding in findings)])
    folds: dict[str, object] = {"folded": folded} if folded else {}
    folds |= {} if judge is None else {"refusals_by": refusals_by(recipe)}
    return {
        "resolved": gathered.resolved,
        "findings": [finding.kind for finding in findings],
        "places": places,
        **folds,
        **packages(recipe.pool.embedder.id if recipe.pool.embeds else None),
        "summary": summary,
    }


def _noted(gathered: Gathered, near: pl.DataFrame | None, file: str) -> dict[str, None]:
    """What a reader must know of how rows were read and compared, each remark once."""
    from curator.pool.sources import remarks

    read = [source for role in gathered.resolved.values() for source in role["sources"]]
    noted = dict.fromkeys(remark for source in read for remark in remarks(source))
    if gathered.uncompared:
        rows = these(gathered.uncompared, "row is", "rows are")
        noted[f"{rows} longer than the embedder reads, and not compared by meaning"] = None
    if near is not None:
        noted[f"{these(near.height, 'row is', 'rows are')} near a probe by meaning, and kept (listed in {file})"] = None
    return noted


def _counts(data: Data, search: str) -> str:
    """The number of rows of each role; `search` names what the pilot's probes are for."""
    tasks = ", ".join(
        f"task `{task.name}` with {task.train.height:,} training and {these(task.test.height, 'test row', 'test rows')}"
        for task in data.tasks
    )
    probes = f"{data.harmful.height:,} harmful and {these(data.benign.height, 'benign probe', 'benign probes')}"
    if not data.harmful.height:  # a recipe that only chooses rows has none
        probes = "no probes"
    if data.pilot.height:
        probes += f", {data.pilot.height:,} more for the {search}"
    rows = these(data.pool.rows.height, "candidate", "candidates")
    return f"{rows} ({data.pool.dropped.height:,} dropped), {tasks}, {probes}"


def frames_of(data: Data) -> dict[str, pl.DataFrame]:
    """Every role's rows, by the role's name in messages."""
    from curator.pool.ledger import BENIGN, HARMFUL

    frames = {
        "pool": data.pool.rows,
        HARMFUL: data.harmful,
        BENIGN: data.benign,
        "keep": data.keep,
        "pilot": data.pilot,
    }
    for task in data.tasks:
        parts = {"task": task.train, "test of": task.test, "regime of": task.regime, "defence of": task.defence}
        frames |= {f"{part} {task.name}": rows for part, rows in parts.items()}
    return frames | {f"arm {name}": rows for name, rows in data.arms.items()}


def with_system(data: Data) -> int:
    """Number of rows, over all roles, that begin with a system turn."""
    return sum(
        first["role"] == "system"
        for rows in frames_of(data).values()
        for first in rows["messages"].list.first().to_list()
        if first is not None
    )


def refuse_unwritten(data: Data, tokenizer: PreTrainedTokenizerBase) -> None:
    """Checks that the model's chat template can write tasks, probes and keep rows; such candidates have been dropped.

    Raises:
        DataError: It cannot write some of them.
    """
    from curator.model.chat import can_prompt
    from curator.pool.ledger import PROBES
    from curator.records import Conversations

    for role, rows in frames_of(data).items():
        if role in (*PROBES, "pilot"):
            count = sum(not can_prompt(tokenizer, messages) for messages in Conversations(rows))
        else:
            count = rows["tokens"].null_count()
        if count:
            raise DataError(
                f"{role}: the model's chat template cannot format {these(count, 'row', 'rows')}, because of roles or "
                "text; remove these rows, or name another template in model.chat_template"
            )
