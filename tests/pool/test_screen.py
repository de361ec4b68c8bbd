from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from curator.errors import DataError
from curator.judge.phrases import refused
from curator.language import language
from curator.pool.screen import Finding, finding, worst_first
from curator.pool.screen.answers import alike, canned, refusals
from curator.pool.screen.drops import licences, plain_name, unusable
from curator.pool.screen.language import languages
from curator.pool.screen.personal import patterns, personal, presidio
from curator.pool.taxonomy import HARMLESS, HAZARDS, assign, categorise, descriptions, not_harmful
from curator.recipe.pool import Findings
from curator.records import DROPPED_SCHEMA, ROW_SCHEMA


def rows(pairs: list[tuple[str, str]], **columns: list[Any]) -> pl.DataFrame:
    data = {
        "id": [f"{number:04}" for number in range(len(pairs))],
        "messages": [
            [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}] for prompt, answer in pairs
        ],
        **{name: [None] * len(pairs) for name in ("source", "line", "category", "licence", "tokens")},
    }
    return pl.DataFrame(data | columns, schema=ROW_SCHEMA)


PERSONAL = {
    "e-mail": ["write to ann.lee+x@mail.example.co.uk", "<bob@run.org>", "Bob@Run.ORG."],
    "phone": ["call +44 20 7946 0958", "(212) 555-0123 now", "212-555-0123", "tel. 1-800-273-8255", "030/123 4567"],
    "IBAN": ["GB82 WEST 1234 5698 7654 32", "to DE89370400440532013000 please"],
    "card": ["4111 1111 1111 1111", "5500-0000-0000-0004"],
    "social security number": ["ssn 219-09-9999"],
    "IP address": ["ping 192.168.12.34 now"],
}
NONE = [
    "in 2019-2020 it was 12,345.67 and 3.14159", "version 1.2.3 of 10.04", "a@b", "@user and user@", "123-45",
    "1234567890", "GB82 WEST 1234 5698 7654 33", "4111 1111 1111 1112", "000-12-3456", "1.2.3.4.5",
    "on 12/05/2021 at 10:30-11:45",
    "isbn 978-3-16-148410-0", "pages 100-200, 300-400", "127.0.0.1", "$1,000,000.00", "0000 0000 0000 0000",
]  # fmt: skip


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in PERSONAL.items() for text in texts])
def test_personal_data_is_found_by_its_kind(kind: str, text: str) -> None:
    assert patterns(text) == {kind}


@pytest.mark.parametrize("text", NONE)
def test_numbers_that_are_no_personal_data_are_left_alone(text: str) -> None:
    assert patterns(text) == set()


def test_personal_data_in_any_turn_is_a_finding_of_its_row() -> None:
    found = personal(rows([("hello", "bob@run.org"), ("bob@run.org", "x"), ("a", "b")]))
    assert [(one.kind, one.count, one.ids) for one in found] == [("personal-data", 2, ("0000", "0001"))]


LANGUAGES = {
    "en": "How can I tell whether the bread that is in the oven is done?",
    "de": "Wie kann ich erkennen, ob das Brot im Ofen schon fertig ist und nicht mehr roh?",
    "fr": "Comment est-ce que je peux savoir si le pain est prêt dans le four ?",
    "es": "¿Cómo puedo saber si el pan que está en el horno ya está listo para comer?",
    "nl": "Hoe kan ik zien of het brood in de oven al gaar is voor het eten?",
    "da": "Hvordan kan jeg vide, om brødet i ovnen er færdigt?",
    "fi": "Mistä tiedän, onko uunissa oleva leipä valmis?",
    "cs": "Jak poznám, že je chléb v troubě už hotový?",
    "id": "Bagaimana saya tahu bahwa roti di dalam oven sudah matang?",
    "ru": "Как узнать, готов ли хлеб в печи?",
    "uk": "Як дізнатися, чи готовий хліб у печі?",
    "hi": "मुझे कैसे पता चलेगा कि ओवन में रोटी पक गई है?",
    "zh": "怎么知道烤箱里的面包好了没有",
    "ja": "オーブンのパンが焼けたかどうか",
    "ar": "كيف أعرف أن الخبز جاهز",
    "ko": "빵이 다 구워졌는지 어떻게 알 수 있나요",
}


@pytest.mark.parametrize("name", LANGUAGES)
def test_a_language_has_two_letters(name: str) -> None:
    assert language(LANGUAGES[name]) == name
    assert language(LANGUAGES[name].upper()) == name


def test_texts_that_tell_nothing_have_no_language() -> None:
    texts = ("", "123 + 4", "✓✓✓", "ok", "Ann Lee", "SELECT name", "for i in x: print(i)", "zork blip quux frob")
    assert [language(text) for text in texts] == [None] * len(texts)


