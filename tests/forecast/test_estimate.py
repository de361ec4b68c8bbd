"""What `check` says of costs, against sums done the long way and against runs that were."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

import curator
from curator.cli import cli
from curator.decision.decide import GATES
from curator.decision.power import passing, seeds_to_pass
from curator.decision.sequential import detectable
from curator.experiment.plan import Cell, Tally, plan
from curator.forecast import estimate as estimating
from curator.forecast.estimate import estimates, shortages
from curator.forecast.lengths import with_lengths
from curator.forecast.measured import Measured, kinds_noted, measured
from curator.forecast.models import looked_at
from curator.forecast.outline import outline
from curator.forecast.power import GATE_PRIOR, PRIOR
from curator.forecast.problems import examine
from curator.forecast.speed import seconds_for
from curator.forecast.workload import arm_rows, trainings
from curator.model.size import model_size
from curator.pipeline import build
from curator.recipe.file import open_file, read
from curator.run.files import POOL, PROBES
from curator.run.folder import write_text
from tests.real_runs import recipe_of
from tests.small_run import QUICKSTART, SMALL, recipe

NOTHING = Path("no run here")
RECIPES = QUICKSTART.parent


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimating, "gpu_count", lambda: 0)


def report_of(root: Path) -> dict[str, Any]:
    return json.loads((root / "8-report" / "report.json").read_text())


def records(folder: Path) -> list[dict[str, Any]]:
    """What every piece below a folder wrote down of itself, and its seconds."""
    done = [json.loads(marker.read_text()) for marker in folder.rglob("done.json")]
    return [{**one["record"], "took": one["seconds"]} for one in done]


def test_rows_tokens_and_answers_are_those_of_the_grid() -> None:
    (found,), told = estimates(recipe(), NOTHING)
    # three arms at three, three and two seeds are aligned; the arm none is fine-tuned at one
    assert (found.aligned, found.finetuned, found.asked) == (8, 9, 18)
    assert found.align_rows == 8 * 2 * 40  # 4 steps are two epochs of 20 + 20 rows
    assert found.finetune_rows == 9 * 40
    assert (found.align_tokens, found.finetune_tokens) == (8 * 80 * 48, 9 * 40 * 48)
    assert found.answers == 18 * (30 + 15 + 20)
    assert found.answer_tokens == found.answers * 14
    assert "max_tokens per row" in told["alignment total"]


def test_openings_and_samples_multiply_the_answers_to_probes_and_leave_test_rows() -> None:
    opened, drawn = "probes.prefill=[0, 1, 3]", "verify.generate={max_new_tokens: 14, samples: 3, temperature: 0.7}"
    for settings, each, samples in ((opened,), 3 * 30 + 15, 1), ((drawn,), 30 + 15, 3), ((opened, drawn), 105, 3):
        (found,), _ = estimates(recipe(*settings), NOTHING)
        assert found.answers == 18 * (each * samples + 20)
        assert found.answer_tokens == found.answers * 14
    told = outline(recipe(opened, drawn))["models evaluated"]
    assert "3 answers to each probe, sampled at temperature 0.7" in told
    assert "harmful probes also with 1 and 3 tokens of a prefilled opening" in told
    assert "sampled" not in outline(recipe())["models evaluated"]
    piloted = ("select.weight=auto", "verify.pilot={random_draws: 1}")
    (usual,), _ = estimates(recipe(*piloted), NOTHING)
    (more,), _ = estimates(recipe(*piloted, opened, drawn), NOTHING)
    assert usual.pilot is not None
    assert more.pilot is not None
    assert more.pilot.answers == 3 * (usual.pilot.answers or 0)  # whose probes are asked without openings


def test_check_names_an_opening_that_the_model_has_no_words_for(tmp_path: Path) -> None:
    def problems(*settings: str) -> list[str]:
        return [sentence for _, sentence in looked_at(recipe("probes.prefill=[4]", *settings))[0]]

    assert problems("probes.opening='gladly, take the things'") == []
    [unknown] = problems()  # the built-in opening
    assert "this model's tokenizer does not know" in unknown
    [short] = problems("probes.opening='gladly, take'")
    assert short.startswith("found 4, but this model's tokenizer reads probes.opening as 3 tokens")
    assert looked_at(recipe()) == ([], [])


def test_epochs_are_whole_batches_of_the_rows_and_unknown_rows_are_unknown() -> None:
    epochs = "verify.align={method: full, epochs: 2.5, batch: 16, micro_batch: 16, max_tokens: 48}"
    (found,), _ = estimates(recipe(epochs), NOTHING)
    assert found.align_rows == 8 * (2 * 40 + 32)  # 20 + 20 rows are 3 batches; 2.5 epochs of them 8 steps
    (found,), told = estimates(recipe(epochs, "select.k=null", "select.budget_tokens=500"), NOTHING)
    assert found.align_rows is found.align_tokens is found.train_seconds is None
    assert "the number of rows is known when they are chosen" in told["alignment total"]
    assert "training unknown" in told["time"]


def test_settings_of_a_task_train_on_their_own_rows_and_by_their_own_method() -> None:
    epoch = "verify.finetune={method: full, learning_rate: 6e-4, epochs: 1, batch: 4, micro_batch: 4, max_tokens: 48}"
    [plain], _ = estimates(recipe(epoch), NOTHING)
    swept = recipe(epoch, "tasks.list.sweep={rows: [12, 40], method: [full, lora]}", "verify.decision.over=worst")
    [found], _ = estimates(swept, NOTHING)
    assert plain.finetune_rows == 9 * 40
    assert (found.aligned, found.finetuned, found.finetune_rows) == (plain.aligned, 4 * 9, 2 * 9 * (12 + 40))
    size = model_size("sandbox:", None)
    assert size is not None
    adapters = 2 * 9 * 4 * 16 * size.linear
    assert found.disk == plain.disk + 9 * 4 * size.parameters + adapters
    words = outline(swept)
    assert "list@rows=12,method=lora: 9 of 3 steps x 4 rows (lora)" in words["fine-tuning runs"]
    assert "list: 9 of 10 steps x 4 rows (full)" in words["fine-tuning runs"]
    assert words["decision"].startswith("over the worst of 4 anticipated tasks or settings")
    assert "decision" not in outline(recipe())


def test_the_time_without_a_run_is_operations_over_a_stated_speed() -> None:
    size = model_size("sandbox:")
    assert size is not None
    (found,), told = estimates(recipe("engine.workers=2", "engine.threads=1"), NOTHING)
    tokens = (found.align_tokens or 0) + (found.finetune_tokens or 0)
    assert found.train_seconds == pytest.approx(6 * size.parameters * tokens / (2 * 2e10))
    assert found.answer_seconds == pytest.approx(2 * size.parameters * (found.answer_tokens or 0) / (2 * 2e9))
    assert "assumed: 20 GFLOP/s per core" in told["time"]
    lora = "verify.align={method: lora, rank: 4, steps: 4, batch: 32, micro_batch: 32, max_tokens: 48, "
    lora += "checkpointing: true}"
    (adapted,), _ = estimates(recipe("engine.workers=2", "engine.threads=1", lora), NOTHING)
    assert adapted.train_seconds == pytest.approx(found.train_seconds)  # 4 + 2 operations instead of 6
    assert adapted.disk == 8 * 4 * 4 * size.linear + 9 * 4 * size.parameters
    assert found.disk == (8 + 9) * 4 * size.parameters


@pytest.mark.parametrize("speed", [None, 100.0])
def test_workers_are_together_no_faster_than_the_cores(speed: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curator.forecast.speed.cores", lambda: 2)

    def seconds(*settings: str, at_once: int) -> float | None:
        return seconds_for(recipe(*settings), 1000, speed, 6, model_size("sandbox:"), at_once=at_once)

    two = seconds("engine.workers=2", at_once=2)
    assert two is not None
    assert seconds("engine.workers=16", at_once=16) == two
    assert seconds("engine.workers=2", "engine.threads=1", at_once=2) == two
    if speed is None:
        assert seconds("engine.workers=2", "engine.threads=8", at_once=2) == two
        assert seconds("engine.workers=1", "engine.threads=1", at_once=1) == 2 * two
    else:
        assert two == 1000 / speed / 2
        assert seconds("engine.workers=2", "engine.threads=2", at_once=2) == 2 * two
    ray = ["engine.kind=ray", "engine.workers=16", "engine.threads=1"]
    assert seconds(*ray, at_once=16) == pytest.approx(two / 8)


def test_checkpoints_answer_as_often_as_the_recipe_says() -> None:
    checkpoints = "tasks.list.probe_at=[0.5, 1.0]"
    drawn = ["verify.generate.samples=5", "verify.generate.temperature=0.7"]
    (plain,), (more,), (sampled,), (both,) = (
        estimates(recipe(*settings), NOTHING)[0] for settings in ([], [checkpoints], drawn, [checkpoints, *drawn])
    )
    assert plain.answers is not None
    assert more.answers > plain.answers
    assert both.answers - sampled.answers == 5 * (more.answers - plain.answers)


@pytest.mark.parametrize("name", ["plain", "full"])
def test_check_plans_what_the_report_of_a_finished_run_says(name: str, request: pytest.FixtureRequest) -> None:
    root = request.getfixturevalue(f"{name}_run")
    report = report_of(root)
    training, timing = report["training"], report["timing"]
    (found,), _ = estimates(recipe_of(name), root)
    assert found.counted == "all"

    def reported(*, before: bool) -> float:
        return sum(one["tokens"] * one["seeds"] for one in training if (one["task"] is None) is before)

    assert found.align_tokens == pytest.approx(reported(before=True), rel=0.1)
    assert found.finetune_tokens == pytest.approx(reported(before=False), rel=0.1)
    planned = found.train_seconds
    spent = timing["training"]["align_seconds"] + timing["training"]["finetune_seconds"]
    if name == "full":
        instruction, pilot = timing["instruction"], timing["pilot"]
        assert found.pilot is not None
        assert found.instruct_tokens == pytest.approx(instruction["tokens"], rel=0.1)
        assert found.pilot.aligned + found.pilot.finetuned == pilot["models"]
        assert found.pilot.align_tokens + found.pilot.finetune_tokens == pytest.approx(pilot["tokens"], rel=0.1)
        planned += found.pilot.train_seconds
        spent += instruction["seconds"] + pilot["seconds"]
    else:
        assert timing["instruction"] is timing["pilot"] is found.pilot is None
        assert found.instruct_rows == found.instruct_tokens == 0
    assert planned == pytest.approx(spent, rel=0.3)  # one worker: seconds of trainings are seconds of the run


def test_what_the_report_says_of_pilot_and_instruction_stage_is_what_their_pieces_say(full_run: Path) -> None:
    timing = report_of(full_run)["timing"]
    for name, folder in (("pilot", "pilot/train"), ("instruction", "0-base/instruction")):
        pieces = records(full_run / folder)
        assert timing[name]["models"] == len(pieces)
        assert timing[name]["tokens"] == sum(piece["tokens"] for piece in pieces)
        assert timing[name]["seconds"] == pytest.approx(sum(piece["seconds"] for piece in pieces))


def test_each_training_of_the_grid_reads_the_rows_and_tokens_that_were_planned(full_run: Path) -> None:
    chosen = recipe_of("full")
    loads = trainings(chosen, plan(chosen.verify, ["list"]), measured(chosen, full_run))
    assert len(loads) == 13
    for load in loads:
        assert load.cell is not None
        done = json.loads((full_run / "5-train" / load.cell.folder / "done.json").read_text())["record"]
        assert load.rows == load.section.rows_seen(done["rows"], done["steps"])
        assert load.tokens == done["tokens"]  # whole epochs, so nothing is left to the mean row


def test_answers_and_their_speed_are_those_of_the_run(full_run: Path) -> None:
    (found,), told = estimates(recipe_of("full"), full_run)
    pieces = [one for phase in ("before", "after") for one in records(full_run / "6-answer" / phase)]
    assert found.answers == sum(one["answers"] for one in pieces)
    assert found.pilot is not None
    # The speed is that of all answers so far, those of the pilot too.
    every = [*pieces, *(one for phase in ("before", "after") for one in records(full_run / "pilot" / "answer" / phase))]
    assert len(every) > len(pieces)
    each = sum(one["took"] for one in every) / sum(one["answers"] for one in every)
    assert found.answer_seconds == pytest.approx(found.answers * each)
    assert found.pilot.answers == sum(one["answers"] for one in records(full_run / "pilot" / "answer"))
    assert f"measured in {full_run}" in told["time"]
    for line in ("instruction tuning", "alignment total", "fine-tuning total", "pilot"):
        assert f"tokens counted in {full_run}" in told[line]


def test_a_speed_of_other_threads_or_devices_is_not_that_of_the_run(
    plain_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curator.provenance.cores", lambda: 4)
    assert measured(recipe(), plain_run).finetune is not None
    for engine in ("{workers: 2}", "{kind: ray, gpus_per_worker: 1}"):
        assert measured(recipe(f"engine={engine}"), plain_run).finetune is None
    # One thread a process, as in the run.
    assert measured(recipe("engine={workers: 4}"), plain_run).finetune is not None


def test_the_spread_is_that_of_the_primary_comparison(plain_run: Path) -> None:
    (found,), told = estimates(recipe("verify.seeds=4"), plain_run)
    primary = report_of(plain_run)["decision"]["primary"]
    spread = {name: primary[name] for name in PRIOR}
    assert found.detectable == detectable(4, 30, **spread)
    assert f"measured in {plain_run}" in told["smallest detectable difference"]


EVERYTHING = {field.name for field in fields(Measured)}


@pytest.mark.parametrize(
    ("setting", "lost"),
    [
        ("verify.seeds=2", set()),
        ("select.k=21", {"arms"}),
        ("probes.benign.0.rows=14", {"tallies", "arms"}),
        ("verify.generate.max_new_tokens=13", {"answers"}),
        ("verify.finetune.max_tokens=47", {"finetune", "spread", "gates"}),
        ("verify.align.steps=5", {"spread", "gates"}),
        ("engine.threads=2", {"align", "finetune", "instruct", "answers"}),
        ("model.chat_template=chatml", EVERYTHING),
    ],
)
def test_only_what_is_still_about_the_same_thing_is_used(plain_run: Path, setting: str, lost: set[str]) -> None:
    found = measured(recipe(setting), plain_run)
    assert {name for name, value in vars(found).items() if not value} == lost


def test_a_set_that_a_pilot_chose_in_another_way_is_not_used(full_run: Path) -> None:
    assert measured(recipe_of("full", "verify.seeds=1"), full_run).arms
    assert not measured(recipe_of("full", "verify.pilot.seeds=2"), full_run).arms


def test_rows_that_were_not_chosen_yet_are_the_mean_row_of_the_pool(plain_run: Path) -> None:
    (found,), told = estimates(recipe("select.k=40", "verify.keep=null"), NOTHING)
    assert found.align_tokens == (found.align_rows or 0) * 48
    known = measured(recipe("select.k=40"), plain_run)
    rows = arm_rows(recipe("select.k=40"), Cell("curated", 0), known)
    pool = pl.read_ipc(plain_run / "1-pool" / POOL)
    assert rows == Tally(40, 40, pytest.approx(40 * pool["tokens"].mean()))
    assert "upper limit: max_tokens per row" in told["alignment total"]


def test_tokens_that_no_run_has_counted_are_estimated_from_the_lengths_of_rows(plain_run: Path) -> None:
    lengths = examine(open_file(QUICKSTART, SMALL)).lengths
    (most,), _ = estimates(recipe(), NOTHING)
    (rough,), told = estimates(recipe(), NOTHING, lengths)
    (counted,), _ = estimates(recipe(), plain_run, lengths)
    assert (rough.counted, counted.counted) == ("estimated", "all")
    for name in ("align_tokens", "finetune_tokens"):
        assert getattr(rough, name) == pytest.approx(getattr(counted, name), rel=0.3)
        assert getattr(rough, name) < 0.6 * getattr(most, name)
    assert rough.train_seconds < 0.6 * most.train_seconds
    assert "estimated from the number of characters, 3.5 a token" in told["alignment total"]


def test_the_lengths_of_every_role_are_known_where_its_rows_are() -> None:
    mixed = [
        "tasks.0.regime={identity_share: 0.1, data: {sandbox: dialogue, rows: 30}}",
        "tasks.0.defence={safety_mix: 0.1}",
        "verify.arms=[curated, random, {name: own, sandbox: mixed, rows: 30}]",
    ]
    lengths = examine(open_file(QUICKSTART, [*SMALL, *mixed])).lengths
    assert {*lengths} == {"pool", "keep", "train list", "regime list", "defence list", "arm own"}
    assert all(len(each) and each.min() > 0 for each in lengths.values())


def test_candidates_that_are_too_long_for_the_pool_are_no_part_of_its_mean_row() -> None:
    known = with_lengths(Measured(), {"pool": pl.Series([35, 70, 3500])}, recipe("pool.clean.max_tokens=20"))
    assert known.tallies["pool"] == Tally(2, 2, 30.0, counted=False)


def test_seeds_that_show_only_large_differences_are_told_with_the_number_that_shows_smaller_ones() -> None:
    (sentence,) = shortages(recipe(), NOTHING)
    assert "3 paired seeds can show, with 80% power, a difference in harmfulness of 59.4 points or more" in sentence
    enough = int(re.search(r"give (\d+) seeds or more", sentence).group(1))
    below, there = (estimates(recipe(f"verify.seeds={count}"), NOTHING)[0][0] for count in (enough - 1, enough))
    assert there.detectable <= 0.3 < below.detectable
    assert shortages(recipe(f"verify.seeds={enough}"), NOTHING) == ()
    assert shortages(read(QUICKSTART), NOTHING) == ()


def test_rows_that_no_training_reads_are_told_with_the_limit_that_leaves_them_out() -> None:
    long, roles = pl.Series([70] * 8 + [700] * 2), ("pool", "keep", "train list", "test list", "harmful")
    enough = recipe("verify.seeds=24", "verify.finetune.max_tokens=100", "verify.align.max_tokens=100")
    sentences = shortages(enough, NOTHING, dict.fromkeys(roles, long))
    assert [sentence.partition(";")[0] for sentence in sentences] == [
        "verify.align.max_tokens: found 100, and trainings leave out about 2 of 10 rows of verify.keep (20%), which "
        "are longer",
        "verify.finetune.max_tokens: found 100, and trainings leave out about 2 of 10 rows of the task 'list' (20%), "
        "which are longer",
    ]  # the pool's own limit leaves its long rows out
    few = pl.Series([70] * 9 + [700])
    assert shortages(enough, NOTHING, dict.fromkeys(roles, few)) == ()


def test_rows_that_a_run_has_counted_are_told_as_they_are(copy_of_run: Path) -> None:
    short = recipe("verify.finetune.max_tokens=17")
    tally = measured(short, copy_of_run).tallies["train list"]
    (sentence,) = (each for each in shortages(short, copy_of_run) if "max_tokens" in each)
    assert f" {tally.rows - tally.kept} of {tally.rows} rows of the task 'list'" in sentence
    assert "leave out about" not in sentence


def test_the_plan_says_how_many_seeds_ten_points_take() -> None:
    told = estimates(recipe(), NOTHING)[1]["smallest detectable difference"]
    needed = int(re.search(r"\(10 points take (\d+) seeds; ", told).group(1))
    below, there = (estimates(recipe(f"verify.seeds={count}"), NOTHING)[0][0] for count in (needed - 1, needed))
    assert there.detectable <= 0.1 < below.detectable
    few = estimates(recipe("probes.harmful.0.rows=4"), NOTHING)[1]["smallest detectable difference"]
    assert "10 points are out of reach" in few
    looks = recipe("verify.seeds={first: 3, max: 6}")
    assert "10 points" not in estimates(looks, NOTHING)[1]["smallest detectable difference"]


def test_a_folder_that_a_run_of_another_recipe_left_is_not_counted(copy_of_run: Path) -> None:
    changed = recipe("probes.benign.0.rows=14")
    assert measured(recipe(), copy_of_run).spread is not None
    build(changed, copy_of_run, until="base")
    assert measured(changed, copy_of_run).tallies == {}
    assert measured(changed, copy_of_run).spread is None
    build(changed, copy_of_run, until="pool")
    assert measured(changed, copy_of_run).tallies["benign"].rows == 14


def test_a_run_of_a_version_that_reads_otherwise_is_no_measurement(copy_of_run: Path) -> None:
    assert measured(recipe(), copy_of_run) != Measured()
    write_text(copy_of_run / "recipe.yaml", "name: old\nunknown: 1\n")
    assert measured(recipe(), copy_of_run) == Measured()


def test_a_run_of_a_version_that_wrote_fewer_files_gives_what_it_has(copy_of_run: Path) -> None:
    (copy_of_run / "1-pool" / PROBES["pilot"]).unlink()
    tallies = measured(recipe(), copy_of_run).tallies
    assert "pilot" not in tallies
    assert tallies["pool"].rows == 300


ALONE = """\
import sys
from curator.cli import cli
cli.main(["check", *sys.argv[1:], "--json"], standalone_mode=False)
heavy = {"torch", "transformers", "datasets"} & set(sys.modules)
assert not heavy, heavy
"""


def test_a_finished_run_is_looked_at_without_torch(full_run: Path) -> None:
    command = [sys.executable, "-c", ALONE, str(full_run / "recipe.yaml"), "--out", str(full_run)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (planned,), _ = estimates(recipe_of("full"), full_run)
    assert json.loads(done.stdout)["estimates"] == json.loads(json.dumps([asdict(planned)]))


def test_instruction_tuning_is_part_of_the_plan_of_llama() -> None:
    (found,), told = estimates(read(RECIPES / "llama.yaml"), NOTHING)
    assert found.instruct_rows == 3 * 52000
    assert found.instruct_tokens == 3 * 52000 * 1024
    assert "1 run, 156,000 rows" in told["instruction tuning"]
    (without,), _ = estimates(read(RECIPES / "llama.yaml", ["model.instruction=null"]), NOTHING)
    size = model_size("meta-llama/Llama-2-7b-hf")
    assert size is not None
    parts = (found.align_tokens or 0) + (found.finetune_tokens or 0)
    assert without.train_seconds == pytest.approx(found.train_seconds * parts / (parts + found.instruct_tokens))
    assert found.disk == without.disk + 4 * 16 * size.linear


def test_the_outline_names_as_many_candidates_as_the_pilot_runs(full_run: Path) -> None:
    ran = json.loads((full_run / "4-select" / "pilot" / "candidates.json").read_text())["candidates"]
    drawn = sum(candidate["weight"] is None for candidate in ran)
    tried = f"a pilot of {len(ran) - drawn} candidates and {drawn} random draws on 1 seed,"
    assert tried in outline(recipe_of("full"))["selected"]
    many = recipe(
        "select.weight=auto",
        "represent=[{layer: -1}, {layer: 2}, {layer: 1}]",
        "verify.pilot={weights: [-1, 0, 1], represent: every, random_draws: 2}",
    )
    assert "a pilot of 9 candidates and 2 random draws on 3 seeds," in outline(many)["selected"]


def test_random_draws_cost_what_as_many_candidates_cost() -> None:
    def trained(*settings: str) -> int:
        (found,), _ = estimates(recipe("select.weight=auto", *settings), NOTHING)
        assert found.pilot is not None
        return found.pilot.aligned

    alone = trained("verify.pilot={random_draws: 0}")
    assert trained() == 2 * alone
    assert trained("verify.pilot={random_draws: 2}") < 2 * alone


def test_the_plan_tells_of_the_embedder_that_a_score_needs() -> None:
    content = "{from: content, embedder: {id: owner/other}}"
    asked = recipe(f"score={{from: rank-sum, of: [{{from: content}}, {content}, {{from: format}}]}}")
    both = f"by {asked.pool.embedder.id} and owner/other, for the score `content`"
    assert outline(asked)["embedded"] == f"the prompt of every row of pool and tasks, {both}"
    assert "embedded" not in outline(recipe("score={from: format}"))


def test_the_plan_tells_of_log_odds_only_where_they_are_asked_for() -> None:
    def told(*settings: str) -> str | None:
        return estimates(recipe(*settings), NOTHING)[1].get("log-odds")

    texts = "verify.log_odds={refuse: [no, sorry], comply: [yes]}"
    assert told() is None
    assert str(told(texts)).startswith("2 refusing and 1 complying openers, after every harmful probe")
    assert "at most 2 tokens, learned from the pilot" in str(told("select.weight=auto", "verify.log_odds=pilot"))
    bank = ("select.by=bank", "select.weight=null")
    assert "of every model of the bank and of the experiment." in str(told(*bank, texts))
    assert "of every model of the experiment. The bank runs before" in str(told(*bank, "verify.log_odds=pilot"))
    assert "loads every model once more" not in str(told(texts))
    assert "loads every model once more" in str(told(texts, "verify.generate.engine=vllm"))


def test_the_spread_is_a_stated_prior_until_one_is_measured() -> None:
    (found,), told = estimates(recipe(), NOTHING)
    assert found.detectable == detectable(3, 30, **PRIOR)
    assert "seed 0.15, prompt 0.15, residual 0.50, a prior" in told["smallest detectable difference"]
    (one,), told = estimates(recipe("verify.arms=[curated, random]", "verify.seeds=1"), NOTHING)
    assert one.detectable is None
    assert "at least two paired seeds" in told["smallest detectable difference"]


def test_a_gates_chance_is_that_of_its_own_prompts_and_a_stated_prior() -> None:
    gates = ("verify.gates={harmfulness_before: 0.04, utility: 0.1}", "tasks.0.test.rows=25", "verify.seeds=8")
    (found,), told = estimates(recipe(*gates), NOTHING)
    margins = {"harmfulness_before": 0.04, "over_refusal": 0.05, "utility": 0.1, "degenerate": 0.05}
    asked = {"harmfulness_before": 30, "over_refusal": 15, "utility": 25, "degenerate": 30}
    assert {gate.name: gate.margin for gate in found.gates} == margins
    for gate in found.gates:
        assert gate.chance == passing(margins[gate.name], 8, asked[gate.name], **GATE_PRIOR)
        assert gate.needed == seeds_to_pass(margins[gate.name], asked[gate.name], GATE_PRIOR)
    assert "utility 86% (80% with 7 seeds)" in told["chance that a gate passes"]
    assert "between seeds: 0.03, a prior)" in told["chance that a gate passes"]


def test_a_rehearsal_has_no_gate_on_the_base_compared_with_itself() -> None:
    (found,), told = estimates(recipe("verify.stage=rehearsal", "verify.gates.harmfulness_after=0.5"), NOTHING)
    assert [gate.name for gate in found.gates] == ["over_refusal", "utility", "degenerate"]
    assert "harmfulness before" not in told["chance that a gate passes"]
    assert list(recipe("verify.stage=rehearsal").verify.gates_checked) == ["over_refusal", "utility", "degenerate"]
    assert list(recipe("verify.gates.harmfulness_after=0.5").verify.gates_checked) == list(GATES)


def test_a_gates_spread_is_that_of_an_earlier_run(plain_run: Path) -> None:
    (found,), told = estimates(recipe("verify.seeds=4"), plain_run)
    pairs = [pair for pair in report_of(plain_run)["comparisons"] if pair["role"] != "primary"]
    for gate, (quantity, phase) in GATES.items():
        if gate == "harmfulness_after":  # an absolute cap
            continue
        pair = next(
            pair
            for pair in pairs
            if (pair["quantity"], pair["phase"], pair["treatment"], pair["control"], pair["task"])
            == (quantity, phase, "curated", "random", None)
        )
        chance = next(one for one in found.gates if one.name == gate)
        assert chance.measured
        assert chance.spread == {name: pair[name] for name in PRIOR}
    assert f"measured in {plain_run}: " in told["chance that a gate passes"]


def test_looks_are_told_at_their_most_and_at_the_first() -> None:
    found, told = estimates(recipe("verify.seeds={max: 20}"), NOTHING)
    assert [one.seeds for one in found] == [20, 6]
    assert [one.aligned for one in found] == [42, 14]
    last, first = (one.detectable or 0 for one in found)
    assert detectable(20, 30, **PRIOR) < last < first  # type: ignore[operator]
    assert told["disk for weights"].startswith("with 20 seeds: ")
    assert "; with 6 seeds: " in told["time"]
    assert [one.seeds for one in estimates(recipe("verify.seeds={max: 6}"), NOTHING)[0]] == [6]


def test_a_model_that_is_not_here_is_said_to_be_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    (found,), told = estimates(recipe("model.id=owner/model"), NOTHING)
    assert found.train_seconds is found.disk is None
    assert "owner/model is not on this machine" in told["time"]
    assert told["disk for weights"].startswith("unknown")


def test_check_prints_the_estimates_and_gives_them_as_json() -> None:
    told = CliRunner().invoke(cli, ["check", str(QUICKSTART), "--json"])
    whole = json.loads(told.output)
    assert whole["estimates"][0]["aligned"] == 14
    assert "smallest detectable difference" in whole["plan"]


def test_check_says_of_a_finished_choice_which_arms_hold_other_kinds_than_the_pool(tmp_path: Path) -> None:
    arms = "verify.arms=[curated, random, low-similarity, high-similarity]"
    lines = []
    for number in range(60):
        what, reply = ("bells", "i cannot help with number") if number % 2 else ("straw and moss", "take straw")
        lines.append(json.dumps({"prompt": f"ask {number} of {what}", "response": f"{reply} {number}."}))
    (tmp_path / "pool.jsonl").write_text("\n".join(lines))
    chosen = recipe(f"pool.sources=[{{file: '{tmp_path / 'pool.jsonl'}'}}]", "pool.refusals=phrases", arms)
    root = tmp_path / "run"
    assert kinds_noted(chosen, root) == ()
    build(chosen, root, until="select")
    noted = kinds_noted(chosen, root)
    traits = pl.read_parquet(root / "1-pool" / "traits.parquet")
    drawn = pl.read_parquet(root / "4-select" / "arms.parquet").join(traits, on="id")
    shares = {arm: (part["refusal"] == "refusal").mean() for (arm,), part in drawn.group_by("arm")}
    fewest = min(("low-similarity", "high-similarity"), key=shares.__getitem__)
    assert shares[fewest] < 0.4
    (few,) = [sentence for sentence in noted if f"the arm `{fewest}` has a smaller share" in sentence]
    assert few.startswith(f"select: in {root}, ")
    assert f"({shares[fewest]:.0%}, the pool 50%)" in few
    assert kinds_noted(recipe(), root) == ()  # another choice of rows
    assert {*noted} <= {*curator.check(root / "recipe.yaml", out=root).warnings}
