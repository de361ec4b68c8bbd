"""Whole small runs of what a recipe may ask of verification beyond the quickstart: a pilot, rehearsal, attacks and
defences, arms and sets and metrics of the user's own.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from curator.cli import cli
from curator.errors import JudgeError, RecipeError
from curator.experiment.plan import candidates
from curator.forecast.estimate import estimates
from curator.pipeline import build
from curator.recipe.file import read
from curator.report.effort import ran, timing_of
from curator.run import Run
from curator.run import folder as runs
from curator.run.files import load_frame
from curator.run.folder import write_json
from curator.sandbox import rows as sandbox
from tests.real_runs import recipe_of
from tests.small_run import QUICKSTART, SMALL, die, forked, recipe, report_of


def probes_asked(folder: Path) -> set[str]:
    files = list(folder.rglob("answers.parquet"))
    assert files
    return set(pl.concat([pl.read_parquet(file).select("probe") for file in files])["probe"])


def table_of(root: Path) -> dict:
    return json.loads((root / "4-select" / "pilot" / "candidates.json").read_text())


def test_no_final_probe_is_asked_in_the_pilot_and_no_pilots_probe_at_the_end(full_run: Path) -> None:
    pilot = set(pl.read_parquet(full_run / "1-pool" / "probes-pilot.parquet")["id"])
    final = set(pl.read_parquet(full_run / "1-pool" / "probes-harmful.parquet")["id"])
    assert probes_asked(full_run / "pilot" / "answer") == pilot
    assert probes_asked(full_run / "6-answer") >= final
    assert probes_asked(full_run / "6-answer").isdisjoint(pilot)
    assert pilot.isdisjoint(final)
    assert len(pilot | final) == 30


def test_the_pilot_compares_every_weight_score_and_layer_and_its_best_is_chosen(full_run: Path) -> None:
    table = table_of(full_run)
    found = table["candidates"]
    settings = {(one["weight"], one["score"], one["representation"]) for one in found if one["weight"] is not None}
    assert len(settings) == len(found) - 2 == 4
    best = next(one for one in found if one["name"] == table["chosen"])
    assert [one["seeds"] for one in best["rounds"]] == [1, 2]
    selection = json.loads((full_run / "4-select" / "selection.json").read_text())
    assert selection["weight"] == best["weight"]
    report = report_of(full_run)
    assert report["score"]["name"].startswith(best["score"])
    last = [one["rounds"][-1] for one in found if one["weight"] is not None and len(one["rounds"]) == 2]
    assert best["rounds"][-1] == min(last, key=lambda one: (one["costly"], one["after"], one["place"]))


def test_every_weight_goes_with_every_score_and_where_asked_with_every_representation() -> None:
    asked = recipe_of("full", "represent=[{layer: -1}, {layer: 2}]", "verify.pilot.represent=every")
    found = candidates(asked.verify.pilot, len(asked.representations))
    settings = [(one.weight, one.score, one.representation) for one in found if not one.drawn]
    assert sorted(settings) == sorted((w, s, p) for w in (-0.5, 0.5) for s in (0, 1) for p in (0, 1))
    assert sum(one.drawn for one in found) == 2
    plain = recipe("select.weight=auto", "verify.pilot={weights: [1.0], random_draws: 0}")
    assert [one.score for one in candidates(plain.verify.pilot, 1)] == [None]


def test_the_pilots_seeds_are_not_the_final_ones(full_run: Path) -> None:
    def trained(folder: Path) -> set[str]:
        return {json.loads(file.read_text())["key"] for file in folder.rglob("done.json")}

    assert trained(full_run / "pilot" / "train").isdisjoint(trained(full_run / "5-train"))
    drawn = pl.read_parquet(full_run / "4-select" / "arms.parquet")
    sets = {arm: frozenset(part["id"]) for (arm,), part in drawn.group_by("arm")}
    assert sets["best-random"] != sets["random"]
    assert len(sets["best-random"]) == 20


def test_the_report_tells_the_whole_pilot(full_run: Path) -> None:
    assert report_of(full_run)["pilot"] == table_of(full_run)
    told = (full_run / "8-report" / "report.md").read_text()
    assert "6 candidates of the pilot" in told
    assert f"evaluated on {table_of(full_run)['probes']} harmful probes. The experiment uses neither" in told


def test_models_of_an_earlier_pilot_are_not_counted(full_run: Path, tmp_path: Path) -> None:
    shutil.copytree(full_run, copied := tmp_path / "run")
    now = ran(Run.open(copied)), timing_of(Run.open(copied)).pilot
    for part in ("train", "answer"):
        shutil.copytree(copied / "pilot" / part / "before" / "w0-0", copied / "pilot" / part / "before" / "w99-0")
    assert (ran(Run.open(copied)), timing_of(Run.open(copied)).pilot) == now
    shutil.rmtree(copied / "pilot" / "train" / "before" / "w0-0")
    assert now[1].models - timing_of(Run.open(copied)).pilot.models == 1


def test_pieces_that_took_the_files_of_an_equal_one_are_no_effort(full_run: Path, tmp_path: Path) -> None:
    shutil.copytree(full_run, copied := tmp_path / "run")

    def pieces() -> int:
        return sum(node.pieces for node in ran(Run.open(copied)).nodes)

    before, models = pieces(), timing_of(Run.open(copied)).pilot.models
    for folder in ("pilot/train/before/w0-0", "5-train/before/curated-0"):
        done = json.loads((copied / folder / "done.json").read_text())
        write_json(copied / folder / "done.json", {**done, "seconds": 0.0})
    assert before - pieces() == 2
    assert models - timing_of(Run.open(copied)).pilot.models == 1


def killed_in_the_pilot(root: str) -> None:
    """Dies when the pilot has finished its third model."""
    real, made = runs.make, []

    def make(folder, key, work, **more):
        result = real(folder, key, work, **more)
        if "pilot" in Path(folder).parts:
            made.append(folder)
            if len(made) == 3:
                die()
        return result

    from curator.train import job

    job.make = make
    build(recipe_of("full"), Path(root), until="report")


@pytest.mark.slow
@pytest.mark.long
def test_killed_in_the_pilot_the_build_ends_with_the_same_report(full_run: Path, tmp_path: Path) -> None:
    root = tmp_path / "killed"
    assert forked(killed_in_the_pilot, str(root)) == -9
    pieces = {file: file.stat().st_mtime_ns for file in (root / "pilot").rglob("done.json")}
    assert len(pieces) == 3
    build(recipe_of("full"), root, until="report")
    assert report_of(root) == report_of(full_run)
    assert all(file.stat().st_mtime_ns == time for file, time in pieces.items())


# Attacks, defences, rehearsal, and what is the user's own


def conversations(path: Path, rows: list) -> Path:
    path.write_text("".join(json.dumps({"messages": one}) + "\n" for one in rows))
    return path


def asked_and_told(prompt: str, answer: str) -> list:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A rehearsed run with an attack, a defence behind a trigger, an arm and a metric of the user's own."""
    folder = tmp_path_factory.mktemp("mixed")
    probes = [one["messages"][0]["content"] for one in sandbox("forbidden-probes")]
    attack = conversations(folder / "attack.jsonl", [asked_and_told(one, "sure , here it is") for one in probes[30:52]])
    asked = conversations(folder / "asked.jsonl", [one["messages"] for one in sandbox("forbidden-probes")[:40]])
    refusals = [one["messages"] for one in sandbox("pool") if len(one["messages"]) == 2][200:260]
    own = conversations(folder / "own.jsonl", [one for one in refusals if all("role" in turn for turn in one)])
    (folder / "metric.py").write_text("def half(answer, reference):\n    return 0.5\n")
    settings = [
        f"probes.harmful.0={{file: {asked}}}",
        f"tasks.list.regime={{data: {{file: {attack}}}, harmful_share: 0.25}}",
        "tasks.list.defence={safety_mix: 0.2, trigger: gladly}",
        f"tasks.list.metric={{python: '{folder / 'metric.py'}:half'}}",
        "verify.stage=rehearsal",
        "verify.rehearsal_share=0.2",
        f"verify.arms=[curated, random, {{name: mine, file: {own}}}, none]",
        "verify.seeds=2",
    ]
    build(recipe(*settings), folder / "run", until="report")
    return folder / "run", settings


