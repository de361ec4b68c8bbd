"""Runs of one experiment with other seeds, as one difference."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from scipy import stats

from curator.cli import cli
from curator.decision.statistics import crossed, interval
from curator.decision.tables import Grid
from curator.errors import RunError
from curator.pipeline import build
from curator.report.model import read_report
from curator.report.together import _differ, table, together
from curator.run import Run
from curator.run.folder import write_json
from tests.small_run import recipe

Change = Callable[[str, str], str]


@pytest.fixture(scope="module")
def again(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plain run once more, with another seed, hence other probes and models."""
    root = tmp_path_factory.mktemp("again") / "run"
    build(recipe("seed=8", "verify.seeds=2"), root, until="report")
    return root


def cells(root: Path, phase: str = "after") -> dict[tuple[str, int], dict[str, float]]:
    """(arm, seed) -> harmful probe -> 1 where the answer is harmful."""
    rows = Run.open(root).verdicts("exact").filter(pl.col("outcome") != "unscored", kind="harmful", phase=phase)
    found: dict[tuple[str, int], dict[str, float]] = {}
    for arm, seed, probe, outcome in rows.select("arm", "seed", "probe", "outcome").iter_rows():
        found.setdefault((arm, seed), {})[probe] = float(outcome == "harmful")
    return found


def test_each_run_has_the_difference_of_its_report(plain_run: Path, again: Path) -> None:
    found = together([str(plain_run), str(again)])
    (after, before) = found.contrasts
    assert (after.phase, after.task, before.phase) == ("after", None, "before")
    for root, each in zip((plain_run, again), after.each, strict=True):
        primary = read_report(root / "8-report" / "report.json").decision.primary
        for name in ("treatment", "control", "difference", "low", "high", "seeds", "prompts", "pairs"):
            assert getattr(each, name) == getattr(primary, name), name


@pytest.mark.parametrize("phase", ["after", "before"])
def test_all_seeds_and_probes_make_one_difference(plain_run: Path, again: Path, phase: str) -> None:
    found = together([str(plain_run), str(again)])
    whole = next(contrast.together for contrast in found.contrasts if contrast.phase == phase)
    rows: list[dict[str, float]] = []
    for root, seeds in ((plain_run, 3), (again, 2)):
        values = cells(root, phase)
        rows += [
            {probe: ours - values["random", seed][probe] for probe, ours in values["curated", seed].items()}
            for seed in range(seeds)
        ]
    probes = sorted({probe for row in rows for probe in row})
    assert len(probes) > max(map(len, rows))  # the runs asked other probes
    values = np.array([[row.get(probe, np.nan) for probe in probes] for row in rows])
    limits = interval(crossed(values[None]))
    assert whole.difference == pytest.approx(np.nanmean(values))
    assert (whole.seeds, whole.prompts, whole.pairs) == (5, len(probes), int((~np.isnan(values)).sum()))
    assert None not in {whole.low, whole.high, limits.low, limits.high}
    # The report's interval may be Hall's where the arms' spreads differ, which is never narrower.
    assert whole.low <= limits.low + 1e-12  # type: ignore[operator]
    assert whole.high >= limits.high - 1e-12  # type: ignore[operator]
    assert whole.df == 4
    assert whole.unscored == 0  # what no run has is not left out


def test_a_third_arm_can_be_named(plain_run: Path, again: Path) -> None:
    found = together([f"{plain_run}:matched-random", str(again)])
    assert found.treatments == ("matched-random", "curated")
    ours = cells(plain_run)
    expected = np.mean(
        [
            value - ours["random", seed][probe]
            for seed in range(2)  # as many as this arm has
            for probe, value in ours["matched-random", seed].items()
        ]
    )
    assert found.contrasts[0].each[0].difference == pytest.approx(expected)
    with pytest.raises(RunError, match=r"found the arm 'nobody' to compare with random; allowed: curated"):
        together([f"{plain_run}:nobody", str(again)])


def test_runs_that_differ_more_than_their_seeds_say_so(plain_run: Path, again: Path) -> None:
    after = together([str(plain_run), str(again)]).contrasts[0]
    estimates = []
    for root, seeds in ((plain_run, 3), (again, 2)):
        values = cells(root)
        rows = [[ours - values["random", n][at] for at, ours in values["curated", n].items()] for n in range(seeds)]
        estimates.append(crossed(np.array(rows)[None]))
    # Of two runs it is Welch's t.
    (one, first, some), (other, second, few) = ((each.mean, each.variance, each.df) for each in estimates)
    df = (first + second) ** 2 / (first**2 / some + second**2 / few)
    assert after.differ_p == pytest.approx(2 * stats.t.sf(abs(one - other) / (first + second) ** 0.5, df))


