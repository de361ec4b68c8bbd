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
        annotators=("a", "b"), exclude=[("left_out", "1")], columns=["other"],
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
        ({"answer": "completion", "label": "final", "exclude": [("gone", "1")]}, "no column 'gone'"),
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


def written(path, *labels):
    path.write_text("\n".join(["prompt,answer,label", *(f"p{row},a,{label}" for row, label in enumerate(labels))]))
    return path


def test_a_label_that_is_neither_yes_nor_no_is_refused_and_never_counted_as_no(tmp_path):
    path = written(tmp_path / "labels.csv", "yes", "No", "unsure", "n/a", "unsure", "")
    with pytest.raises(DataError) as caught:
        read_labels(path, outcome="refused")
    assert str(caught.value) == (
        f"{path}, record 3: label 'unsure' in column 'label' is neither yes nor no (3 rows have such labels: 'unsure', "
        "'n/a'); allowed: yes, no, true, false, 1, 0, in any case, or empty for an answer without a label; leave such "
        "rows out with --exclude label=unsure (may be repeated), or name every label that means 'refused' with "
        "--positive, and all others mean that it is absent"
    )
    rest = read_labels(path, outcome="refused", exclude=[("label", "unsure"), ("label", "n/a")])
    assert (rest.excluded, rest.unlabelled, rest.values) == (3, 1, ("No", "yes"))
    named = read_labels(path, outcome="refused", positive=["YES"])
    assert (named.values, named.positive, named.rows.height) == (("No", "n/a", "unsure", "yes"), ("yes",), 5)


def test_rows_are_left_out_by_a_value_with_spaces_around_it_too(tmp_path):
    path = written(tmp_path / "labels.csv", "yes", "no", " unsure ")
    assert read_labels(path, outcome="refused", exclude=[("label", "unsure")]).excluded == 1


def test_a_line_of_json_is_named_by_its_line_though_lines_before_it_are_empty(tmp_path):
    path = tmp_path / "labels.jsonl"
    rows = [f'{{"prompt": "p", "answer": "a", "label": {label}}}' for label in ("true", "0", '"yess"')]
    path.write_text("\r\n\r\n".join(rows))
    with pytest.raises(DataError, match=r"labels\.jsonl:5: label 'yess' .* \(1 row has such a label: 'yess'\)"):
        read_labels(path, outcome="refused")


WORDS = [("yes", "no"), ("True", "FALSE"), ("1", "0"), (" Yes ", "No")]


@pytest.mark.parametrize("theirs", WORDS)
@pytest.mark.parametrize("ours", WORDS)
def test_verdicts_and_annotators_may_use_other_usual_words_than_the_labels(tmp_path, ours, theirs):
    path = tmp_path / "labels.csv"
    path.write_text(f"prompt,answer,label,mine\np,x,{ours[0]},{theirs[0]}\np,y,{ours[1]},{theirs[1]}\np,z,{ours[1]},\n")
    labels = read_labels(path, outcome="refused", annotators=("mine", "label"), verdicts=["mine"])
    assert labels.rows["verdict:mine"].to_list() == labels.rows["first"].to_list() == [True, False, None]
    assert labels.rows["agreed"].to_list() == [True, True, None]
    assert not labels.unread


def test_verdicts_have_the_words_of_the_labels_and_the_usual_ones_unless_the_labels_turn_these_round(tmp_path):
    path = tmp_path / "labels.csv"

    def verdicts(labels, values, positive):
        rows = [f"p,a,{label},{value}" for label, value in zip(labels, values, strict=True)]
        path.write_text("\n".join(["prompt,answer,label,mine", *rows]))
        read = read_labels(path, outcome="refused", positive=positive, verdicts=["mine"])
        return read.rows["verdict:mine"].to_list()

    three = ["refusal", "full", "refusal"]
    assert verdicts(three, ["true", "full", "Refusal"], ["refusal", "partial"]) == [True, False, True]
    assert verdicts(three, ["partial", "full", "0"], ["refusal", "partial"]) == [True, False, False]
    assert verdicts(["0", "1", "1"], ["0", "1", ""], ["0"]) == [True, False, None]
    with pytest.raises(
        DataError, match="column 'mine' has the values 'no', 'yes', and the labels in column 'label' are"
    ):
        verdicts(["0", "1", "1"], ["yes", "no", "no"], ["0"])