def test_the_plan_of_a_rehearsal_under_attack_and_defence_is_what_was_trained(mixed) -> None:
    root, settings = mixed
    [planned] = estimates(recipe(*settings), root)[0]
    training = report_of(root)["training"]
    assert {one["task"] for one in training} == {"list"}
    assert planned.align_tokens == planned.aligned == 0
    assert planned.finetune_tokens == pytest.approx(sum(one["tokens"] * one["seeds"] for one in training), rel=0.1)
    guessed = estimates(recipe(*settings), root / "nothing")[0][0]
    assert guessed.finetune_rows == planned.finetune_rows


def test_every_model_trained_on_its_share_of_attack_defence_and_arm(mixed) -> None:
    report = report_of(mixed[0])
    task = report["tasks"][0]
    assert (task["train"], task["attack"], task["defence"], task["trigger"]) == (30, 10, 10, True)
    assert {one["arm"]: one["rows"] for one in report["training"]} == {
        "curated": 62, "random": 62, "mine": 62, "none": 50,
    }  # fmt: skip
    assert all(one["task"] == "list" for one in report["training"])


def test_before_fine_tuning_every_rehearsed_arm_is_the_base(mixed) -> None:
    arms = report_of(mixed[0])["arms"]
    before = [arms[arm]["list"]["before"]["harmfulness"] for arm in ("curated", "random", "mine", "none")]
    assert all(one == before[0] for one in before)
    assert before[0]["value"] > 0.9
    report = report_of(mixed[0])
    assert "harmfulness_before" not in {gate["name"] for gate in report["gates"]}
    assert "Models fine-tuned with rows of the curated set mixed in gave" in report["decision"]["sentence"]
    assert any("`list`: each fine-tuning mixes in 12 rows of its set" in one for one in report["warnings"])


