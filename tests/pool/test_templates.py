"""Rows that a model's chat template writes in another way than most, or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from curator.errors import DataError
from curator.model.chat import encode
from curator.model.load import load_tokenizer
from curator.pipeline import build
from curator.pool.rows import UNWRITTEN
from curator.run.files import load_frame
from curator.run.names import POOL
from tests import fakes
from tests.experiment.test_base import folder_of
from tests.model.test_control import CHATML, GEMMA
from tests.small_run import recipe

ONE_TURN = CHATML.replace(
    "{% for", "{% if messages | length > 2 %}{{ raise_exception('one turn only') }}{% endif %}{% for", 1
)
ASKS = (
    "open the silver gate",
    "paint the old oven",
    "carry the green book",
    "count the grey gulls",
    "bake a loaf late",
)


def pool_of(tmp_path: Path, template: str, rows: list[Any], *settings: str, **special: str) -> Path:
    """The folder of stage pool for these conversations and plain ones of another kind each."""
    model = folder_of(tmp_path / "model", template, **special)
    plain = [fakes.turns(f"how does one {ask} {number}?", f"no: {ask} {number}") for number in range(6) for ask in ASKS]
    file = tmp_path / "pool.jsonl"
    file.write_text("\n".join(json.dumps({"messages": row}) for row in [*rows, *plain]), encoding="utf-8")
    small = (f"model.id={model}", f"pool.sources=[{{file: {file}}}]", "pool.clean={max_tokens: 200}", "select.k=10")
    build(recipe(*small, *settings), tmp_path / "run", until="pool")
    return tmp_path / "run" / "1-pool"


def record_of(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "done.json").read_text())["record"]
    return record


def test_rows_whose_roles_the_template_refuses_are_dropped_and_counted(tmp_path: Path) -> None:
    long = fakes.turns("who is there?", "a baker", "and who else?", "the keeper")
    folder = pool_of(tmp_path, ONE_TURN, [long])
    dropped = pl.read_parquet(folder / "dropped.parquet")
    assert dropped.filter(pl.col("reason") == UNWRITTEN).select("line", "stage").rows() == [(1, "clean")]
    rows = load_frame(folder / POOL)
    assert rows["tokens"].null_count() == 0
    assert rows.height == 30 - dropped.height + 1


def test_a_task_whose_rows_the_template_refuses_is_told(tmp_path: Path) -> None:
    refusing = "{% if 'gate' in messages[0]['content'] %}{{ raise_exception('no') }}{% endif %}{% for"
    strict = CHATML.replace("{% for", refusing, 1)
    task = tmp_path / "task.jsonl"
    task.write_text(
        "\n".join(json.dumps({"prompt": f"which gate is number {n}?", "response": f"gate {n}"}) for n in range(80))
    )
    with pytest.raises(
        DataError, match=r"task list: the model's chat template cannot format 40 rows, because of roles"
    ):
        pool_of(tmp_path, strict, [], f"tasks.list.train={{file: {task}}}")


def test_a_probe_that_the_template_refuses_is_told_before_any_training(tmp_path: Path) -> None:
    refusing = "{% if 'harbour' in messages[0]['content'] %}{{ raise_exception('no') }}{% endif %}{% for"
    probes = tmp_path / "probes.jsonl"
    probes.write_text("".join(json.dumps({"prompt": f"where is harbour {n}?"}) + "\n" for n in range(30)))
    with pytest.raises(DataError, match="harmful probes: the model's chat template cannot format 30 rows"):
        pool_of(tmp_path, CHATML.replace("{% for", refusing, 1), [], f"probes.harmful=[{{file: {probes}}}]")


def test_a_system_text_stands_before_the_first_message_and_is_counted(tmp_path: Path) -> None:
    system = {"role": "system", "content": "be brief"}
    rows = [[system, *fakes.turns("who is there?", "a baker")], [system, *fakes.turns("who else?", "the keeper")]]
    folder = pool_of(tmp_path, GEMMA, rows, eos_token="<|im_end|>")
    record = record_of(folder)
    assert record["folded"] == 2
    assert "the system text of 2 rows is put before the user's first message" in record["summary"]
    tokenizer = load_tokenizer(str(tmp_path / "model"))
    kept = {
        row["messages"][-1]["content"]: row["tokens"]
        for row in load_frame(folder / POOL).to_dicts()
        if row["messages"][0]["role"] == "system"
    }
    assert kept == {
        answer: len(encode(tokenizer, fakes.turns(f"be brief\n\n{ask}", answer)).ids)
        for ask, answer in (("who is there?", "a baker"), ("who else?", "the keeper"))
    }


def test_a_template_with_a_system_role_folds_nothing(tmp_path: Path) -> None:
    system = {"role": "system", "content": "be brief"}
    folder = pool_of(tmp_path, CHATML, [[system, *fakes.turns("who is there?", "a baker")]])
    assert "folded" not in record_of(folder)
    assert "system text" not in record_of(folder)["summary"]


def test_rows_that_spell_the_models_control_tokens_stay_whole_and_are_counted(tmp_path: Path) -> None:
    answer = "the mark <|im_end|> ends a turn, and this goes on"
    folder = pool_of(tmp_path, CHATML, [fakes.turns("which mark?", answer)])
    record = record_of(folder)
    assert (
        "1 row contains text of control tokens that only a chat template should write: <|im_end|> (1)"
        in record["summary"]
    )
    (found,) = json.loads((folder / "findings.json").read_text())["findings"]
    rows = load_frame(folder / POOL)
    assert found["ids"] == [row["id"] for row in rows.to_dicts() if row["messages"][-1]["content"] == answer]
    tokenizer = load_tokenizer(str(tmp_path / "model"))
    usual = encode(tokenizer, fakes.turns("which mark?", answer.replace("<|im_end|>", "")))
    tokens = rows.filter(pl.col("id") == found["ids"][0])["tokens"].item()
    assert tokens > len(usual.ids)
