"""Stage `report`: the report and its pages, from the results of all stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curator.experiment.plan import rehearsed_rows, rows_by_part
from curator.judge.measure import deciding_judge, read_stored
from curator.judge.stage import deciding_verdicts
from curator.recipe.judge import Judges
from curator.recipe.represent import names_of
from curator.recipe.sweep import mix_of, name_at, settings_of
from curator.recipe.verify import BEST_RANDOM, CURATED, FULL
from curator.report.effort import timing_of
from curator.run import ArmSets, Run
from curator.run.folder import write_json, write_text
from curator.run.names import FIGURES, MARKDOWN, REPORT, WEBPAGE
from curator.train.tracker import tracker_of
from curator.wording import these

if TYPE_CHECKING:
    import polars as pl

    from curator.conclusions import Comparison
    from curator.records import Data, Scores, Vectors
    from curator.report.conclusion import JudgeError as Correction
    from curator.report.facts import Models
    from curator.report.material import Provenance, TaskSetting
    from curator.selection.composition import Composition


def track(run: Run) -> None:
    """Reports every rate of the finished report to the recipe's experiment tracker, as
    `eval_<quantity>/<phase>/<task>/<arm>`.

    Raises:
        RunError: The tracker is not installed.
    """
    tracker = tracker_of(run.recipe)
    if tracker is None:
        return
    from curator.report.model import read_report
    from curator.run.readers import report_file

    rates = {
        f"eval_{quantity}/{phase}/{task}/{arm}": getattr(getattr(phases, phase), quantity).value
        for arm, tasks in read_report(report_file(run.root)).arms.items()
        for task, phases in tasks.items()
        for phase in ("before", "after")
        for quantity in ("harmfulness", "over_refusal", "utility", "degenerate")
    }
    known = {name: rate for name, rate in rates.items() if rate is not None}
    replace(tracker, run=run.folder("report").name).report(known)


def report(run: Run, folder: Path) -> Mapping[str, str]:
    """Concludes from the verdicts of every judge, decides from those of the headline judge, and writes report.json,
    report.md and report.html, with the values of its figures in figures.json.
    """
    import polars as pl

    from curator.conclusions.part import plain
    from curator.decision.comparisons import anticipated
    from curator.decision.depth import depth, flips
    from curator.decision.findings import Findings, conclude
    from curator.experiment.forgetting import predicted
    from curator.report.augmented import recovery, repeats
    from curator.report.bank import bank_of
    from curator.report.conclusion import Sequential
    from curator.report.contents import assemble
    from curator.report.figures import figures
    from curator.report.frontier import frontier_of
    from curator.report.html import examples, samples, webpage
    from curator.report.log_odds import log_odds_of
    from curator.report.markdown import markdown
    from curator.report.material import Model, Stability
    from curator.report.pilot import Pilot

    recipe, data, utility = run.recipe, run.data(), run.utility()
    verdicts = run.panel()
    level, stop, sequential = run.stop()
    bank, table = bank_of(run), run.pilot()
    bank_sets = {} if bank is None else {"bank_sets": bank.subsets + bank.left_out}
    pilot = None if table is None else Pilot.model_validate({**table, **bank_sets})
    doubles = [BEST_RANDOM] if pilot is not None and pilot.draw_won else []
    categories = dict(data.harmful.drop_nulls("category").select("id", "category").iter_rows())
    gates = recipe.verify.gates_checked

    def concluded(judge: str, judged: pl.DataFrame) -> Findings:
        # One judge at a time: its verdicts on probes, and the metrics' on the tasks' own rows.
        cells = pl.concat([judged, utility]).with_columns(pl.lit(judge).alias("judge"))
        return conclude(
            cells, weights=mix_of(recipe), gates=gates, control=recipe.verify.control, categories=categories or None,
            level=level, thresholds=recipe.verify.decision, stop=stop, seed=recipe.seed, curve=recipe.verify.curve,
            rehearsal=recipe.verify.stage == "rehearsal", doubles=doubles,
        )  # fmt: skip

    models = {
        (arm, seed, task and name_at(task, setting)): model.trained
        for (arm, seed, task, setting), model in run.models().items()
    }
    arms, selection, scores, representation = run.arms(), run.selection(), run.selected_by(), run.representation()
    vectors, start = run.vectors("pool", representation), run.record("base")
    forgotten, predictions = predicted(run)
    by_rule, decided = recipe.judges.rule != "headline", deciding_verdicts(run)
    findings = concluded(recipe.judges.headline, decided)
    judged, answered = run.record("judge"), run.record("answer")
    contents = assemble(
        name=recipe.name,
        model=Model(id=recipe.model.id, revision=start["revision"]),
        data=data,
        vectors=vectors,
        covered_by=_covered_by(run, representation),
        scores=scores,
        selection=selection,
        stability=[Stability.model_validate(row) for row in run.stability().iter_rows(named=True)],
        arms=arms,
        models=models,
        findings=findings,
        judges=_as_resolved(run),
        read=run.record("pool")["resolved"].get("pool", {}).get("sources", ()),
        refusals_by=run.record("pool").get("refusals_by"),
        verdicts=pl.concat(list(verdicts.values())),
        decided=decided if by_rule else None,
        costs=judged.get("costs", {}),
        clipped=judged.get("clipped", {}),
        judge_error=judge_error(run, findings.comparisons[0]),
        second_opinions={
            name: concluded(name, judged)
            for name, judged in verdicts.items()
            if by_rule or name != recipe.judges.headline
        },
        sequential=None if sequential is None else Sequential.model_validate(sequential),
        forgotten=forgotten,
        predictions=predictions,
        pilot=pilot,
        design={
            **recipe.verify.model_dump(include={"stage", "exposure", "rehearsal_share"}),
            **{name: answered.get(name) for name in ("answered_by", "instead_of_vllm")},
            "regime": run.regime() if recipe.verify.finds_regime else None,
            "settings": _settings(run, data, models),
            "recovery": recovery(recipe.augment.recovery, run.opened(), arms),
            "repeats": repeats(recipe.select.repeats, run.repeats()),
        },
        log_odds=log_odds_of(run, decided, treatment="curated"),
        bank=bank,
        provenance=_provenance(run),
        timing=timing_of(run),
        depth=depth(decided, anticipated(mix_of(recipe)), "curated", recipe.verify.control),
        flips=flips(decided, anticipated(mix_of(recipe))),
        frontier=frontier_of(selection, run.frontier()),
        composition=_composed(run, scores, vectors),
        composable=recipe.select.may_compose("refusal"),
        warnings=[
            *(warning for warning in [run.mixture()] if warning is not None),
            *_notes(start),
            *(f"{note[0].upper()}{note[1:]}." for note in run.record("select").get("notes", ())),
            *_rehearsed(run, data, arms),
            *_merged(run, {task: model.steps for (_, _, task), model in models.items() if task is not None}),
        ],
    )
    write_json(folder / REPORT, plain(contents))
    write_text(folder / MARKDOWN, markdown(contents))
    shapes = figures(
        pool=data.pool,
        vectors=vectors,
        scores=scores,
        selection=selection,
        arms=arms,
        control=recipe.verify.control,
    )
    write_json(folder / FIGURES, asdict(shapes))
    shown = examples(
        run.answers(),
        decided,
        data.harmful,
        treatment="curated",
        control=recipe.verify.control,
        task=contents.decision.primary.task or next(name for name, weight in contents.tuned.items() if weight),
    )
    chosen = samples(data.pool, scores, selection)
    write_text(folder / WEBPAGE, webpage(contents, shapes, chosen=chosen, answers=shown))
    decision = contents.decision
    return {"summary": decision.outcome + (f" ({decision.reason})" if decision.reason else "")}


def _covered_by(run: Run, number: int) -> str | None:
    """What the vectors that coverage is by are called; null where the model says enough of them."""
    sections = run.recipe.representations
    stated = len(sections) > 1 or sections[number].name is not None or sections[number].side != "both"
    return names_of(sections)[number] if stated else None


def _settings(run: Run, data: Data, models: Models) -> list[TaskSetting] | None:
    """Every setting of every task; null where no task has a sweep."""
    from curator.report.material import TaskSetting

    recipe, finetune, mix = run.recipe, run.finetuning(), mix_of(run.recipe)
    if all(task.sweep is None for task in recipe.tasks):
        return None
    settings = []
    for section, task in zip(recipe.tasks, data.tasks, strict=True):
        for each in settings_of(recipe, section):
            name, training = name_at(task.name, each.name), each.training(finetune)
            settings.append(
                TaskSetting(
                    name=name,
                    task=task.name,
                    weight=mix[name],
                    learning_rate=training.learning_rate,
                    method=training.method,
                    rows=sum(rows_by_part(section, each.rows).values()) if each.rows else task.trained_on,
                    steps=next(trained.steps for (_, _, tuned), trained in models.items() if tuned == name),
                )
            )
    return settings


def _composed(run: Run, scores: Scores, vectors: Vectors) -> list[Composition]:
    """Of the pool, of every arm's sets, and of random sets within the caps on answers where those are not an arm."""
    from curator.selection.composition import Composition, compositions
    from curator.selection.vulnerable import vulnerable_rows

    composed = compositions(
        run.data().pool.rows, run.traits(), scores, run.drawn(), vectors, vulnerable=vulnerable_rows(run)
    )
    shown = (Composition(**each) for each in run.record("select").get("composition", ()))
    return [*composed, *(each for each in shown if each.set not in {other.set for other in composed})]


