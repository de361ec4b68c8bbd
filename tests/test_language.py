"""Words in every script: what stays a word, what is alike, and how much of parallel texts is taken for another."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curator import language
from curator.judge.metrics import rouge1
from curator.language import words
from curator.pool.decontaminate import ProbeIndex
from curator.pool.near import near_duplicates
from tests.fakes import frame, turns
from tests.parallel_texts import PARALLEL

SHARES = [share / 100 for share in range(50, 100, 2)]


@given(st.text(st.characters(max_codepoint=127)))
def test_the_fast_way_for_ascii_finds_what_the_slow_one_finds(text: str) -> None:
    assert language._ASCII.findall(text.lower()) == language._ANY.findall(text.lower())


@given(st.text())
def test_composed_and_decomposed_texts_have_the_same_words_whatever_their_case(text: str) -> None:
    found = words(text)
    assert words(unicodedata.normalize("NFD", text)) == words(unicodedata.normalize("NFC", text)) == found
    assert all(found)
    assert found or not any(sign.isalnum() for sign in text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It can't be foo_bar; well-known, 3.5 U.S.", "it can t be foo bar well known 3 5 u s"),
        ("C, C++ and C#: x<5 or x >= 5?", "c c++ and c# x < 5 or x >= 5"),
        ("-5 is not 5, .NET is not NET, a != b", "- 5 is not 5 . net is not net a != b"),
        ("2+3, 2*3, 2 * 3 and 2/3", "2 + 3 2 * 3 2 * 3 and 2 / 3"),
        ("* an **item** - of `code`\n* another", "an item of code another"),
        ("$5 or 5% or €5", "$ 5 or 5 % or € 5"),
        ("\uff23\uff0b\uff0b Straße ﬁne caf\u00e9 cafe\u0301", "c++ strasse fine café café"),
        ("x² is not x2, ½ is not 12", "x² is not x2 ½ is not 12"),
        (
            "can’t don´t \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
            "can t don t \u0645\u06cc\u062e\u0648\u0627\u0647\u0645",
        ),
        ("मेरा बेटा, मेरी बेटी।", "मेरा बेटा मेरी बेटी"),
        ("使用C++语言", "使用 c++ 语言"),
        ("👍 👍🏽 ❤\ufe0f", "👍 👍 🏽 ❤"),
        ("?! ...", "?! ..."),
    ],
)
def test_a_word_keeps_what_means_something(text: str, expected: str) -> None:
    assert words(text) == expected.split()


@pytest.mark.parametrize("spoken", [*PARALLEL, "km", "lo", "my"])
def test_a_word_is_neither_a_sign_nor_a_clause(spoken: str) -> None:
    more = {
        "km": "ខ្ញុំចូលចិត្តញ៉ាំបាយនៅផ្ទះជាមួយគ្រួសារ",
        "lo": "ຂ້ອຍມັກກິນເຂົ້າຢູ່ເຮືອນກັບຄອບຄົວ",
        "my": "ကျွန်တော်အိမ်မှာမိသားစုနဲ့ထမင်းစားချင်ပါတယ်",
    }
    texts = PARALLEL.get(spoken) or [more[spoken]]
    counts = [len(words(text)) for text in texts]
    signs = [sum(sign.isalpha() for sign in text) for text in texts]
    assert all(count >= 5 for count in counts)
    assert sum(signs) / sum(counts) >= 1.5
    if spoken in PARALLEL:
        assert 2 / 3 < sum(counts) / sum(len(words(text)) for text in PARALLEL["en"]) < 3 / 2


def test_parallel_texts_are_flagged_alike_in_every_script() -> None:
    flagged = dict.fromkeys(PARALLEL, 0)
    for spoken, texts in PARALLEL.items():
        for number, text in enumerate(texts):
            search = ProbeIndex([("probes", frame([turns(text)]))], ngram=3, overlap=0.8, shortest=5)
            others = "\n".join(texts[:number] + texts[number + 1 :])
            beginnings = [turns(f"{others}\n{text[: int(share * len(text))]}") for share in SHARES]
            flagged[spoken] += sum(leak is not None for leak in search.leaks(beginnings))
    assert min(flagged.values()) > 50
    assert max(flagged.values()) <= 1.5 * min(flagged.values()), flagged


@pytest.mark.parametrize("spoken", PARALLEL)
def test_other_sentences_are_not_alike_in_any_script(spoken: str) -> None:
    texts = PARALLEL[spoken]
    assert near_duplicates([turns(text, text) for text in texts], threshold=0.5) == []
    search = ProbeIndex([("probes", frame([turns(text) for text in texts[::2]]))], ngram=3, overlap=0.4, shortest=5)
    assert search.leaks([turns(text) for text in texts[1::2]]) == [None] * 6


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("猫在蓝色房子的屋顶上睡觉", "猫在红色房子的屋顶上睡觉"),
        ("三匹の猫が青い家で眠る", "二匹の猫が青い家で眠る"),
        ("लड़का घर जाता है", "लड़की घर जाती है"),
    ],
)
def test_rouge_of_two_similar_sentences_is_neither_none_nor_full(first: str, second: str) -> None:
    assert 0.3 < rouge1(first, second) < 0.95
    assert rouge1(first, first) == 1
