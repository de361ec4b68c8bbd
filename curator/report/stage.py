"""Stage `report`: figures from everything on disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curator.judge.measure import deciding_judge, read_stored
from curator.judge.stage import deciding
from curator.recipe.judge import Judges
from curator.run import FOLDERS, STAGES, Site, _verdicts, below, stopped
from curator.run.folder import DONE, finished, read_json, write_json, write_text

if TYPE_CHECKING:
    import polars as pl

    from curator.conclusions import Comparison


def report(site: Site, folder: Path) -> Mapping[str, Any]:
    """Concludes from every judge's verdicts, decides from the headline's, and writes report.json, report.md and
    report.html, with what its figures draw in figures.json.
    """
    import polars as pl

    from curator.decision.findings import Findings, conclude
    from curator.experiment.forgetting import predicted
    from curator.report.contents import report_dict
    from curator.report.figures import figures
    from curator.report.html import examples, samples, webpage
    from curator.report.markdown import markdown
    from curator.run.files import (
        load_arms,
        load_data,
        load_frame,
        load_scores,
        load_selection,
        load_vectors,
        trained_from,
    )

    r, data = site.recipe, load_data(site.folder("pool"))
    utility = load_frame(site.folder("judge") / "utility.parquet")
    verdicts = _verdicts(site)
    level, stop, sequential = stopped(site)
    categories = dict(data.harmful.drop_nulls("category").select("id", "category").iter_rows())
    gates = {name: margin for name, margin in r.verify.gates.model_dump().items() if margin is not None}

    def concluded(judge: str, said: pl.DataFrame) -> Findings:
        # One judge at a time: its verdicts on probes, and the metrics' on the tasks' own rows.
        own = pl.concat([said, utility]).with_columns(pl.lit(judge).alias("judge"))
        return conclude(
            own, weights=r.weights(), gates=gates, control=r.verify.control, categories=categories or None,
            level=level, thresholds=r.verify.decision, stop=stop, seed=r.seed,
        )  # fmt: skip

    drawn = load_arms(site.folder("select"))
    models = {
        (one["arm"], one["seed"], one["task"]): trained_from(one["trained"], site.root)
        for one in site.record("train")["models"]
    }
    arms = {(arm, seed): tuple(part["id"]) for (arm, seed), part in drawn.group_by("arm", "seed", maintain_order=True)}
    represented = below(site.folder("represent"), site.record("select")["representation"])
    vectors, scores = load_vectors(represented, "pool"), load_scores(site.folder("select"))
    selection = load_selection(site.folder("select"))
    start = site.record("base")
    forgotten, predictions = predicted(site)
    table = site.folder("select") / "pilot" / "candidates.json"
    by_rule, decided = r.judges.rule != "headline", deciding(site, site.folder("judge"))
    findings = concluded(r.judges.headline, decided)
    contents = report_dict(
        name=r.name,
        model={"id": r.model.id, "revision": start["revision"], "start": r.model.start},
        data=data,
        vectors=vectors,
        scores=scores,
        selection=selection,
        stability=load_frame(site.folder("select") / "stability.parquet").to_dicts(),
        arms=arms,
        models=models,
        findings=findings,
        judges=_as_asked(site),
        verdicts=pl.concat(list(verdicts.values())),
        decided=decided if by_rule else None,
        judged=site.record("judge"),
        judge_error=judge_error(site, findings.comparisons[0]),
        second_opinions={
            name: concluded(name, said) for name, said in verdicts.items() if by_rule or name != r.judges.headline
        },
        sequential=sequential,
        forgotten=forgotten,
        predictions=predictions,
        pilot=read_json(table) if table.exists() else None,
        settings={
            **{name: getattr(r.verify, name) for name in ("stage", "exposure", "rehearsal_share")},
            **{name: site.record("answer").get(name, {}) for name in ("answered_by", "instead_of_vllm")},
        },
        provenance=_provenance(site),
        timing=_timing(site),
    )
    write_json(folder / "report.json", contents)
    write_text(folder / "report.md", markdown(contents))
    shapes = figures(
        pool=data.pool,
        vectors=vectors,
        tasks={one.name: load_vectors(represented, f"task-{one.name}") for one in data.tasks},
        scores=scores,
        selection=selection,
        arms=arms,
        control=r.verify.control,
    )
    write_json(folder / "figures.json", shapes)
    said = examples(
        load_frame(site.folder("answer") / "answers.parquet"),
        decided,
        data.harmful,
        treatment="curated",
        control=r.verify.control,
        task=next(one.name for one in data.tasks if one.anticipated),
    )
    chosen = samples(data.pool, scores, selection)
    write_text(folder / "report.html", webpage(contents, shapes, chosen=chosen, answers=said))
    decision = contents["decision"]
    return {"summary": decision["outcome"] + (f" ({decision['reason']})" if decision["reason"] else "")}


def _as_asked(site: Site) -> Judges:
    """The recipe's judges, with the revision that each guard model resolved to."""
    judges, revisions = site.recipe.judges, site.record("judge")["revisions"]
    panel = [judge.model_copy(update={"revision": revisions[judge.name]}) for judge in judges.panel]
    return judges.model_copy(update={"panel": panel})


def _provenance(site: Site) -> dict[str, Any]:
    from curator.engine import device_of
    from curator.provenance import resolved_threads, versions

    r = site.recipe
    return {
        "seed": r.seed,
        "sources": site.record("pool")["resolved"],
        "versions": versions(),
        "device": device_of(r.engine),
        "threads": resolved_threads(r.engine),
        # Where it ran decides nothing but by threads, and stands under `timing`.
        "recipe": r.model_dump(by_alias=True, exclude={"engine"}),
    }