def test_verdicts_that_nobody_can_read_are_an_error_with_both_sets_of_values(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("prompt,answer,label,mine\np,x,yes,Ja\np,y,no,Nein\np,z,no,Nein\n")
    with pytest.raises(DataError) as caught:
        read_labels(path, outcome="refused", verdicts=["mine"])
    assert str(caught.value) == (
        f"{path}: column 'mine' has the values 'Ja', 'Nein', and the labels in column 'label' are 'no', 'yes'; allowed "
        "in 'mine': 'yes', 'true', '1' for 'refused', 'no', 'false', '0' for its absence, in any case, or empty for "
        "neither; write it in these words"
    )
    path.write_text("prompt,answer,label,mine\np,x,yes,yes\np,y,no,nope\np,z,no,nope\n")
    with pytest.raises(DataError, match="'mine' has the values 'nope', 'yes', and"):
        read_labels(path, outcome="refused", annotators=("label", "mine"))


def test_single_values_of_verdicts_that_are_neither_are_empty_and_named(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("prompt,answer,label,mine\np,x,yes,1\np,y,no,0\np,z,no,error\np,z,no,error\np,,,odd\n")
    labels = read_labels(path, outcome="refused", verdicts=["mine"])
    assert labels.rows["verdict:mine"].to_list() == [True, False, None, None]
    assert labels.unread == {"mine": {"error": 2}}


def test_columns_that_are_not_needed_may_hold_anything(tmp_path):
    path = tmp_path / "labels.jsonl"
    path.write_text(
        '{"prompt": "p", "answer": "a", "label": true, "tags": [1, 2], "meta": {"a": [1]}}\n'
        '{"prompt": "p", "answer": "b\\u2028c", "label": "no", "tags": "x", "meta": 3, "more": [[]]}\n'
        '{"prompt": "p", "answer": 7, "label": null, "note": 1.0}\n{"prompt": "p", "answer": "\\ud83d", "label": 0}\n'
    )
    labels = read_labels(path, outcome="refused", columns=["note"])
    assert labels.rows["positive"].to_list() == [True, False, False]
    assert labels.rows["answer"].to_list() == ["a", "b\u2028c", "\\ud83d"]
    assert (labels.read, labels.unlabelled) == (4, 1)
    with pytest.raises(DataError, match=r"labels\.jsonl:1: column 'tags' holds a list; allowed in a column of labels"):
        read_labels(path, outcome="refused", label="tags")
    with pytest.raises(DataError, match="no column 'gone'; columns: prompt, answer, label, tags, meta, more, note"):
        read_labels(path, outcome="refused", label="gone")


ROWS = "How?;{0}, I push;yes\nWhy?;{0}, I cannot;no\n"


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        (
            "semi.csv",
            "prompt;answer;label\n" + ROWS,
            r"semi\.csv: found semicolons between the columns prompt, answer, label; a file with the ending \.csv "
            r"needs commas; save it with commas as \.csv or with tabs as \.tsv$",
        ),
        (
            "other.csv",
            "question;reply;grade\nHow?;So;yes\n",
            "found semicolons between the columns question, reply, gra",
        ),
        ("tabs.csv", "prompt\tanswer\tlabel\na\tb\tyes\n", r"found tabs .* needs commas; give it the ending \.tsv$"),
        ("commas.tsv", '"prompt","answer","label"\na,b,yes\n', r"commas between .* tabs; give it the ending \.csv$"),
        ("long.csv", "prompt,answer,label\na,b, c,yes\n", "found more fields .* a value that holds commas or line"),
        ("latin.csv", b"prompt,answer,label\na,caf\xe9,yes\n", r"byte 26 is not UTF-8\); save the file as UTF-8$"),
        ("blank.csv", "\n", "the file is empty; it needs a row for each labelled answer"),
        ("blank.jsonl", "", "the file is empty; it needs a row for each labelled answer"),
        ("list.jsonl", '\n[{"prompt": "p"}]\n', r"list\.jsonl:2: found a list; give an object on each line"),
        (
            "bad.jsonl",
            '{"prompt": "p"}\n{"prompt"\n',
            r"bad\.jsonl:2: not JSON \(Expecting ':' delimiter\); a JSONL file",
        ),
        ("folder.csv", None, r"cannot read the labels \(Is a directory\); give a CSV or JSONL file that exists"),
    ],
)
def test_a_file_that_is_written_otherwise_says_how_it_should_be(tmp_path, name, text, why):
    path = tmp_path / name
    if text is None:
        path.mkdir()
    else:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=why):
        read_labels(path, outcome="refused")
