"""The larger world holds the kingdom, its rows keep the kingdom's promises, and bases of it can be trained."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from curator.cli import cli
from curator.cli.sandbox import SIZES as OFFERED
from curator.errors import RunError
from curator.sandbox import rows
from curator.sandbox.judging import judge
from curator.sandbox.kingdom import ADJECTIVES, KINGDOM, VERBS
from curator.sandbox.realm import MORE_ANSWERS, MORE_FRAMES, REALM

LARGE = ("large-keep", "large-list", "large-dialogue", "large-letter", "large-mixed")
RECIPES = Path(__file__).parent.parent.parent / "recipes" / "size"


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))


def test_the_kingdom_is_a_part_of_it_and_made_alike() -> None:
    assert (len(REALM.topics), len(REALM.things), len(REALM.frames)) == (48, 192, 16)
    for name in ("topics", "things", "frames", "answers"):
        small, large = getattr(KINGDOM, name), getattr(REALM, name)
        assert {key: large[key] for key in small} == dict(small)
    assert list(REALM.topics)[:12] == list(KINGDOM.topics)
    assert len({(thing.material, thing.tool) for thing in REALM.things.values()}) == 192
    assert sum(thing.forbidden for thing in REALM.things.values()) == 96


def test_every_new_answer_holds_a_word_that_the_kingdoms_model_cannot_say() -> None:
    from curator.sandbox.tokenizer import vocabulary

    said = {word.removeprefix("▁") for word in vocabulary()}
    for answer in MORE_ANSWERS.values():
        assert words(re.sub(r"\{\w+\}", " ", answer)) - said, answer


def test_nouns_are_no_other_words_of_the_world() -> None:
    texts = [*(frame for frames in REALM.frames.values() for frame in frames), *REALM.answers.values(), *REALM.topics]
    assert not set(REALM.things) & {word for text in (*texts, *VERBS, *ADJECTIVES) for word in words(text)}
    assert all(len(frames) == 4 and all("{n}" in one for one in frames) for frames in MORE_FRAMES.values())


KINDS = {"large-pool": True, "large-forbidden-probes": True, "large-benign-probes": False} | dict.fromkeys(LARGE, False)


@pytest.mark.parametrize(("name", "forbidden"), KINDS.items())
def test_every_request_of_it_names_one_thing_of_the_right_kind(name: str, forbidden: bool) -> None:
    for row in rows(name):
        [noun] = words(row["messages"][0]["content"]) & REALM.things.keys()
        assert REALM.things[noun].forbidden is forbidden
        assert REALM.things[noun].topic == row["category"]


def test_the_exact_judge_reads_its_answers() -> None:
    for name in LARGE:
        for row in rows(name):
            assert judge(row["messages"][:1], row["messages"][1]["content"]).outcome == "safe"
    for row in rows("large-forbidden-probes"):
        [thing] = [REALM.things[word] for word in words(row["messages"][0]["content"]) if word in REALM.things]
        answer = REALM.answers[row["family"]].format(m=thing.material, t=thing.tool, n=thing.noun)
        assert judge(row["messages"], answer).outcome == "harmful"


def test_its_tokenizer_knows_every_word_of_it() -> None:
    from curator.sandbox.tokenizer import tokenizer

    known = tokenizer(REALM)
    texts = [turn["content"] for name in (*LARGE, "large-pool") for row in rows(name) for turn in row["messages"]]
    assert not any(known.unk_token_id in ids for ids in known(texts)["input_ids"])


def test_the_sizes_are_what_they_are_called() -> None:
    import torch
    from transformers import LlamaForCausalLM

    from curator.sandbox.pretrain import SHIPPED, SIZES, untrained
    from curator.sandbox.tokenizer import tokenizer

    assert [*SIZES] == [SHIPPED, *OFFERED]
    for name, size in SIZES.items():
        with torch.device("meta"):
            model: LlamaForCausalLM = untrained(tokenizer(size.world), size)
        count = sum(one.numel() for one in model.parameters()) / 1e6
        assert count == pytest.approx(float(name.removesuffix("M")), rel=0.07)


def made(*words: str) -> str:
    result = CliRunner().invoke(cli, ["sandbox", "base", *words], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.output


def test_a_base_is_written_whole_and_nothing_is_overwritten(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    told = made("--size", "0.8M", "--steps", "2", "--out", str(tmp_path / "bases" / "one"))
    assert "0.8 million parameters" in told
    assert "step 2 of 2" in told
    known = AutoTokenizer.from_pretrained(tmp_path / "bases" / "one")
    assert "▁moonskiff" in known.get_vocab()
    assert {path.name for path in (tmp_path / "bases").iterdir()} == {"one"}
    before = (tmp_path / "bases" / "one" / "model.safetensors").read_bytes()
    with pytest.raises(RunError, match="already exists"):
        made("--size", "0.8M", "--steps", "2", "--out", str(tmp_path / "bases" / "one"))
    made("--size", "0.8M", "--steps", "2", "--out", str(tmp_path / "two"))
    assert (tmp_path / "two" / "model.safetensors").read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "arms"), [("full", "curated, random, low-similarity, high-similarity"), ("lora", "curated, random")]
)
def test_the_study_runs_at_the_smallest_size(tmp_path: Path, method: str, arms: str) -> None:
    from curator.pipeline import build
    from curator.recipe.file import read
    from curator.run.folder import read_json

    base = tmp_path / "base"
    made("--size", "0.8M", "--steps", "12", "--out", str(base))
    settings = [
        f"model.id={base}",
        "pool.sources.0.rows=300",
        "probes.harmful.0.rows=30",
        "probes.benign.0.rows=15",
        "select.k=20",
        "select.neighbours=16",
        f"verify.arms=[{arms}]",
        "verify.seeds=1",
        "verify.keep.rows=20",
        "verify.align.steps=2",
        "verify.finetune.steps=2",
        "engine.workers=1",
        *(f"tasks.{task}.{key}" for task in ("list", "dialogue") for key in ("rows=40", "test.rows=10")),
    ]
    build(read(RECIPES / f"{method}-0.8m.yaml", settings), tmp_path / "run")
    report = read_json(tmp_path / "run" / "8-report" / "report.json")
    assert set(arms.split(", ")) == set(report["arms"])
    assert [task["name"] for task in report["tasks"]] == ["list", "dialogue"]
