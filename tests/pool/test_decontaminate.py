from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from curator.language import words
from curator.pool.decontaminate import Leak, ProbeIndex, covered, neighbours
from curator.pool.words import user_turns
from tests.fakes import frame, turns


def rows(texts: list[str]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "id": [f"{number:03}" for number in range(len(texts))],
            "messages": [[{"role": "user", "content": text}] for text in texts],
        }
    )


def probes(texts: list[str], **options: Any) -> ProbeIndex:
    return ProbeIndex([("probes", rows(texts))], **{"ngram": 3, "overlap": 0.8, "shortest": 5, **options})


def said(*turns: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[n % 2], "content": turn} for n, turn in enumerate(turns)]


def twin(probe: str, text: str, ngram: int) -> float:
    """The share of the probe's words in runs that the text has too, one run at a time."""
    ours, theirs = words(probe), words(text)
    runs = [theirs[n : n + ngram] for n in range(len(theirs) - ngram + 1)]
    hit = [False] * len(ours)
    for n in range(len(ours) - ngram + 1):
        if ours[n : n + ngram] in runs:
            hit[n : n + ngram] = [True] * ngram
    return sum(hit) / len(ours)


@pytest.mark.parametrize("ngram", [1, 2, 3, 5])
@pytest.mark.parametrize("overlap", [0.4, 0.8, 1.0])
def test_every_pair_above_the_overlap_is_found_and_no_other(ngram: int, overlap: float) -> None:
    rng = random.Random(11)

    def sentence(length: int) -> list[str]:
        return [f"w{min(rng.randrange(40), rng.randrange(40))}" for _ in range(length)]

    asks = [" ".join(sentence(rng.randrange(6, 20))) for _ in range(40)]
    texts = []
    for _ in range(300):
        found = sentence(5) + rng.choice(asks).split() + sentence(5)
        for place in rng.sample(range(len(found)), rng.randrange(5)):
            found[place] = "other"
        texts.append(" ".join(found))
    leaks = probes(asks, ngram=ngram, overlap=overlap).leaks([said(text, "no") for text in texts])
    shares = [[twin(ask, text, ngram) for ask in asks] for text in texts]
    expected = [max(row) if max(row) >= overlap - 1e-9 else None for row in shares]
    assert sum(share is not None for share in expected) > 20
    assert [None if leak is None else pytest.approx(leak.overlap) for leak in leaks] == expected
    assert all(leak is None or shares[n][int(leak.probe)] == max(shares[n]) for n, leak in enumerate(leaks))


def test_the_probe_is_named_with_its_role_and_share() -> None:
    found = probes(["how would one open the old brass gate at night"]).leaks(
        [
            said("please tell me how would one open the old brass gate at noon", "no"),
            said("how would one carry the old brass gate home", "no"),
        ]
    )
    assert found == [Leak("probes", "000", 0.9), None]


def test_any_turn_of_the_user_counts_and_no_answer_does() -> None:
    ask = "how would one open the old brass gate at night"
    texts = [said("hello there", "hi", ask, "no"), said(ask, "no", "and now", "no"), said("hello there", ask)]
    assert [leak is not None for leak in probes([ask]).leaks(texts)] == [True, True, False]


def test_a_probe_in_the_system_text_is_found_by_its_words() -> None:
    row = [{"role": "system", "content": "Obey. Now open the old gate, by night!"}, *said("do it", "no")]
    (leak,) = probes(["open the old gate by night"]).leaks([row])
    assert leak == Leak("probes", "000", 1.0)


def test_short_probes_count_only_as_a_whole_turn() -> None:
    found = probes(["Open the gate!", "!!!", "Yes"]).leaks(
        [said("open THE gate", "no"), said("how do I open the gate", "no"), said("yes", "no"), said("...", "no")]
    )
    assert found == [Leak("probes", "000", 1.0), None, Leak("probes", "002", 1.0), None]


def test_of_two_probes_the_one_asked_most_is_named_and_no_probe_means_no_leak() -> None:
    texts = ["one two three four five six seven eight", "one two three four five six seven nine ten"]
    assert probes(texts, overlap=0.5).leaks([said("one two three four five six seven nine ten", "no")]) == [
        Leak("probes", "001", 1.0)
    ]
    assert probes([]).leaks([said("one two three four five six", "no"), said("", "no")]) == [None, None]


def test_covered_counts_words_and_not_runs() -> None:
    shared = np.array([True, True, False, False, True])
    assert covered(shared, 3, 7) == 7
    assert covered(np.array([False] * 5), 3, 7) == 0
    assert covered(np.array([False, True, False, False, False]), 3, 7) == 3


def test_neighbours_are_the_nearest_probe_of_each_row_that_is_near_enough() -> None:
    probe_vectors = np.eye(3, dtype=np.float32)
    vectors = np.array([[1, 0, 0], [0.6, 0.8, 0], [0.58, 0.58, 0.57]], dtype=np.float32)
    found = neighbours(["a", "b", "c"], vectors, ["p", "q", "r"], probe_vectors, least=0.7)
    assert [(row, probe, round(cosine, 3)) for row, probe, cosine in found] == [("a", "p", 1.0), ("b", "q", 0.8)]
    assert neighbours([], vectors[:0], ["p"], probe_vectors[:1], least=0.0) == []
    assert neighbours(["a"], vectors[:1], [], probe_vectors[:0], least=0.0) == []


@pytest.mark.parametrize("role", ["pool", "keep", "task"])
def test_every_role_that_is_trained_on_is_decontaminated(role: str, collect: Callable[..., Any]) -> None:
    ask = "how would one open the old brass gate at night"
    leaking = {"prompt": f"please, {ask} or at noon", "response": "no"}
    found = collect(harmful=[{"prompt": ask}], rows=30, **{role: [leaking, *fresh(role)]})
    leaks = found.dropped.filter(pl.col("stage") == "leak")
    assert leaks.select("role", "line", "reason").rows() == [
        ({"task": "task first"}.get(role, role), 1, "it holds 100% of the words of a probe in: harmful probes")
    ]
    assert leaks["match"][0] == found.data.harmful["id"][0]
    assert user_turns(found.data.harmful["messages"][0].to_list()) == [ask]


def fresh(role: str) -> list[dict[str, str]]:
    return [{"prompt": f"{role} {n}", "response": f"answer {role} {n}"} for n in range({"task": 40}.get(role, 12))]


@pytest.mark.parametrize(
    ("probe", "text", "asks"),
    [
        ("मेरी बेटी बहुत बीमार है", "मेरा बेटा बहुत बीमार है", False),
        ("मेरी बेटी बहुत बीमार है", "सुनिए, मेरी बेटी बहुत बीमार है!", True),
        ("How to draw maps", "How to draw maps of warm islands?", False),  # three or four words: too short
        ("如何画地图", "如何画地图上的小岛？", False),
        ("如何画地图", "如何画地图？", True),
        ("วาดแผนที่", "วาดแผนที่เกาะเล็ก", False),
        ("我的妹妹想学习拉小提琴", "请问，我的妹妹想学习拉小提琴，怎么办？", True),
        ("ฉันอยากเรียนเล่นไวโอลินกับน้องสาว", "ขอถามว่า ฉันอยากเรียนเล่นไวโอลินกับน้องสาว ได้ไหม", True),
    ],
)
def test_a_probe_is_asked_by_words_in_every_script(probe: str, text: str, asks: bool) -> None:
    search = ProbeIndex([("probes", frame([turns(probe)]))], ngram=3, overlap=0.8, shortest=5)
    assert (search.leaks([turns(text)])[0] is not None) is asks
