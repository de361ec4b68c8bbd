"""A run folder that was moved finds its model where it is now."""

from __future__ import annotations

from pathlib import Path

from curator import sandbox
from curator.experiment.stage import relocate
from curator.run import Run
from curator.run.folder import write_json
from curator.train.job import start_of
from tests.small_run import recipe


def test_a_moved_run_finds_its_model_where_it_is_now(tmp_path: Path) -> None:
    gone, here = "/gone/curator/sandbox/checkpoint", str(sandbox.path())
    weights = {"base": gone, "revision": None, "adapters": []}
    run = Run(recipe("engine.cache=false"), tmp_path)
    records = {
        "base": {"tokenizer": gone, "revision": None, "weights": weights},
        "train": {"models": [{"weights": {**weights, "key": "k"}}, {"weights": {**weights, "base": "5-train/full"}}]},
    }
    for stage, record in records.items():
        run.folder(stage).mkdir()
        write_json(run.folder(stage) / "done.json", {"key": stage, "record": record, "seconds": 1})
    relocate(run)
    assert run.record("base")["tokenizer"] == here
    start = start_of(run)
    assert (start.base, start.key) == (here, "base")
    assert [model["weights"]["base"] for model in run.record("train")["models"]] == [here, "5-train/full"]