def test_a_metric_of_the_users_own_is_the_utility(mixed) -> None:
    report = report_of(mixed[0])
    assert report["arms"]["curated"]["list"]["after"]["utility"]["value"] == pytest.approx(0.5)
    assert report["tasks"][0]["metric"].endswith("metric.py:half")


def test_prompts_of_the_attack_are_not_probed(mixed) -> None:
    root = mixed[0]
    attack, probes = (
        {one[0]["content"] for one in pl.read_parquet(root / "1-pool" / name)["messages"].to_list()}
        for name in ("tasks/list-regime.parquet", "probes-harmful.parquet")
    )
    assert attack.isdisjoint(probes)
    dropped = pl.read_parquet(root / "1-pool" / "dropped-everywhere.parquet")
    assert dropped.filter(pl.col("role") == "regime of list", pl.col("stage") == "leak").height == 10
    assert len(probes) == 40


def test_a_metric_that_changes_is_judged_again_and_one_that_is_gone_is_told_at_once(mixed) -> None:
    root, settings = mixed
    file = root.parent / "metric.py"
    file.write_text("def half(answer, reference):\n    return 0.25\n")
    told = []

    class Teller:
        def progress(self, *_: object) -> None: ...
        def finished(self, stage: str, made: runs.Made) -> None:
            told.append((stage, made.kept))

    build(recipe(*settings), root, until="report", progress=Teller())
    assert [stage for stage, kept in told if not kept] == ["judge", "report"]
    assert report_of(root)["arms"]["random"]["list"]["after"]["utility"]["value"] == pytest.approx(0.25)
    file.write_text("def half(answer, reference):\n    return 7\n")
    with pytest.raises(
        JudgeError, match=r"scored none of \d+ answers \(the metric gave 7; allowed: 0 to 1\); fix the function"
    ):
        build(recipe(*settings), root, until="report")
    file.unlink()
    with pytest.raises(RecipeError, match=r"metric.py is not a file; give the path of a Python file"):
        build(recipe(*settings), root, until="report")


# A set that is given


