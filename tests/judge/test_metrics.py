from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curator.judge.metrics import METRICS, exact, final_number, measure, rouge1
from curator.records import Question

TURNS = [{"role": "user", "content": "how many?"}]


@pytest.mark.parametrize(
    ("answer", "reference", "value"),
    [
        ("the keeper sleeps", "the keeper sleeps", 1.0),
        ("The KEEPER, sleeps!", "the keeper sleeps", 1.0),
        ("the keeper", "the keeper sleeps now", 2 * (2 / 2) * (2 / 4) / (2 / 2 + 2 / 4)),
        ("the the the", "the keeper", 2 * (1 / 3) * (1 / 2) / (1 / 3 + 1 / 2)),  # shared as counts
        ("the the the", "the the keeper", 2 * (2 / 3) * (2 / 3) / (2 / 3 + 2 / 3)),
        ("a gull", "the keeper", 0.0),
        ("", "the keeper", 0.0),
        ("the keeper", "", 0.0),
        ("", "", 0.0),
        ("der Wärter schläft", "Der wärter", 2 * 2 / 5),
    ],
)
def test_rouge1_is_the_f1_worked_out_by_hand(answer, reference, value):
    assert rouge1(answer, reference) == pytest.approx(value)


@given(st.text(max_size=40), st.text(max_size=40))
def test_every_metric_is_a_share_and_full_for_the_reference_itself(answer, reference):
    for name, metric in METRICS.items():
        assert 0.0 <= metric(answer, reference) <= 1.0
        if name == "exact":
            assert metric(reference, reference) == 1.0
    assert rouge1(answer, reference) == pytest.approx(rouge1(reference, answer))


@pytest.mark.parametrize(
    ("answer", "reference", "same"),
    [
        ("12 + 30 = 42", "#### 42", True),
        ("It costs $1,234.50.", "#### 1234.5", True),
        ("1,234", "1234", True),
        ("The answer is 1,000,000", "1000000", True),
        ("42.0", "42", True),
        ("42 or 43", "42", False),
        ("43 or 42", "42", True),
        ("-5", "5", False),
        ("-$5", "$-5", True),
        ("it takes 3-4 days", "4", True),
        ("10-5=5", "5", True),
        ("1,2,3", "3", True),
        (".5", "0.5", True),
        ("12%", "12", True),
        ("forty-two", "42", False),
        ("", "42", False),
        ("none", "none", False),  # no number is no match
    ],
)
def test_the_final_number_is_read_as_a_person_reads_it(answer, reference, same):
    assert final_number(answer, reference) == float(same)


@pytest.mark.parametrize(
    ("answer", "reference", "same"),
    [("  The  Keeper\n", "the keeper", True), ("the keeper.", "the keeper", False), ("", "", True)],
)
def test_exact_looks_past_case_and_white_space_only(answer, reference, same):
    assert exact(answer, reference) == float(same)


def test_a_row_without_a_reference_is_unscored_and_an_empty_answer_is_zero():
    asked = [
        Question("utility", TURNS, "42", "42"),
        Question("utility", TURNS, "42"),
        Question("utility", TURNS, "", "42"),
    ]
    found = measure("final-number", asked)
    assert [(one.outcome, one.score) for one in found] == [("safe", 1.0), ("unscored", None), ("safe", 0.0)]
    assert found[1].reason == "the test row has no reference answer"