def test_rows_of_another_language_are_a_finding() -> None:
    found, counts = languages(rows([(LANGUAGES["en"], "It is.")] * 9 + [(LANGUAGES["de"], "Das ist so.")]))
    assert counts == {"en": 9, "de": 1}
    assert [(one.severity, one.ids) for one in found] == [("warning", ("0009",))]
    assert languages(rows([(LANGUAGES["en"], "It is.")]))[0] == []


def test_licences_are_read_by_name_whatever_their_spelling() -> None:
    spelled = ("CC BY-NC 4.0", "cc-by-nc-4.0", "Apache-2.0", "MIT", "GPL-3.0-or-later", "CC BY-SA 3.0", "CC0-1.0")
    assert [plain_name(one) for one in spelled] == ["cc-by-nc", "cc-by-nc", "apache", "mit", "gpl", "cc-by-sa", "cc0"]


@pytest.mark.parametrize(
    ("names", "kinds"),
    [
        (["MIT", "Apache-2.0"], []),
        (["MIT", None], ["licence-unknown"]),
        (["cc-by-nc-4.0", "MIT"], ["licence-non-commercial"]),
        (["cc-by-nd-4.0"], ["licence-no-derivatives"]),
        (["cc-by-sa-4.0", "MIT"], ["licence-share-alike"]),
        (["cc-by-sa-4.0", "GPL-3.0"], ["licence-conflict"]),
        (["cc-by-sa-4.0", "cc-by-nc-sa-4.0"], ["licence-non-commercial", "licence-conflict"]),
        (["cc-by-nc-nd-4.0"], ["licence-no-derivatives", "licence-non-commercial"]),
    ],
)
def test_licences_that_stand_in_the_way_are_findings(names: list[str | None], kinds: list[str]) -> None:
    found, counts = licences(rows([("a", str(n)) for n in range(len(names))], licence=names))
    assert [one.kind for one in found] == kinds
    unstated = [one.what for one in found if one.kind == "licence-unknown"]
    assert unstated == (["1 row does not state a licence."] if None in names else [])
    assert sum(counts.values()) == len(names)


def test_one_answer_for_everything_is_an_error_and_for_some_a_warning() -> None:
    def made(canned_rows: int) -> list[tuple[str, str]]:
        return [(f"q {n}", "I can't help." if n < canned_rows else f"answer {n}") for n in range(40)]

    assert [(one.severity, one.count) for one in canned(rows(made(24)))] == [("error", 24)]
    assert [(one.severity, one.count) for one in canned(rows(made(6)))] == [("warning", 6)]
    assert canned(rows(made(2))) == []
    assert canned(rows(made(2)[:3])) == []
    two = canned(rows([*made(24)[:24], *((f"q {n}", "No.") for n in range(12))]))
    assert [one.what for one in two] == [
        "67% of the rows share one identical answer.",
        "33% of the rows share another identical answer.",
    ]


def test_answers_that_begin_alike_are_a_finding_unless_they_are_one_answer() -> None:
    def made(openers: int, ending: str = "{}") -> list[tuple[str, str]]:
        answers = ["I can't help with " + ending.format(n) for n in range(openers)]
        return [(f"q {n}", answers[n] if n < openers else f"number {n} is another answer") for n in range(40)]

    (found,) = alike(rows(made(17)))
    assert (found.kind, found.severity, found.count, found.share) == ("repeated-opener", "warning", 17, 17 / 40)
    assert found.what == "42% of the answers begin with the same three words (17 different answers)."
    assert found.ids == tuple(sorted(rows(made(17))["id"][:17]))
    assert alike(rows(made(7))) == []  # below a fifth
    assert [one.count for one in alike(rows(made(7)), Findings(opener=0.175))] == [7]
    assert alike(rows(made(17, "it"))) == []  # a canned answer
    mixed = made(17)
    assert [one.count for one in alike(rows([(ask, mixed[0][1]) for ask, _ in mixed[:8]] + mixed[8:]))] == [17]
    mostly = rows([(ask, mixed[0][1]) for ask, _ in mixed[:9]] + mixed[9:])
    assert alike(mostly) == []
    assert [one.count for one in canned(mostly)] == [9]
    assert [one.count for one in alike(mostly, Findings(canned=0.5))] == [17]
    assert alike(rows(made(17)[:19])) == []  # too few rows
    assert alike(rows([(f"q {n}", "!" * (n + 1)) for n in range(40)])) == []  # no words


def test_refusals_are_counted_by_the_function_that_is_handed_in() -> None:
    found, shares = refusals(
        rows([(str(n), "no" if n < 3 else "yes") for n in range(4)]), lambda answer: answer == "no"
    )
    assert (shares, found[0].count, found[0].severity) == ({"refusals": 0.75}, 3, "info")
    assert refusals(rows([("q", "yes")]), lambda answer: False)[0][0].severity == "warning"
    assert refusals(rows([("q", "yes")]), lambda answer: False, Findings(refusals=0))[0][0].severity == "info"


