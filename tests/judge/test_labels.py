"""Labels by people: read from a user's file, counted, and refused where they say nothing."""

from __future__ import annotations

import hashlib

import pytest

from curator.errors import DataError
from curator.judge.people import read_labels

CSV = """prompt,completion,final,a,b,left_out,other
p1,"yes, of course",full,full,full,0,full
p1,no,Refusal,Refusal,partial,0,full
p2,well,partial,full,partial,0,odd
p2,,,full,full,0,full
p3,gone,full,full,full,1,full
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text(CSV)
    return path


def test_rows_are_mapped_excluded_and_counted(file):
    found = read_labels(
        file, outcome="refused", answer="completion", label="final", positive=("refusal", "partial"),
        annotators=("a", "b"), exclude={"left_out": "1"}, columns=["other"],
    )  # fmt: skip
    assert (found.read, found.excluded, found.unlabelled, found.rows.height) == (5, 1, 1, 3)
    assert found.rows["positive"].to_list() == [False, True, True]
    assert found.rows["agreed"].to_list() == [True, True, False]  # partial and refusal both mean refused
    assert found.rows["first"].to_list() == [False, True, False]
    assert found.rows["second"].to_list() == [False, True, True]
    assert found.rows["column:other"].to_list() == ["full", "full", "odd"]
    assert found.values == ("Refusal", "full", "partial")
    assert found.positive == ("Refusal", "partial")
    assert found.digest == hashlib.sha256(file.read_bytes()).hexdigest()


def test_lines_of_json_read_alike(tmp_path):
    path = tmp_path / "labels.jsonl"
    path.write_text('{"prompt": "p", "answer": "a", "label": true}\n{"prompt": "p", "answer": "b", "label": false}\n')
    assert read_labels(path, outcome="harmful").rows["positive"].to_list() == [True, False]


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({}, r"no column 'answer'; columns: prompt, completion"),
        ({"answer": "completion", "label": "final", "positive": ("no such",)}, "none of them mean 'refused'; both"),
        (
            {"answer": "completion", "label": "final", "positive": ("full", "partial", "refusal")},
            "both kinds are needed, see --positive",
        ),
        ({"answer": "completion", "label": "final", "exclude": {"gone": "1"}}, "no column 'gone'"),
    ],
)
def test_labels_that_say_nothing_are_errors(file, more, why):
    with pytest.raises(DataError, match=why):
        read_labels(file, outcome="refused", **more)


def test_a_file_of_another_kind_or_none_is_an_error(tmp_path):
    (tmp_path / "labels.xlsx").write_text("")
    for name, why in (("labels.xlsx", "allowed for labels: .csv"), ("gone.csv", "cannot read the labels")):
        with pytest.raises(DataError, match=why):
            read_labels(tmp_path / name, outcome="refused")
