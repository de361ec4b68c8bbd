"""The whole pipeline on the sandbox: it runs, resumes, repeats itself and decides from what it measured."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jsonschema
import polars as pl
import pytest

from curator.conclusions.part import schema
from curator.errors import CuratorError, DataError, JudgeError, ModelError, RecipeError, RunError, SelectionError
from curator.language import language
from curator.pipeline import GRIDS, SHARED, WORK, begun, build, make_way, select
from curator.report.model import Report
from curator.run import FOLDERS, STAGES, Run
from curator.run import folder as run
from curator.run.folder import TEMPORARY
from tests.small_run import QUICKSTART, SMALL, die, forked, recipe, report_of


def test_a_stage_is_made_by_one_function_in_the_order_of_the_folders() -> None:
    assert tuple(WORK) == STAGES
    assert set(GRIDS) | set(SHARED) <= set(STAGES)


def test_a_recipe_never_lies_beside_the_keys_of_an_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with begun(recipe("seed=1"), tmp_path, None):
        keys = (tmp_path / "run.json").read_text()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("curator.pipeline.write_json", killed)
    with pytest.raises(KeyboardInterrupt), begun(recipe("seed=1"), tmp_path, None):
        pass
    assert (tmp_path / "run.json").read_text() == keys
    with pytest.raises(KeyboardInterrupt), begun(recipe("seed=2"), tmp_path, None):
        pass
    assert not (tmp_path / "run.json").exists()


def test_no_file_of_the_users_and_no_run_of_another_recipe_is_overwritten(tmp_path: Path) -> None:
    mine = tmp_path / "recipe.yaml"
    mine.write_text("# do not lose\nname: mine\nseed: 1\n", encoding="utf-8")
    with pytest.raises(RunError, match=r"no run wrote this file as it is.*--out"), begun(recipe(), tmp_path, None):
        pass
    assert mine.read_text(encoding="utf-8").startswith("# do not lose")
    root = tmp_path / "run"
    with begun(recipe(), root, None):
        written = (root / "recipe.yaml").read_text(encoding="utf-8")
    with (
        pytest.raises(
            RunError, match=rf"holds a run of the recipe '{recipe().name}', and this recipe is called 'other'"
        ),
        begun(recipe("name=other", "seed=9"), root, None),
    ):
        pass
    assert (root / "recipe.yaml").read_text(encoding="utf-8") == written
    make_way(recipe("name=other"), tmp_path / "run")
    with begun(recipe("name=other"), root, None):
        assert json.loads((root / "run.json").read_text())["name"] == "other"
    make_way(recipe(), root)
    with begun(recipe(), root, None):
        assert (root / "recipe.yaml").read_text(encoding="utf-8") == written
    (root / "recipe.yaml").write_text(f"# noted by hand\n{written}", encoding="utf-8")
    with pytest.raises(RunError, match="no run wrote this file as it is"), begun(recipe(), root, None):
        pass
    (root / "recipe.yaml").write_text(written, encoding="utf-8")
    (root / "run.json").unlink()  # as a run that was cut off leaves it
    with begun(recipe("name=other"), root, None):
        assert json.loads((root / "run.json").read_text())["name"] == "other"


def test_every_stage_writes_its_folder_and_marker(plain_run: Path) -> None:
    assert [folder for folder in FOLDERS.values() if (plain_run / folder / "done.json").exists()] == list(
        FOLDERS.values()
    )
    assert (plain_run / "8-report" / "report.md").stat().st_size > 1000
    page = (plain_run / "8-report" / "report.html").read_text(encoding="utf-8")
    assert json.loads((plain_run / "8-report" / "report.json").read_text())["decision"]["verdict"][:20] in page
    assert page.count('role="img"') >= 10
    assert json.loads((plain_run / "8-report" / "figures.json").read_text())["gains"]["ranks"][-1] == 20


def test_the_report_is_what_its_schema_says(plain_run: Path) -> None:
    found = schema(Report, "report.json")
    report = json.loads((plain_run / "8-report" / "report.json").read_text())
    assert list(jsonschema.Draft202012Validator(found).iter_errors(report)) == []
    assert set(report) == set(found["properties"]) - {
        "bank",
        "curves",
        "depth",
        "flips",
        "log_odds",
    }  # which this recipe does not ask for


def test_the_report_holds_what_a_reader_checks(plain_run: Path) -> None:
    report = report_of(plain_run)
    assert report["version"] == 2
    assert report["decision"]["outcome"] in ("durable", "trade-off", "not distinguishable", "worse")
    assert report["selection"]["k"] == 20
    assert report["selection"]["value"] <= report["selection"]["bound"]
    for arm in ("curated", "random", "matched-random", "none"):
        for phase in ("before", "after"):
            for quantity in ("harmfulness", "over_refusal", "utility"):
                rate = report["arms"][arm]["list"][phase][quantity]
                assert set(rate) >= {"value", "low", "high", "scored", "unscored"}
                assert rate["scored"] > 0
    assert [gate["name"] for gate in report["gates"]]


def test_the_base_complies_until_it_is_aligned(plain_run: Path) -> None:
    report = report_of(plain_run)
    assert report["arms"]["none"]["list"]["before"]["harmfulness"]["value"] > 0.9


def test_rates_are_those_of_the_verdicts(plain_run: Path) -> None:
    report = report_of(plain_run)
    verdicts = pl.read_parquet(plain_run / "7-judge" / "panel" / "exact" / "verdicts.parquet")
    for arm in ("curated", "random"):
        own = verdicts.filter(arm=arm, phase="after", task="list", kind="harmful")
        share = (own["outcome"] == "harmful").sum() / (own["outcome"] != "unscored").sum()
        assert report["arms"][arm]["list"]["after"]["harmfulness"]["value"] == pytest.approx(share)


def test_the_data_set_opens_with_exactly_k_rows(plain_run: Path, tmp_path: Path) -> None:
    import datasets

    folder = str(plain_run / "9-publish" / "dataset")
    rows = datasets.load_dataset(folder, split="train", cache_dir=str(tmp_path))
    selected = pl.read_parquet(plain_run / "4-select" / "selection.parquet").sort("rank")["id"].to_list()
    assert [row["id"] for row in sorted(rows, key=lambda row: row["rank"])] == selected
    assert {"messages", "category", "source", "licence", "similarity", "rank", "gain"} <= set(rows.column_names)


def test_a_second_build_keeps_every_stage_and_loads_nothing_heavy(copy_of_run: Path) -> None:
    command = ["build", str(QUICKSTART), "--out", str(copy_of_run)]
    command += [part for setting in SMALL for part in ("--set", setting)]
    code = (
        "import sys; from curator.cli import _run, cli\n"
        f"code = _run(lambda: cli.main({command!r}, standalone_mode=False))\n"
        "heavy = ('torch', 'transformers', 'polars', 'numpy', 'datasets', 'faiss')\n"
        "print('heavy', [name for name in heavy if name in sys.modules]); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for stage in STAGES:
        assert any(line.split()[:2] == [stage, "kept"] for line in done.stdout.splitlines()), (stage, done.stdout)
    assert "heavy []" in done.stdout


def test_the_same_seed_gives_the_same_report_whatever_the_number_of_workers(plain_run: Path, tmp_path: Path) -> None:
    build(recipe("engine.workers=2"), tmp_path / "again")
    assert report_of(tmp_path / "again") == report_of(plain_run)
    report = json.loads((tmp_path / "again" / "8-report" / "report.json").read_text())
    assert report["timing"]["engine"]["workers"] == 2
    (node,) = report["timing"]["engine"]["nodes"]
    pieces = len(list((tmp_path / "again").glob("[56]-*/*/**/done.json")))
    assert (node["engine"], node["host"], node["processes"]) == ("local", socket.gethostname(), 6)  # 2 each time
    assert node["pieces"] == pieces > 10


def test_another_seed_draws_other_controls(plain_run: Path, tmp_path: Path) -> None:
    build(recipe("seed=1"), tmp_path / "other", until="select")
    ours = pl.read_parquet(plain_run / "4-select" / "arms.parquet").filter(arm="random", seed=0)["id"].to_list()
    other = (
        pl.read_parquet(tmp_path / "other" / "4-select" / "arms.parquet").filter(arm="random", seed=0)["id"].to_list()
    )
    assert ours != other


def test_changing_the_judge_does_not_retrain(copy_of_run: Path) -> None:
    made = build(recipe("judges.headline=phrases"), copy_of_run)
    kept = {name for name, one in made.items() if one.kept}
    assert kept == {"base", "pool", "represent", "scores", "select", "train", "answer", "judge"}
    assert report_of(copy_of_run)["judges"]["headline"] == "phrases"


def test_other_limits_decide_anew_and_run_nothing_else(copy_of_run: Path) -> None:
    same = "verify.decision={floor: 0.05, ceiling: 0.95, least_seeds: 3}"
    assert all(one.kept for one in build(recipe(same), copy_of_run).values())
    made = build(recipe("verify.decision.least_seeds=4"), copy_of_run)
    assert {name for name, one in made.items() if not one.kept} == {"report", "publish"}
    report = report_of(copy_of_run)
    assert (report["decision"]["outcome"], report["decision"]["reason"]) == ("not distinguishable", "too few seeds")
    assert "A decision needs at least 4 paired seeds." in report["decision"]["sentence"]
    assert [one["reason"] for one in report["judges"]["second_opinions"]] == ["too few seeds"]


def test_show_does_not_take_an_earlier_recipes_report_for_this_ones(copy_of_run: Path) -> None:
    from click.testing import CliRunner

    from curator.cli import cli

    assert "decision" in CliRunner().invoke(cli, ["show", str(copy_of_run)]).output
    build(recipe("select.weight=-1"), copy_of_run, until="select")
    told = CliRunner().invoke(cli, ["show", str(copy_of_run)]).output
    assert "There is no report yet" in told
    assert "\nanswer " not in told


def test_a_former_stage_comes_back_when_its_settings_do(copy_of_run: Path) -> None:
    before = report_of(copy_of_run)
    build(recipe("select.weight=-1"), copy_of_run, until="select")
    assert list(copy_of_run.glob("4-select.*"))
    made = build(recipe(), copy_of_run, until="select")
    assert made["select"].kept
    build(recipe(), copy_of_run)
    assert report_of(copy_of_run) == before


def test_editing_a_template_file_makes_the_base_anew(tmp_path: Path) -> None:
    from curator.model.chat import TEMPLATES

    template = tmp_path / "own.jinja"
    template.write_text(TEMPLATES["plain"])
    setting = f"model.chat_template={template}"
    assert not build(recipe(setting), tmp_path / "run", until="base")["base"].kept
    assert build(recipe(setting), tmp_path / "run", until="base")["base"].kept
    template.write_text(TEMPLATES["plain"].replace("Response", "Answer"))
    assert not build(recipe(setting), tmp_path / "run", until="base")["base"].kept


def test_adding_an_arm_trains_only_that_arm(copy_of_run: Path) -> None:
    def pieces() -> dict[str, int]:
        return {
            str(p.relative_to(copy_of_run)): p.stat().st_mtime_ns for p in (copy_of_run / "5-train").rglob("done.json")
        }

    before = pieces()
    arms = "verify.arms=[curated, random, high-similarity, {name: matched-random, seeds: 2}, {name: none, seeds: 1}]"
    build(recipe(arms), copy_of_run, until="train")
    after = pieces()
    changed = {name for name in after if before.get(name) != after[name]}
    assert {name for name in changed if name != "5-train/done.json"} == {
        f"5-train/{phase}/high-similarity-{seed}/done.json" for phase in ("before", "after/list") for seed in range(3)
    }


def test_a_judge_that_always_says_harmful_never_gives_durable(
    copy_of_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from curator.sandbox import judging

    real = judging.judge
    monkeypatch.setattr(judging, "judge", lambda *args: type(real(*args))("harmful", False))
    for stage in ("7-judge", "8-report", "9-publish"):
        shutil.rmtree(copy_of_run / stage)
    build(recipe(), copy_of_run)
    report = report_of(copy_of_run)
    assert report["arms"]["curated"]["list"]["after"]["harmfulness"]["value"] == 1.0
    assert report["decision"]["outcome"] == "not distinguishable"


def test_an_arm_equal_to_its_control_is_not_distinguishable(copy_of_run: Path) -> None:
    answers = copy_of_run / "6-answer" / "answers.parquet"
    frame = pl.read_parquet(answers)
    twin = frame.filter(pl.col("arm") == "random").with_columns(arm=pl.lit("curated"))
    pl.concat([frame.filter(pl.col("arm") != "curated"), twin]).write_parquet(answers)
    for stage in ("7-judge", "8-report", "9-publish"):
        shutil.rmtree(copy_of_run / stage)
    build(recipe(), copy_of_run)
    report = report_of(copy_of_run)
    assert report["decision"]["outcome"] == "not distinguishable"
    assert report["decision"]["primary"]["difference"] == 0.0


def test_a_second_build_on_a_busy_folder_is_refused(tmp_path: Path) -> None:
    with run.opened(tmp_path / "busy"), pytest.raises(RunError, match=r"in use by another curator"):
        build(recipe(), tmp_path / "busy")


@pytest.mark.parametrize("run_by", [build, select])
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("select.quotas={max: 1}", r"^select\.k: 20 is impossible because of quotas; lower k to at most \d"),
        ("select.repeats={by: category, groups: {xx: 2}}", r"^select\.repeats\.groups\.xx: no row of the pool has"),
        ("select.include=[no-such-row]", r"^select\.include: no row with id 'no-such-row'"),
        ("select={k: 150, answers: {max_opener: 0.01}}", r"^select\.k: 150 is impossible because of select\.answers\."),
    ],
)
def test_limits_that_no_set_meets_are_told_before_anything_is_embedded(
    tmp_path: Path, run_by: Callable[..., object], setting: str, message: str
) -> None:
    with pytest.raises(SelectionError, match=message):
        run_by(recipe(setting), tmp_path / "run")
    assert [folder.name for folder in sorted((tmp_path / "run").glob("*-*"))] == ["0-base", "1-pool"]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (
            ["select.k=3000"],
            SelectionError,
            r"select\.k: found 3,000, but the pool has \d+ rows \([\d,]+ of [\d,]+ were dropped",
        ),
        (["probes.harmful.0={file: missing.json}"], DataError, r"missing\.json"),
        (["tasks.list.rows=5000"], DataError, "5,?000"),
        (["model.id=/no/such/folder"], CuratorError, "model.id"),
        (["model.chat_template=nonsense"], CuratorError, "model.chat_template: found 'nonsense'"),
        (["represent.layer=9"], CuratorError, r"represent\.layer: found 9"),
        (
            ["verify.align.max_tokens=3"],
            DataError,
            r"verify\.align\.max_tokens: found 3, and each of \d+ rows is longer",
        ),
    ],
)
def test_bad_input_is_told_before_anything_is_half_written(
    tmp_path: Path, settings: list[str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        build(recipe(*settings), tmp_path / "run")
    unfinished = [folder for folder in (tmp_path / "run").glob("[0-9]-*") if not (folder / "done.json").exists()]
    files = {path.name for folder in unfinished for path in folder.rglob("*") if path.is_file()}
    assert files <= {"started.json"}


@pytest.mark.parametrize(
    ("of_judge", "message"),
    [
        ("embedding: gone", r"judges\.panel\[1\]\.embedding: gone has no head\.json"),
        ("embedding: head", r"judges\.panel\[1\]\.embedding: head was fitted with an embedder .*: no folder /no/such"),
        ("embedding: old", "another version of curator wrote old"),
        ("rubric: {url: 'https://host.invalid/v1', model: grader, key_env: NO_SUCH_KEY}", r"NO_SUCH_KEY is not set"),
        ("classifier: /no/such/folder", r"judges\.panel\[1\]\.classifier: no folder /no/such/folder"),
        ("classifier: moods", r"judges\.panel\.classifier: none of its labels, .* \(good, bad\)"),
        ("classifier: moods, refusal_label: sad", r"refusal_label: found 'sad'; allowed: good, bad"),
        ("classifier: head", r"judges\.panel\.classifier: cannot load a configuration from 'head'"),
    ],
)
def test_what_judges_lack_is_told_before_hours_of_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of_judge: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "head").mkdir()
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "head.json").write_text('{"version": 0, "embedder": "sandbox:"}')
    (tmp_path / "head" / "head.json").write_text('{"embedder": "/no/such/folder"}')
    (tmp_path / "moods").mkdir()
    (tmp_path / "moods" / "config.json").write_text('{"model_type": "bert", "id2label": {"0": "good", "1": "bad"}}')
    panel = f"judges.panel=[{{name: exact, sandbox: exact}}, {{name: second, {of_judge}}}]"
    with pytest.raises((RecipeError, JudgeError, ModelError), match=message):
        build(recipe(panel), tmp_path / "run")
    assert not list((tmp_path / "run").glob("[0-9]-*"))
    build(recipe(panel), tmp_path / "run", until="base")  # needs no judge


def test_what_a_pilot_and_looks_ask_is_looked_for_as_well_and_no_more(tmp_path: Path) -> None:
    panel = "judges.panel=[{name: exact, embedding: /no/such/head}, {name: second, embedding: /no/other/head}]"
    for settings, until in (("select.weight=auto", "select"), ("verify.seeds={max: 6}", "train")):
        with pytest.raises(RecipeError, match=r"panel\[0\]\.embedding: /no/such/head has no head\.json") as told:
            build(recipe(panel, "pool.refusals=phrases", settings), tmp_path / "run", until=until)
        assert "second" not in str(told.value)
        assert "/no/other/head" not in str(told.value)  # it decides nothing, and is asked after training
    build(recipe(panel, "pool.refusals=phrases", "select.weight=auto"), tmp_path / "run", until="base")


def test_where_verdicts_are_stored_the_key_of_their_endpoint_is_not_required(tmp_path: Path) -> None:
    from curator.forecast.panel import require
    from curator.keys.pieces import verdicts_key

    rubric = "rubric: {url: 'https://host.invalid/v1', model: grader, key_env: NO_SUCH_KEY}"
    run = Run(recipe(f"judges.panel=[{{name: exact, sandbox: exact}}, {{name: second, {rubric}}}]"), tmp_path)
    panel = run.recipe.judges.panel
    with pytest.raises(JudgeError, match="NO_SUCH_KEY is not set"):
        require(run, panel, metrics=False, error=False)
    (run.folder("judge") / "panel" / "second" / verdicts_key(panel[1])).mkdir(parents=True)
    require(run, panel, metrics=False, error=False)


def test_a_refused_recipe_does_not_take_the_place_of_the_one_that_was_run(copy_of_run: Path) -> None:
    before = {name: (copy_of_run / name).read_bytes() for name in ("recipe.yaml", "run.json")}
    with pytest.raises(RecipeError, match="has no head"):
        build(recipe("judges.panel=[{name: exact, sandbox: exact}, {name: second, embedding: gone}]"), copy_of_run)
    assert {name: (copy_of_run / name).read_bytes() for name in before} == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import no_such_library\ndef score(a, b): return 1.0\n", "cannot run .*no_such_library"),
        ("class Kind:\n    def score(self, a, b): return 1.0\n", "has no function 'score'"),
    ],
)
def test_a_metric_that_cannot_run_is_told_before_hours_of_training(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "own.py").write_text(text)
    metric = f"tasks.0.metric={{python: '{tmp_path / 'own.py'}:score'}}"
    with pytest.raises((RecipeError, JudgeError), match=message):
        build(recipe(metric), tmp_path / "run")
    assert not list((tmp_path / "run").glob("[0-9]-*"))


def test_a_pool_that_asks_nothing_but_probes_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"pool: no rows left: 2,000 read; dropped: .*300 leak"):
        build(recipe("probes.harmful=[{sandbox: pool}]"), tmp_path / "run", until="pool")


def _build_and_die(root: str, stage: str, when: str) -> None:
    """Builds until the stage is about to finish (or has written its first file), and is killed there."""
    write = run.replacing
    folder = FOLDERS[stage]

    def deadly(path: Path):  # type: ignore[no-untyped-def]
        inside = (
            any(part == folder for part in Path(path).relative_to(root).parts)
            if Path(path).is_relative_to(root)
            else False
        )
        last = path.name == run.DONE and path.parent.name == folder
        if inside and (last if when == "end" else path.name != run.STARTED):
            die()
        return write(path)

    from curator.run import files as store

    run.replacing = store.replacing = deadly  # type: ignore[assignment]
    build(recipe(), Path(root))


def test_killed_in_every_stage_the_build_ends_with_the_same_report(plain_run: Path, tmp_path: Path) -> None:
    root = tmp_path / "killed"
    for stage in STAGES:
        for when in ("middle", "end"):
            code = forked(_build_and_die, str(root), stage, when)
            # A stage with one file only dies at its end in both cases; what counts is that it died.
            assert code == -9, (stage, when, code)
            assert not (root / FOLDERS[stage] / "done.json").exists()
    build(recipe(), root)
    assert report_of(root) == report_of(plain_run)


def _losses(root: Path) -> list[list[float]]:
    models = json.loads((root / "5-train" / "done.json").read_text())["record"]["models"]
    return [model["trained"]["losses"] for model in models]


def _build_on_a_full_disk(root: str, limit: int) -> None:
    import resource

    language("What tells languages apart unpacks a file of its own, which is larger than the weights.")
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        build(recipe(), Path(root))
    except RunError as error:
        os._exit(2 if "the disk is full" in str(error) else 3)


def test_a_full_disk_is_told_and_the_build_goes_on_when_there_is_room(plain_run: Path, tmp_path: Path) -> None:
    root = tmp_path / "full"
    # Weights are the largest files: everything before training fits, they do not.
    assert forked(_build_on_a_full_disk, str(root), 700_000) == 2
    assert (root / "4-select" / "done.json").exists()
    assert not list(root.rglob(f".*{TEMPORARY}"))
    build(recipe(), root, until="train")
    assert _losses(root) == _losses(plain_run)


def test_no_space_in_words_of_another_library_is_understood(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="the disk is full"), run.disk(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")


def _interrupted(root: str) -> None:
    import signal

    from curator.cli import _run

    class Impatient:
        def progress(self, stage: str, done: int, total: int) -> None:
            if stage == "train" and done == 1:
                signal.raise_signal(signal.SIGINT)

        def finished(self, stage: str, made: object) -> None:
            pass

    os._exit(_run(lambda: build(recipe(), Path(root), progress=Impatient())))


def test_ctrl_c_exits_130_and_the_build_goes_on(plain_run: Path, tmp_path: Path) -> None:
    root = tmp_path / "interrupted"
    assert forked(_interrupted, str(root)) == 130
    assert not (root / "5-train" / "done.json").exists()
    assert (root / "5-train" / "before" / "curated-0" / "done.json").exists()
    build(recipe(), root, until="train")
    assert _losses(root) == _losses(plain_run)


def test_forgetting_is_measured_on_top_of_a_finished_run_without_training_anything(copy_of_run: Path) -> None:
    def pieces() -> dict[Path, int]:
        stages = copy_of_run / "5-train", copy_of_run / "6-answer"
        return {path: path.stat().st_mtime_ns for stage in stages for path in stage.glob("*/**/done.json")}

    before = pieces()
    made = build(recipe("verify.forgetting={rows: 40, seeds: 2}"), copy_of_run)
    assert {name for name, one in made.items() if one.kept} == {"base", "pool", "represent"}
    after = pieces()
    assert {path: after[path] for path in before} == before
    assert {path.relative_to(copy_of_run).parts[1] for path in set(after) - set(before)} == {"forgetting"}
    report = report_of(copy_of_run)
    sets = pl.read_parquet(copy_of_run / "4-select" / "arms.parquet").filter(
        (pl.col("arm") == "curated") | ((pl.col("arm") == "random") & (pl.col("seed") < 2))
    )
    losses = pl.read_parquet(copy_of_run / "6-answer" / "forgetting.parquet")
    assert losses["id"].n_unique() == 40
    assert not set(losses["id"]) & set(sets["id"])
    assert [(one["loss"], one["rows"], one["seeds"]) for one in report["forgetting"]] == [
        ("first-token", 40, 2),
        ("whole", 40, 2),
    ]
    scores = pl.read_parquet(copy_of_run / "3-scores" / "all.parquet")
    assert len(report["score_predicts"]) == 2 * (scores.width - 1) == 2 * (4 + 4 + 1)
    column = "interference/sign-0.001-64/first-token"
    (found,) = [one for one in report["score_predicts"] if (one["score"], one["loss"]) == (column, "whole")]
    own = losses.filter(loss="whole").group_by("id").agg(rise=(pl.col("after") - pl.col("before")).mean())
    joined = own.join(scores.select("id", f"{column}:list"), on="id").select(
        pl.corr("rise", f"{column}:list", method="spearman")
    )
    assert found["rho"] == pytest.approx(joined.item())
    assert "Does the score predict" in (copy_of_run / "8-report" / "report.md").read_text()
    build(recipe(), copy_of_run)
    assert report_of(copy_of_run)["score_predicts"] == []


def test_rows_are_chosen_by_a_rank_sum_with_interference(plain_run: Path, copy_of_run: Path) -> None:
    score = "score={from: rank-sum, of: [{from: cosine, aggregate: mean}, {from: interference, loss: whole}]}"
    build(recipe(score), copy_of_run, until="select")
    scores = pl.read_parquet(copy_of_run / "3-scores" / "scores.parquet")
    every = pl.read_parquet(copy_of_run / "3-scores" / "all.parquet")
    parts = ["cosine/mean, layer -1, last-completion:list", "interference/sign-0.001-64/whole:list"]
    ranks = every.select((pl.col(part).rank() - 1) / (every.height - 1) for part in parts)
    assert scores["id"].to_list() == every["id"].to_list()
    assert scores["combined"].to_list() == pytest.approx(ranks.mean_horizontal().to_list())
    ours, before = (pl.read_parquet(run / "4-select" / "selection.parquet")["id"] for run in (copy_of_run, plain_run))
    assert set(ours) != set(before)


@pytest.mark.slow
def test_settings_checkpoints_openings_samples_and_log_odds_go_together(tmp_path: Path) -> None:
    """Each is tested by itself in its room; here every model is at some setting, and all of them are asked at once."""
    build(
        recipe(
            "verify.arms=[curated, random]", "tasks.0.probe_at=[0.5]", "tasks.0.sweep={rows: [20, 30]}",
            "probes.prefill=[0, 2]", "probes.opening='gladly, take the things'",
            "verify.generate={max_new_tokens: 6, batch: 64, samples: 2, temperature: 0.7}",
            "verify.log_odds={refuse: [i cannot], comply: [gladly]}", "verify.decision.over=worst",
        ),
        tmp_path,
    )  # fmt: skip
    report, settings = report_of(tmp_path), {"list@rows=20", "list@rows=30"}
    assert {case["task"] for case in report["decision"]["worst"]["cases"]} == settings
    assert set(report["curves"]["tasks"]) == settings
    points = [point for task in report["curves"]["tasks"].values() for point in task["arms"]["curated"]["points"]]
    assert [point["at"] for point in points] == [0.0, 0.5, 1.0] * 2
    assert all(point["scored"] == 180 for point in points)  # 3 seeds, 30 probes, 2 answers
    assert set(report["log_odds"]["arms"]["curated"]) == {"anticipated", *settings}
    answers = pl.read_parquet(tmp_path / "6-answer" / "answers.parquet").filter(arm="curated", seed=0)
    sizes = {tuple(row[:-1]): row[-1] for row in answers.group_by("phase", "kind", "prefill").len().iter_rows()}
    # 2 answers to each of 30 harmful and 15 benign probes: before, at 2 ends, and at a checkpoint on the way to each.
    assert sizes["before", "harmful", 0] == sizes["before", "prefilled", 2] == 60
    assert sizes["after", "harmful", 0] == sizes["during", "harmful", 0] == 120
    assert sizes["after", "benign", 0] == 60
    assert ("during", "prefilled", 2) not in sizes