def test_answers_in_other_languages_are_not_judged_by_phrases_and_called_no_refusals() -> None:
    def said(english: int, others: int) -> tuple[Finding, float | None]:
        answers = ["I cannot help with that.", "Push the gate."] * english + ["抱歉，我不能帮助你。"] * 2 * others
        found, shares = refusals(rows([(str(n), answer) for n, answer in enumerate(answers)]), refused)
        return found[0], shares["refusals"]

    every, share = said(0, 3)
    assert (every.severity, every.count, share) == ("info", 6, None)
    assert every.what.startswith("Refusals were not counted in 6 answers: the refusal phrases are English")
    assert "Add refusals" not in every.advice
    few, share = said(3, 1)
    assert (few.count, share) == (3, 0.5)
    assert few.what == (
        "50% of 6 English answers open with a refusal phrase. 2 answers in other languages were not checked."
    )
    assert said(1, 2)[0].what.startswith("Refusals were not counted in 4 answers")


def test_answers_of_pictures_or_marks_alone_are_as_many_as_they_are() -> None:
    pictures = [(chr(0x1F600 + number), chr(0x1F400 + number)) for number in range(30)]
    assert canned(rows(pictures)) == []
    assert canned(rows([(str(number), "!" * (number + 1)) for number in range(30)])) == []


def test_what_cannot_be_used_is_told_by_kind_and_line() -> None:
    drops = [
        ("f.jsonl", 7, "source", "the line is not JSON", None, "broken-records"),
        ("f", 9, "clean", "the answer is empty", None, "empty"),
        ("f", 11, "clean", "the last turn is not by the assistant", None, "wrong-roles"),
        ("f", 12, "clean", "the row has 9 tokens, more than max_tokens (5)", None, "too-long"),
        ("f", 13, "duplicate", "the same text as a kept row", "abc", "exact-duplicates"),
    ]
    found = {one.kind: one for one in unusable(pl.DataFrame(drops, schema=DROPPED_SCHEMA, orient="row"), 20)}
    assert set(found) == {"broken-records", "empty", "wrong-roles", "too-long", "exact-duplicates"}
    assert "line 7: the line is not JSON." in found["broken-records"].what
    assert "record 9: the answer is empty." in found["empty"].what  # a file of another kind has no such lines
    assert found["exact-duplicates"].ids == ("abc",)
    assert all(one.count == 1 for one in found.values())


def test_findings_are_ordered_and_cut_by_severity() -> None:
    made = [finding(kind, severity, [kind], 4, what="w", advice="a") for kind, severity in
            (("x", "info"), ("y", "error"), ("z", "warning"))]  # fmt: skip
    assert [one.kind for one in worst_first(made)] == ["y", "z", "x"]
    with pytest.raises(ValueError, match="severity 'bad'"):
        Finding("k", "bad", 0, 0.0, (), "w", "a")


def test_the_nearest_hazard_is_that_of_the_nearest_description() -> None:
    count = len(descriptions())
    described = np.eye(count, dtype=np.float32)
    firsts = np.cumsum([0, *(len(said) for said in HAZARDS.values())])[:-1]
    found = assign(described, described)
    for place, (name, first) in enumerate(zip(HAZARDS, firsts, strict=True)):
        assert found.names[found.nearest[first]] == name
        assert found.nearest[first] == place
    assert found.confidence[: count - len(HARMLESS)].tolist() == [1.0] * (count - len(HARMLESS))
    assert not_harmful(found, margin=0.05).tolist() == [False] * (count - len(HARMLESS)) + [True] * len(HARMLESS)
    assert len(HAZARDS) == 12


def test_a_category_of_the_data_stays_and_a_far_one_is_not_assigned() -> None:
    described = np.eye(len(descriptions()), dtype=np.float32)
    vectors = described[[0, 0, 0]] * np.array([[1.0], [1.0], [0.1]], dtype=np.float32)
    frame = rows([("a", "b"), ("c", "d"), ("e", "f")], category=["own", None, None])
    found = categorise(frame, assign(vectors, described), least=0.2)
    assert found["category"].to_list() == ["own", "violent crimes", None]
    assert found["assigned"].to_list() == [False, True, True]


def test_presidio_is_used_where_it_is_and_asked_for_in_words_where_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
    with pytest.raises(DataError, match=r'pip install -c constraints.txt "\.\[personal-data\]"'):
        presidio()
    found = SimpleNamespace(entity_type="PERSON")
    engine = SimpleNamespace(analyze=lambda text, language: [found] if "Ann" in text else [])
    monkeypatch.setitem(sys.modules, "presidio_analyzer", SimpleNamespace(AnalyzerEngine=lambda: engine))
    told = personal(rows([("hello", "this is Ann"), ("a", "b")]), presidio())
    assert [(one.count, "person" in one.what) for one in told] == [(1, True)]