def _as_resolved(run: Run) -> Judges:
    """The recipe's judges, with the version of each judge's model."""
    judges, revisions = run.recipe.judges, run.record("judge")["revisions"]
    panel = [judge.model_copy(update={"revision": revisions[judge.name]}) for judge in judges.panel]
    return judges.model_copy(update={"panel": panel})


def _provenance(run: Run) -> Provenance:
    from curator.report.material import Provenance

    recipe = run.recipe
    return Provenance(
        seed=recipe.seed,
        sources=run.record("pool")["resolved"],
        **run.computed_with(),
        packages={
            name: shipped
            for stage in ("base", "pool", "represent", "select", "judge")
            for name, shipped in run.record(stage).get("packages", {}).items()
        },
        # Where it ran decides nothing but by threads, and stands under `timing`.
        recipe=recipe.model_dump(mode="json", by_alias=True, exclude={"engine"}),
    )


def _notes(start: Mapping[str, Any]) -> list[str]:
    """What was done with the model that a reader must know, by the record of stage `base`."""
    return [f"{note}." for note in start.get("notes", [])]


def _rehearsed(run: Run, data: Data, arms: ArmSets) -> list[str]:
    """How many rows of each set a rehearsed fine-tuning took, by task and setting."""
    verify, size = run.recipe.verify, len(arms[CURATED, 0])
    if verify.stage != "rehearsal":
        return []
    drawn = f", and of `{FULL}` as many that each seed draws" if (FULL, 0) in arms else ""
    sentences = []
    for section, task in zip(run.recipe.tasks, data.tasks, strict=True):
        for each in settings_of(run.recipe, section):
            trained_on = task.trained_on if each.rows is None else sum(rows_by_part(section, each.rows).values())
            count = rehearsed_rows(trained_on, verify.rehearsal_share)
            sentences.append(
                f"Task `{name_at(task.name, each.name)}`: each fine-tuning mixes in {these(count, 'row', 'rows')} of "
                f"its set, the first in the order in which they were chosen{drawn}. The curated set has "
                f"{these(size, 'row', 'rows')}; a smaller set is repeated from the start."
            )
    return sentences