def _timing(site: Site) -> dict[str, Any]:
    """What differs from run to run: seconds by stage, memory, machine and place."""
    from datetime import UTC, datetime

    from curator.provenance import machine, peak_gib

    finished = [name for name in STAGES if (site.folder(name) / "done.json").exists()]
    return {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "stages": {FOLDERS[name]: site.done(name)["seconds"] for name in finished if name not in ("report", "publish")},
        "machine": machine(),
        **trained_before(site),
        "engine": ran(site),
        "peak_gib": round(peak_gib(), 3),
        "run_folder": str(site.root.absolute()),
    }


def ran(site: Site) -> dict[str, Any]:
    """What ran where: the engine as it was asked for, and for each node (where a piece says none: its host) engine,
    host, node, GPUs, and how many processes made how many pieces in how many seconds.

    A piece is the training, the answers or the losses of one model; on a cluster also a source that was read. Those of
    an earlier run of the folder that were kept are counted where they ran then.
    """
    from curator.provenance import resolved_threads

    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for where in _places(site):
        key = tuple(where.get(name) for name in ("engine", "host", "node"))
        own = found.setdefault(key, {"gpus": set(), "processes": set(), "pieces": 0, "seconds": 0.0})
        own["gpus"] |= set(where.get("gpus", ()))
        own["processes"] |= {where.get("process")}
        own["pieces"] += 1
        own["seconds"] += where["seconds"]
    section = site.recipe.engine
    return {
        **section.model_dump(),
        "threads": resolved_threads(section),
        "nodes": [
            {
                **dict(zip(("engine", "host", "node"), key, strict=True)),
                "gpus": sorted(own["gpus"]),
                "processes": len(own["processes"]),
                "pieces": own["pieces"],
                "seconds": round(own["seconds"], 3),
            }
            for key, own in sorted(found.items(), key=str)
        ],
    }


def trained_before(site: Site) -> dict[str, Any]:
    """What was trained before the grid: `instruction` and `pilot`, each with its models, tokens and seconds; null
    where there was none.
    """
    tuned = site.record("base").get("trained")
    return {"instruction": _spent([tuned] if tuned else []), "pilot": _spent(pilot_trainings(site.root, "*"))}


def _spent(trained: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    if not trained:
        return None
    tokens, seconds = (sum(one[name] for one in trained) for name in ("tokens", "seconds"))
    return {"models": len(trained), "tokens": tokens, "seconds": seconds}


def grid_trainings(root: Path, phase: str) -> list[dict[str, Any]]:
    """What each training of the grid wrote down of itself. `phase`: `before` is alignment, `after` fine-tuning."""
    return _records(root / FOLDERS["train"], phase)


def pilot_trainings(root: Path, phase: str) -> list[dict[str, Any]]:
    """As `grid_trainings`, of the pilot; `phase` may be `*`."""
    return _records(root / FOLDERS["select"] / "pilot" / "train", phase)


def _records(folder: Path, phase: str) -> list[dict[str, Any]]:
    done = (finished(marker.parent) for marker in sorted(folder.glob(f"{phase}/**/{DONE}")))
    return [one["record"] for one in done if one is not None]


def _places(site: Site) -> Iterator[dict[str, Any]]:
    for done in filter(None, map(finished, _pieces(site))):
        yield {**done.get("where", {}), "seconds": done["seconds"]}
    for stage in ("pool", "represent"):
        yield from site.record(stage).get("places", ())


def _pieces(site: Site) -> Iterator[Path]:
    from curator.experiment.plan import BASE, Cell

    cells = [Cell(one["arm"], one["seed"], one["task"]) for one in site.record("train")["models"]]
    for cell in cells:
        yield site.folder("train") / cell.folder
    for cell in {BASE, *cells}:
        yield site.folder("answer") / cell.folder
    for rest in (site.folder("select") / "pilot", site.folder("answer") / "forgetting"):
        yield from (marker.parent for marker in rest.glob("**/done.json"))


def judge_error(site: Site, primary: Comparison) -> dict[str, Any]:
    """The corrected difference, or why there is none, and the sensitivity analysis, for report.json.

    Raises:
        JudgeError: The recipe's `error` file is missing, damaged, or of another judge.
    """
    from curator.decision.judge_error import Labelled, correct

    judge = deciding_judge(site)
    stored = read_stored(judge, judge.error) if judge is not None and judge.error else None
    labels, other = {}, None
    if stored is not None and stored["outcome"] == "harmful":
        labels = {
            arm: Labelled(one["both"], one["only_people"], one["neither"], one["only_judge"])
            for arm, one in stored["judge"]["arms"].items()
        }
    elif stored is not None:
        other = f"the labels are of answers that are {stored['outcome']}, and the comparison is of harm"
    found = correct(primary, labels, seed=site.recipe.seed)
    return {
        "judge": judge.name if judge else None,
        "labels": None if stored is None else {"outcome": stored["outcome"], "run": stored["run"], **stored["labels"]},
        "corrects": found.corrects,
        "why": other or found.why,
        "sensitivity": found.sensitivity,
        "specificity": found.specificity,
        "difference": found.difference,
        "low": found.low,
        "high": found.high,
        "assumed": [
            {"sensitivity": se, "specificity": sp, "difference": value} for (se, sp), value in found.assumed.items()
        ],
        "tipping": found.tipping,
    }
