"""Corpora whose columns have names of their own: audited, ranked and clustered as they are, or by a mapping."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from curator.cli import cli
from curator.corpus.page import corpus_of, load
from curator.corpus.request import named, source_of
from curator.errors import DataError, RecipeError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def wrote(name: str, *columns: str) -> str:
    """A file with these columns of text, each with its own texts."""
    rows = [{column: f"{column} says {number} to the king" for column in columns} for number in range(30)]
    Path(name).write_text(json.dumps(rows))
    return name


def audited(*words: str) -> Result:
    return CliRunner().invoke(cli, ["audit", *words, "--no-embedder", "--out", "audit"], standalone_mode=False)


def test_two_columns_of_text_are_audited_as_prompt_and_response_and_the_terminal_says_so() -> None:
    result = audited(wrote("corpus.json", "q_text", "a_text"))
    assert result.exception is None, result.exception
    assert "corpus.json: reads the column q_text as the prompt and a_text as the response\n" in result.output
    report = load(Path("audit"))
    assert report.corpus.kept == 30
    texts = corpus_of(report)  # read again, with the same columns
    assert {turn["content"].split()[0] for turns in texts.values() for turn in turns} == {"q_text", "a_text"}


def test_a_file_whose_columns_are_known_is_not_mapped() -> None:
    assert source_of(wrote("corpus.json", "prompt", "response")).columns == {}
    assert source_of(wrote("other.json", "instruction", "output", "a_text")).columns == {}


def test_a_known_name_says_which_of_two_columns_is_which() -> None:
    expected = {"prompt": "question", "response": "reply"}
    assert source_of(wrote("one.json", "question", "reply")).columns == expected
    assert source_of(wrote("two.json", "reply", "question")).columns == expected
    assert source_of(wrote("three.json", "answer", "query_text")).columns == {
        "prompt": "query_text",
        "response": "answer",
    }


@pytest.mark.parametrize(
    ("column", "values"),
    [("row_id", ["a1", "b2"]), ("kind", ["safe", "unsafe"]), ("rejected", ["I will not", "you go"])],
)
def test_ids_labels_and_columns_of_another_meaning_are_no_answers(column: str, values: list[str]) -> None:
    rows = [{"q_text": f"what says {number}", column: values[number % 2]} for number in range(30)]
    Path("corpus.json").write_text(json.dumps(rows))
    assert source_of("corpus.json").columns == {}


def test_probes_are_read_as_they_are() -> None:
    name = wrote("probes.json", "q_text", "a_text")
    assert named([name], prompts_only=True)["probes"].columns == {}
    assert named([name])["probes"].columns == {"prompt": "q_text", "response": "a_text"}


def test_more_columns_need_a_mapping_and_the_error_says_how_to_write_it() -> None:
    name = wrote("corpus.json", "note", "q_text", "a_text")
    refused = audited(name)
    assert isinstance(refused.exception, DataError)
    assert "map columns: {prompt: COLUMN, response: COLUMN}" in str(refused.exception)
    assert "--columns of `curator audit`" in str(refused.exception)
    result = audited(name, "--columns", "{prompt: q_text, response: a_text}")
    assert result.exception is None, result.exception
    assert "reads the column q_text as the prompt and a_text as the response" in result.output
    assert load(Path("audit")).corpus.columns == {"prompt": "q_text", "response": "a_text"}


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("q_text", "--columns: found 'q_text'; write a mapping, such as '{prompt: query, response: reply}'"),
        ("{prompt: [}", "--columns: invalid YAML"),
        ("{ask: q_text}", "'ask' is not a known field; allowed: prompt, response"),
    ],
)
def test_a_wrong_mapping_is_told_in_the_words_of_the_option(written: str, expected: str) -> None:
    refused = audited(wrote("corpus.json", "note", "q_text", "a_text"), "--columns", written)
    assert isinstance(refused.exception, RecipeError)
    assert str(refused.exception).startswith("--columns: ")
    assert expected in str(refused.exception)


@pytest.mark.parametrize("words", [["audit"], ["new", "mine", "--task", "corpus.json", "--pool"]])
def test_a_missing_file_is_told_without_a_recipe(words: list[str]) -> None:
    wrote("corpus.json", "q_text", "a_text")
    refused = CliRunner().invoke(cli, [*words, "nofile.json", *["--no-embedder"] * (words == ["audit"])])
    assert "nofile.json: no such file" in str(refused.exception)
    assert str(refused.exception).endswith("correct the path")


@pytest.mark.parametrize("words", [["route", "corpus.json", "--task"], ["cluster", "--clusters", "2", "--task"]])
def test_route_and_cluster_map_columns_too(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    def embed(ids: list[str], rows: object) -> object:
        vectors = np.random.default_rng(0).normal(size=(len(ids), 4)).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    monkeypatch.setattr("curator.corpus.request.named_embedder", lambda *_, **__: embed)
    wrote("corpus.json", "prompt", "response")
    result = CliRunner().invoke(cli, [*words, wrote("task.json", "q_text", "a_text")], standalone_mode=False)
    assert result.exception is None, result.exception
    assert "task.json: reads the column q_text as the prompt and a_text as the response" in result.output
