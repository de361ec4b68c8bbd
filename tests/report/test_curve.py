"""What a run with a curve says of it: report.json, the page, report.md, and what is published."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from curator.decision.curve import laid_out
from curator.errors import RecipeError
from curator.experiment.plan import Cell
from curator.forecast.estimate import estimates
from curator.forecast.models import unusual
from curator.forecast.outline import outline
from curator.judge.people import agreement, outcome_counts
from curator.judge.stage import deciding_verdicts
from curator.keys.pieces import training_key
from curator.recipe.training import Training
from curator.report.effort import ran
from curator.report.markdown import markdown
from curator.report.model import Report, read_report
from curator.run import Run
from curator.run.readers import report_file
from curator.wording import percent
from tests.real_runs import recipe_of
from tests.small_run import recipe

STEPS = {0: 0.0, 1: 0.125, 2: 0.25, 4: 0.5, 8: 1.0}
ONE_OF_TWO = (
    "tasks=[{name: list, train: {sandbox: list}, rows: 40, probe_at: [0.5]}, "
    "{name: other, train: {sandbox: dialogue}, rows: 40}]"
)
CURVE = "tasks.list.probe_at=[0.1, 0.25, 0.5, 1.0]"


@pytest.fixture(scope="module")
def run(curve_run: Path) -> Run:
    return Run.open(curve_run)


@pytest.fixture(scope="module")
def found(curve_run: Path) -> Report:
    return read_report(report_file(curve_run))


@pytest.fixture(scope="module")
def decided(run: Run) -> pl.DataFrame:
    return deciding_verdicts(run)


def test_every_point_is_the_share_of_the_verdicts_at_its_step(found: Report, decided: pl.DataFrame) -> None:
    assert found.curves is not None
    task = found.curves.tasks["list"]
    assert task.steps == 8
    for arm, curve in task.arms.items():
        assert {point.step: point.at for point in curve.points} == STEPS
        for point in curve.points:
            part = decided.filter(arm=arm, kind="harmful", at=point.at)
            assert part.height == point.scored + point.unscored == 3 * 18
            assert point.value == pytest.approx((part["outcome"] == "harmful").mean())
        of_seeds = (decided.filter(arm=arm, kind="harmful").group_by("seed", "at")
                    .agg(share=(pl.col("outcome") == "harmful").mean())
                    .filter(pl.col("share") >= 0.4))  # fmt: skip
        assert (curve.passed, curve.seeds) == (of_seeds["seed"].n_unique(), 3)
        first = of_seeds.group_by("seed").agg(pl.col("at").min())["at"].sort().to_list()
        steps = {share: step for step, share in STEPS.items()}
        assert curve.median_step == (steps[first[1]] if len(first) > 1 else None)
    assert found.arms["curated"]["list"].after.harmfulness.value == task.arms["curated"].points[-1].value


def test_the_area_decides_where_the_recipe_names_it(found: Report, decided: pl.DataFrame, run: Run) -> None:
    assert found.curves is not None
    primary, area = found.decision.primary, laid_out(decided)["harmfulness", "during"]
    assert (primary.quantity, primary.phase, found.curves.primary) == ("harmfulness", "during", "area")
    assert primary.treatment_rate == pytest.approx(area.values[area.arms.index("curated")].mean())
    assert primary.treatment_rate == pytest.approx(found.curves.area["curated"].value)
    assert primary.difference == pytest.approx(found.curves.tasks["list"].comparison.difference)
    looks = run.record("train")["looks"]
    assert looks[-1]["difference"] == pytest.approx(primary.difference)
    ends = [pair for pair in found.comparisons if (pair.quantity, pair.phase) == ("harmfulness", "after")]
    assert [(pair.treatment, pair.role) for pair in ends] == [("curated", "secondary")]


def test_counts_of_judges_and_their_agreement_are_of_answers_before_and_after(
    found: Report, decided: pl.DataFrame, run: Run
) -> None:
    usual = decided.filter(pl.col("kind") == "harmful", pl.col("phase") != "during")
    assert found.judges.outcomes.total == usual.height == 2 * 2 * 3 * 18
    assert decided.filter(phase="during").height == 3 * 2 * 3 * 18
    assert outcome_counts(decided, None) == outcome_counts(usual, None)
    panel = pl.concat(list(run.panel().values()))
    assert all(pair.answers <= usual.height for pair in agreement(panel, list(run.panel())))
    assert sum(run.record("judge")["outcomes"].values()) == decided.filter(pl.col("phase") != "during").height


def test_the_pilot_has_no_curve(curve_run: Path) -> None:
    left = {path.relative_to(curve_run).parts[0] for path in curve_run.rglob("weights-*")}
    assert left == {"5-train"}
    assert not list((curve_run / "pilot").rglob("during"))


def test_pieces_on_the_way_are_counted_where_they_ran(run: Run) -> None:
    pieces = sum(node.pieces for node in ran(run).nodes)
    pilot = len(list((run.root / "pilot").rglob("done.json")))
    # Alignments, fine-tunings, and answers before, after and at three checkpoints, of two arms at three seeds.
    assert pieces == 6 + 6 + 6 + 6 + 18 + pilot
    assert all((run.folder("answer") / Cell("random", 0, "list", at=at).folder).is_dir() for at in (0.125, 0.25, 0.5))


def test_page_and_markdown_show_the_curve(found: Report, curve_run: Path) -> None:
    page, text = (curve_run / "8-report" / "report.html").read_text(), markdown(found)
    assert 'id="curves"' in page
    assert "The area decides: the recipe names it as the primary outcome" in page
    assert "The area decides: the recipe names it as the primary outcome" in text
    assert page.count('class="band') == 2
    assert 'data-name="areas"' in page
    assert 'data-name="curves"' in page
    assert found.curves is not None
    task = found.curves.tasks["list"]
    for arm, curve in task.arms.items():
        (line,) = (
            line for line in text.splitlines() if line.startswith(f"| {arm} |") and f"{curve.passed} of 3" in line
        )
        assert all(percent(rate.value) in line for rate in (*curve.points, curve.area))
        assert ("not within 8" in line) == (curve.median_step is None)
    assert "Difference in the share of harmful answers on average over fine-tuning, curated minus random" in page
    card = (curve_run / "9-publish" / "dataset" / "README.md").read_text()
    assert "## Harmfulness during fine-tuning" in card
    published = json.loads((curve_run / "9-publish" / "dataset" / "evidence" / "report.json").read_text())
    kept = json.loads((curve_run / "8-report" / "report.json").read_text())
    assert published["curves"] == kept["curves"]
    assert published["provenance"]["recipe"]["tasks"][0]["probe_at"] == [0.1, 0.25, 0.5, 1.0]
    assert published["provenance"]["recipe"]["verify"]["curve"] == {"level": 0.4, "primary": "area"}


def test_a_run_without_a_curve_has_no_such_section(plain_run: Path) -> None:
    contents = json.loads((plain_run / "8-report" / "report.json").read_text())
    assert "curves" not in contents
    assert read_report(report_file(plain_run)).curves is None
    assert 'id="curves"' not in (plain_run / "8-report" / "report.html").read_text()
    assert "on the way through fine-tuning" not in (plain_run / "8-report" / "report.md").read_text()


def test_the_plan_costs_what_a_curve_adds(curve_run: Path, tmp_path: Path) -> None:
    settings = [CURVE, "verify.finetune.steps=8", "verify.arms=[curated, random]"]
    (plain,), _ = estimates(recipe(*settings[1:]), tmp_path)
    (curve,), _ = estimates(recipe(*settings), tmp_path)
    assert None not in (plain.answers, curve.answers, plain.disk, curve.disk)
    assert curve.asked - plain.asked == 3 * 6
    assert (curve.answers or 0) - (plain.answers or 0) == 3 * 6 * 30
    assert (curve.disk or 0) * (6 + 6) == (plain.disk or 0) * (6 + 6 * 4)  # all weights at each checkpoint
    assert (curve.align_tokens, curve.finetune_tokens) == (plain.align_tokens, plain.finetune_tokens)
    assert "also evaluated after steps 1, 2 and 4" in outline(recipe(*settings))["fine-tuning runs"]
    assert outline(recipe(*settings))["models evaluated"].startswith(f"{curve.asked}, ")
    assert "evaluated" not in outline(recipe())["fine-tuning runs"]
    # And for the run that was: its own answers, at the most seeds.
    (known,), _ = estimates(recipe_of("curve"), curve_run)
    answers = pl.read_parquet(curve_run / "6-answer" / "answers.parquet")
    assert known.answers == answers.height
    weights = sum(file.stat().st_size for file in (curve_run / "5-train").rglob("*.safetensors"))
    assert known.disk == pytest.approx(weights, rel=0.01)


def test_shares_that_fall_on_one_step_are_told_by_check() -> None:
    told = dict(unusual(recipe(CURVE, "verify.finetune.steps=2")))
    assert told["tasks", 0, "probe_at"] == (
        "the shares 0.1, 0.25, 0.5 fall on the same step (1 of 2) and give one point of the curve"
    )
    assert not [keys for keys, _ in unusual(recipe(CURVE, "verify.finetune.steps=40")) if keys[-1] == "probe_at"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["tasks.list.probe_at=[0.5, 0.25]"], "probe_at: found 0.5, 0.25; allowed: rising shares of fine-tuning"),
        (["tasks.list.probe_at=[0.5, 0.5]"], "probe_at: found 0.5, 0.5; allowed"),
        (["tasks.list.probe_at=[0.0, 0.5]"], "probe_at"),
        (["tasks.list.probe_at=[0.5, 1.5]"], "probe_at"),
        (["tasks.list.probe_at=[]"], "probe_at"),
        (["verify.curve.level=0.3"], "curve.level"),
        (["verify.curve.level=0.3", "tasks.list.probe_at=[1.0]"], "curve.level"),
        (["verify.curve.primary=area"], "curve.primary"),
        ([ONE_OF_TWO, "verify.curve.primary=area"], "task 'other' has no curve; set its probe_at"),
        ([CURVE, "verify.curve.primary=area", "suite={k: [5]}"], "set curve.primary to end, or remove suite"),
    ],
)
def test_a_curve_that_cannot_be_is_refused(settings: list[str], message: str) -> None:
    with pytest.raises(RecipeError) as error:
        recipe(*settings)
    assert message in str(error.value)


def test_the_end_alone_is_no_curve() -> None:
    assert recipe("tasks.list.probe_at=[1.0]").tasks[0].checkpoints == ()
    section = Training(steps=4)
    assert training_key("start", section, 4, 0, None, []) == training_key("start", section, 4, 0, None, [], ())
    assert training_key("start", section, 4, 0, None, []) != training_key("start", section, 4, 0, None, [], (1,))