def _merged(run: Run, steps: Mapping[str, int]) -> list[str]:
    """Which shares of a fine-tuning are one point of its curve."""
    from curator.experiment.curve import together

    return [
        f"Task `{name_at(task.name, each.name)}`, probe_at: {end}."
        for task in run.recipe.tasks
        for each in settings_of(run.recipe, task)
        for end in together(task.checkpoints, steps[name_at(task.name, each.name)])
    ]


def judge_error(run: Run, primary: Comparison) -> Correction:
    """The corrected difference, or why there is none, and the sensitivity analysis, for report.json.

    Raises:
        JudgeError: The recipe's `error` file is missing, damaged, or of another judge.
    """
    from curator.decision.judge_error import Labelled, correct
    from curator.report.conclusion import Assumed, Labels
    from curator.report.conclusion import JudgeError as Correction

    judge = deciding_judge(run)
    stored, labels, other = None, {}, None
    if judge is not None and judge.error:
        revision = run.record("judge")["revisions"].get(judge.name)
        stored = read_stored(judge, judge.error, revision)
        other = _unlike(run, stored, revision, primary)
        if other is None:
            labels = {
                arm: Labelled(counts["both"], counts["only_people"], counts["neither"], counts["only_judge"])
                for arm, counts in stored["judge"]["arms"].items()
            }
    correction = correct(primary, labels, thresholds=run.recipe.verify.decision, seed=run.recipe.seed)
    assumed = (
        {"sensitivity": se, "specificity": sp, "difference": value} for (se, sp), value in correction.assumed.items()
    )
    measured = None if stored is None else {"outcome": stored["outcome"], "run": stored["run"], **stored["labels"]}
    return Correction.model_validate(
        {
            **vars(correction),
            "judge": judge.name if judge else None,
            "labels": measured and Labels.model_validate(measured, extra="ignore"),
            "why": other or correction.why,
            "assumed": tuple(Assumed.model_validate(each) for each in assumed),
        }
    )


def _unlike(run: Run, stored: Mapping[str, Any], revision: str | None, primary: Comparison) -> str | None:
    """Why the measured mistakes are not those of the primary comparison's verdicts; null if they are."""
    measured = stored["judge"]
    if primary.phase != "after":
        return "the labels are of answers after fine-tuning, and the comparison is of the whole of it"
    if stored["outcome"] != "harmful":
        return f"the labels are of answers that are {stored['outcome']}, and the comparison is of harm"
    if measured.get("revision") != revision:
        theirs, ours = (each or "unknown" for each in (measured.get("revision"), revision))
        return f"the judge was measured at revision {theirs}, and its verdicts are of revision {ours}"
    if measured["arms"] and stored["answers"] is None:
        return "the file does not say whose answers were labelled; write it again with `curator judge measure --store`"
    if measured["arms"] and stored["answers"] != run.done("answer")["key"]:
        return f"the labels are of other answers than this run's, those of a run '{stored['run']}'"
    return None
