"""The judge stage: who is asked what, and where it is kept."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fakes
import polars as pl
import pytest
from small_run import recipe

from curator.build import build
from curator.sandbox import judging

ARMS = "verify.arms=[curated, random, {name: none, seeds: 1}]"
TINY = (
    ARMS,
    "verify.seeds=2",
    "probes.harmful.0.rows=16",
    "probes.benign.0.rows=4",
    "tasks.list.test.rows=4",
    "verify.align.steps=12",  # fewer, and all models say the same
)


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run up to its answers."""
    root = tmp_path_factory.mktemp("judging") / "answered"
    build(recipe(*TINY), root, until="answer")
    return root


@pytest.fixture
def copied(answered: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(answered, tmp_path / "copy"))


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every answer that the sandbox's judge was shown, prompt and all."""
    seen: list[str] = []
    real: Callable[..., Any] = judging.judge

    def watching(messages: Any, answer: str) -> Any:
        seen.append(f"{messages[-1]['content']} -> {answer}")
        return real(messages, answer)

    monkeypatch.setattr(judging, "judge", watching)
    return seen


def distinct(root: Path) -> set[tuple[str, str]]:
    answers = pl.read_parquet(root / "6-answer" / "answers.parquet").filter(pl.col("kind") != "utility")
    return set(answers.select("probe", "answer").iter_rows())


def verdicts(root: Path, judge: str = "exact") -> pl.DataFrame:
    return pl.read_parquet(root / "7-judge" / "panel" / judge / "verdicts.parquet")


def test_every_different_answer_is_shown_once_and_after_an_arm_more_only_its_own(
    copied: Path, shown: list[str]
) -> None:
    build(recipe(*TINY), copied, until="judge")
    before = distinct(copied)
    assert len(shown) == len(set(shown)) == len(before)
    shown.clear()
    build(recipe(*TINY, f"{ARMS[:-1]}, high-similarity]"), copied, until="judge")
    assert len(shown) == len(distinct(copied) - before)
    assert shown
    frame = verdicts(copied)
    assert "high-similarity" in set(frame["arm"])
    assert (
        frame.height
        == pl.read_parquet(copied / "6-answer" / "answers.parquet").filter(pl.col("kind") != "utility").height
    )
    shown.clear()
    build(recipe(*TINY), copied, until="judge")
    assert not shown


def test_a_judge_may_be_called_what_a_folder_of_ours_is_called(copied: Path) -> None:
    panel = "judges={headline: utility, panel: [{name: utility, sandbox: exact}, {name: panel, refusal: phrases}]}"
    build(recipe(*TINY, panel), copied)
    assert set(verdicts(copied, "utility")["judge"]) == {"utility"}
    assert set(verdicts(copied, "panel")["judge"]) == {"panel"}
    assert pl.read_parquet(copied / "7-judge" / "utility.parquet")["kind"].unique().to_list() == ["utility"]


def test_a_guard_in_a_folder_is_asked_again_when_its_files_change(copied: Path, tmp_path: Path) -> None:
    guard = fakes.save(tmp_path / "guard", "qwen", template="chatml")
    panel = f"judges={{headline: exact, panel: [{{name: exact, sandbox: exact}}, {{name: guard, guard: {guard}, convention: qwen3guard}}]}}"
    small = (*TINY, panel, "probes.harmful.0.rows=16")

    def parts() -> set[Path]:
        return set((copied / "7-judge" / "panel" / "guard").glob("*/*.parquet"))

    made = build(recipe(*small), copied, until="judge")
    assert made["judge"].record["revisions"] == {"exact": None, "guard": None}
    first = parts()
    assert build(recipe(*small), copied, until="judge")["judge"].kept
    fakes.save(tmp_path / "guard", "qwen", template="chatml", seed=1)
    assert not build(recipe(*small), copied, until="judge")["judge"].kept
    assert first < parts()
    assert {path.parent for path in first}.isdisjoint(path.parent for path in parts() - first)
    assert set(verdicts(copied, "guard")["outcome"]) <= {"unscored", "degenerate"}