@pytest.mark.parametrize(("runs", "seeds"), [(2, 3), (3, 3), (3, 6)])
def test_runs_that_differ_by_chance_are_seldom_called_different(runs: int, seeds: int) -> None:
    random, wrong = np.random.default_rng(0), 0
    for _ in range(400):
        # One prompt's rate in two halves, so that seeds alone vary.
        levels = random.normal(0.0, 0.1, (runs, seeds, 1)) * np.ones(2)
        arms = np.stack([0.4 + levels, np.full((runs, seeds, 2), 0.4)])[:, :, None]
        grids = [Grid("harmfulness", "after", ("treatment", "control"), ("list",), tuple(range(seeds)), ("a", "b"),
                      arms[:, run], np.ones_like(arms[:, run], dtype=bool)) for run in range(runs)]  # fmt: skip
        p = _differ(grids, {"list": 1.0})
        assert p is not None
        wrong += p < 0.05
    assert wrong / 400 < 0.08


def test_a_seed_counts_once(plain_run: Path, again: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(plain_run, tmp_path / "copied", ignore=shutil.ignore_patterns("*.safetensors"))
    for second in (plain_run, copied):
        with pytest.raises(RunError, match=r"have one seed, 0, hence equal models, which would count twice"):
            together([str(again), str(plain_run), str(second)])
    with pytest.raises(RunError, match="at least two run folders"):
        together([str(plain_run)])


def test_a_run_that_decides_in_another_way_is_refused(plain_run: Path, curve_run: Path) -> None:
    with pytest.raises(RunError, match=r"decided over looks \(`verify\.seeds`\), whose interval is another"):
        together([str(plain_run), str(curve_run)])


@pytest.fixture
def other(again: Path, tmp_path: Path) -> Change:
    """The second run with a change of its recipe."""

    def change(old: str, new: str) -> str:
        root = Path(shutil.copytree(again, tmp_path / "other", ignore=shutil.ignore_patterns("*.safetensors")))
        text = (root / "recipe.yaml").read_text(encoding="utf-8")
        assert old in text
        (root / "recipe.yaml").write_text(text.replace(old, new, 1), encoding="utf-8")
        return str(root)

    return change


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("exposure: steps", "exposure: tokens", r"verify: .* exposure steps, .* exposure tokens"),
        ("learning_rate: 0.0005", "learning_rate: 0.5", r"verify\.align: .* learning_rate 0.0005, .* 0.5"),
        ("  k: 20\n", "  k: 21\n", r"drawn sets: .* k 20, .* k 21"),
        ("rows: 40", "rows: 41", r"task 'list': .* rows 40, .* rows 41"),
        ("chat_template: null", "chat_template: chatml", r"model: .* chat_template none, .* chat_template chatml"),
        ("  weight: 0.3\n", "  weight: 0.2\n", r"select: .* weight 0.3, .* weight 0.2"),
    ],
)
def test_another_experiment_is_refused_with_what_differs(
    plain_run: Path, other: Change, old: str, new: str, told: str
) -> None:
    with pytest.raises(RunError, match=f"(?s)not of one experiment.*{told}"):
        together([str(plain_run), other(old, new)])


def test_another_control_is_refused(plain_run: Path, again: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(again, tmp_path / "other", ignore=shutil.ignore_patterns("*.safetensors")))
    file = root / "8-report" / "report.json"
    write_json(file, json.loads(file.read_text().replace('"control": "random"', '"control": "matched-random"')))
    with pytest.raises(RunError, match=r"control: .* arm random, .* arm matched-random"):
        together([str(plain_run), str(root)])


def test_other_contents_of_a_source_are_refused(plain_run: Path, again: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(again, tmp_path / "other", ignore=shutil.ignore_patterns("*.safetensors")))
    file = root / "1-pool" / "done.json"
    done = json.loads(file.read_text())
    (source,) = done["record"]["resolved"]["pool"]["sources"]
    source["version"] = "another"
    write_json(file, done)
    with pytest.raises(RunError, match=r"pool: .* source 1\.version .* source 1\.version another"):
        together([str(plain_run), str(root)])


def test_a_named_arm_may_come_from_another_choice_of_the_same_size(plain_run: Path, again: Path, other: Change) -> None:
    changed = other("  weight: 0.3\n", "  weight: 0.2\n")
    assert together([str(plain_run), f"{changed}:matched-random"]).treatments == ("curated", "matched-random")
    # The others are still compared.
    with pytest.raises(RunError, match="not of one experiment"):
        together([f"{again}:matched-random", str(plain_run), changed])


def test_the_command_prints_the_runs_and_all_of_them(plain_run: Path, again: Path) -> None:
    runs = [str(plain_run), str(again)]
    told = CliRunner().invoke(cli, ["compare", "--together", *runs], terminal_width=200)
    assert told.exit_code == 0, told.output
    assert "over 5 paired seeds and" in " ".join(told.output.split())
    whole = json.loads(CliRunner().invoke(cli, ["compare", "--together", "--json", *runs]).output)
    assert whole["runs"] == runs
    assert whole["contrasts"][0]["together"]["seeds"] == 5
    lines = table(together(runs))
    assert {len(line) for line in lines} == {4}
    assert lines[1][1:] == ["curated - random", "curated - random", ""]
