"""`engine.report_to`: what a tracker is told, by the trackers that are installed here, with stores in a folder."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback
from transformers.integrations import integration_utils

from curator.errors import RunError
from curator.model.load import load_tokenizer
from curator.pipeline import build
from curator.recipe.training import Training
from curator.train import tracker as trackers
from curator.train import trainer as _loaded  # noqa: F401 - its libraries look for trackers when they are loaded
from curator.train.sft import train
from curator.train.tracker import Tracker, tracker_of
from tests.fakes import turns
from tests.small_run import recipe

SECRET = "the lighthouse keeper keeps a secret"


class Recorder(TrainerCallback):  # type: ignore[misc]
    """An integration of transformers' own interface that keeps all that it is told."""

    told: list[tuple[str, Any]]

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **more: Any) -> None:
        self.told.append(("begin", (args.run_name, args.project, os.environ.get("WANDB_CONSOLE"))))

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **more: Any) -> None:
        self.told.append(("log", dict(logs)))

    def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self.told.append(("end", None))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """What a tracker that stands in the place of wandb is told."""
    found: list[tuple[str, Any]] = []
    monkeypatch.setattr(Recorder, "told", found, raising=False)
    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "wandb", Recorder)
    library = types.ModuleType("wandb")
    library.finish = lambda: found.append(("finish", None))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", library)
    monkeypatch.setattr(trackers, "find_spec", lambda _: types.SimpleNamespace(origin="here"))
    return found


def trained(folder: str, where: Path, tracker: Tracker | None) -> Any:
    rows = [turns(f"{SECRET} {number}", f"{SECRET}, and so do I") for number in range(4)]
    return train(
        rows, base=folder, revision=None, adapters=(), tokenizer=load_tokenizer(folder),
        section=Training(method="full", steps=3, batch=2, micro_batch=2, learning_rate=0.01), steps=3, seed=1,
        folder=where, key="verify.align", tracker=tracker,
    )  # fmt: skip


def test_losses_and_rates_of_a_training_are_told_and_change_nothing_of_it(
    llama_folder: str, tmp_path: Path, told: list[tuple[str, Any]]
) -> None:
    plain = trained(llama_folder, tmp_path / "plain", None)
    assert told == []
    tracked = trained(llama_folder, tmp_path / "tracked", Tracker("wandb", "project", "align/curated-0"))
    assert tracked.losses == plain.losses
    kinds = [kind for kind, _ in told]
    assert kinds[0] == "begin"
    assert kinds[-2:] == ["end", "finish"]
    assert told[0][1] == ("align/curated-0", "project", "off")
    steps = [logs for kind, logs in told if kind == "log" and "loss" in logs]
    assert [float(logs["loss"]) for logs in steps] == pytest.approx(tracked.losses, abs=1e-5)
    assert all("learning_rate" in logs for logs in steps)
    assert "lighthouse" not in str(told)
    assert "WANDB_CONSOLE" not in os.environ


def test_what_a_user_has_set_stands_and_weights_are_never_sent(
    told: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    monkeypatch.setenv("WANDB_LOG_MODEL", "end")
    with Tracker("wandb", "project").open():
        assert os.environ["WANDB_PROJECT"] == "mine"
        assert os.environ["WANDB_LOG_MODEL"] == "false"
    assert os.environ["WANDB_LOG_MODEL"] == "end"


def test_an_error_of_the_tracker_is_told_as_its_own_and_others_pass(told: list[tuple[str, Any]]) -> None:
    kind = type("UsageError", (Exception,), {"__module__": "wandb.errors"})
    with (
        pytest.raises(RunError, match=r"^engine\.report_to: wandb failed \(UsageError: no key\); correct its settings"),
        Tracker("wandb", "project").open(),
    ):
        raise kind("no key")
    with pytest.raises(ValueError, match="of the training"), Tracker("wandb", "project").open():
        raise ValueError("of the training")
    assert told == [("finish", None), ("finish", None)]
    assert "WANDB_CONSOLE" not in os.environ


def test_a_tracker_that_is_not_installed_is_named_before_anything_runs(tmp_path: Path) -> None:
    found = recipe("engine.report_to=mlflow")
    assert tracker_of(found) == Tracker("mlflow", "quickstart")
    assert tracker_of(recipe()) is None
    if trackers.find_spec("mlflow") is not None:
        pytest.skip("mlflow is installed here")
    with pytest.raises(RunError, match=r"engine\.report_to: mlflow is not installed; install it with `pip install ml"):
        build(found, tmp_path / "run")
    assert not (tmp_path / "run" / "0-base").exists()


def test_a_folder_of_a_trackers_name_is_not_the_tracker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trackio").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "trackio", raising=False)
    if trackers.find_spec("trackio").origin is not None:  # type: ignore[union-attr]
        pytest.skip("trackio is installed here")
    with pytest.raises(RunError, match="trackio is not installed"):
        Tracker("trackio", "project").require()


@pytest.mark.slow
def test_a_run_tells_every_training_and_then_the_rates_of_every_arm(
    tmp_path: Path, told: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, which is where the stand-in is."""
    from curator.report.model import read_report
    from curator.run.readers import report_file

    monkeypatch.setattr("curator.engine.run_local", lambda work, jobs, **_: map(work, jobs))
    monkeypatch.setattr("curator.engine.prepare_local", lambda **_: None)
    build(recipe("verify.seeds=2", "verify.arms=[curated, random]", "engine.report_to=wandb"), tmp_path / "run")
    names = [what[0] for kind, what in told if kind == "begin"]
    assert len(set(names)) == len(names) == 9
    assert names[-1] == "8-report"
    (figures,) = [logs for kind, logs in told if kind == "log" and any(name.startswith("eval_") for name in logs)]
    report = read_report(report_file(tmp_path / "run"))
    for arm in ("curated", "random"):
        rate = report.arms[arm]["list"].after.harmfulness.value
        assert figures[f"eval_harmfulness/after/list/{arm}"] == rate
    told.clear()
    build(recipe("verify.seeds=2", "verify.arms=[curated, random]", "engine.report_to=wandb"), tmp_path / "run")
    assert told == []


def test_trackio_keeps_it_on_this_machine(llama_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio")
    tracker = Tracker("trackio", "project", "align/curated-0")
    made = trained(llama_folder, tmp_path / "tracked", tracker)
    Tracker("trackio", "project", "8-report").report({"eval_harmfulness/after/list/curated": 0.25})
    (store,) = (tmp_path / "trackio").rglob("project*.db")
    with sqlite3.connect(store) as database:
        lines = database.execute("select run_name, metrics from metrics").fetchall()
    of_training = [json.loads(text) for run, text in lines if run == "align/curated-0"]
    losses = [float(told["train/loss"]) for told in of_training if "train/loss" in told]
    assert losses == pytest.approx(made.losses, abs=1e-5)
    (last,) = [json.loads(text) for run, text in lines if run == "8-report"]
    assert last["eval/harmfulness/after/list/curated"] == 0.25
    assert b"lighthouse" not in store.read_bytes()