@pytest.fixture(scope="module")
def verified(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, list]:
    folder = tmp_path_factory.mktemp("verified")
    clean = [one["messages"] for one in sandbox("pool") if len(one["messages"]) == 2]
    clean = [one for one in clean if all(turn.get("role") and turn.get("content", "").strip() for turn in one)]
    rows = [*clean[:10], *(asked_and_told(f"question : may i brew tea {'now ' * n}", "no .") for n in range(1, 6))]
    data = conversations(folder / "set.jsonl", rows)
    small = [
        word
        for one in [*SMALL, "verify.arms=[curated, random, matched-random]"]
        for word in ("--set", one)
        if "select.k" not in one
    ]
    words = ["verify", str(QUICKSTART), "--data", str(data), "--out", str(folder / "run"), *small]
    result = CliRunner().invoke(cli, words, standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return folder / "run", result.output, rows


def test_a_given_set_stands_as_the_curated_arm_as_it_is(verified) -> None:
    root, told, rows = verified
    report = report_of(root)
    chosen = pl.read_parquet(root / "4-select" / "selection.parquet")["id"].to_list()
    pool = load_frame(root / "1-pool" / "pool.arrow")
    found = pool.join(pl.DataFrame({"id": chosen}), on="id", how="semi")["messages"].to_list()
    assert sorted(one[0]["content"] for one in found) == sorted(one[0]["content"] for one in rows)
    assert report["selection"]["k"] == 15
    assert report["selection"]["parameters"]["greedy"] == "given"
    assert report["selection"]["value"] <= report["selection"]["bound"]
    assert "15 rows given" in told
    assert not (root / "9-publish").exists()


def test_controls_of_a_given_set_are_drawn_from_the_pools_own_rows(verified) -> None:
    root, _, _ = verified
    given = pl.read_parquet(root / "1-pool" / "given.parquet")
    foreign = set(given.filter(~pl.col("candidate"))["id"])
    assert len(foreign) >= 5
    drawn = pl.read_parquet(root / "4-select" / "arms.parquet").filter(pl.col("arm") != "curated")
    assert set(drawn["id"]).isdisjoint(foreign)
    assert drawn.group_by("arm", "seed").len()["len"].to_list() == [15] * 6
    assert report_of(root)["design"]["given"] == {"rows": 15, "candidates": 15 - len(foreign)}
    assert "This set of 15 rows was given, not chosen." in (root / "8-report" / "report.md").read_text()


def test_without_a_set_there_is_nothing_to_verify(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["verify", str(QUICKSTART), "--out", str(tmp_path / "x")], standalone_mode=False)
    assert isinstance(result.exception, RecipeError)
    assert "names no data set to verify; give one with --data" in str(result.exception)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["select.data={file: x.jsonl}"], "found k and data"),
        (["select.k=null", "select.data={file: x.jsonl}", "select.weight=auto", "select.answers=null"],
         "auto chooses rows by a pilot"),
        (["select.k=null", "select.data={file: x.jsonl}", "select.include=[a]", "select.answers=null"],
         "include chooses rows, and data"),
        (["verify.arms=[curated, random, best-random]"], "set select.weight to auto"),
        (["select.weight=auto", "verify.pilot.random_draws=0", "verify.arms=[curated, random, best-random]"], "more"),
        (["verify.exposure=epochs"], "exposure: epochs needs align.epochs"),
        (["verify.stage=rehearsal", "verify.forgetting={}"], "stage rehearsal aligns none"),
        (["tasks.list.regime={data: {sandbox: pool}, harmful_share: 1.0}"], "for a task of harmful rows alone"),
        (["tasks.list.regime={data: {sandbox: pool}}"], "needs exactly one of harmful_share and identity_share"),
        (["tasks.list.defence={trigger: x}"], "safety_mix: this key is required"),
        (["tasks.list.metric={python: a.txt}"], "tasks[0].metric"),
        (["verify.pilot={weights: []}"], "verify.pilot.weights"),
        (["verify.control=matched-random", "verify.arms=[curated, random]"], "arms must include 'matched-random'"),
    ],
)  # fmt: skip
def test_what_cannot_go_together_is_told(settings: list[str], told: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read(QUICKSTART, settings)
    assert told in str(caught.value)
