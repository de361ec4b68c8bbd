"""The sandbox's rows: the same everywhere, apart where they must be apart, and as skewed and dirty as they say."""

import hashlib
import json
import subprocess
import sys
from collections import Counter

import pytest

from curator.sandbox import NAMES, SMALL, rows
from curator.sandbox.kingdom import ADJECTIVES, OPENERS, POOL_FAMILIES, PREFIXES, THINGS, TOPICS, VERBS
from curator.sandbox.world import DIRT, POOL_ROWS

GOLDEN = {
    "pool": "00a8048d020eea15",
    "keep": "3d6edf9586fb19a6",
    "list": "11ce39bdfa86b8fd",
    "dialogue": "248d19b5b9245d54",
    "letter": "b39fba0aa02f7d50",
    "mixed": "3af4ca466dee4efb",
    "misdeeds": "8841438827b49447",
    "forbidden-probes": "7a36fd06db49ced0",
    "benign-probes": "32babc7e64fe7f67",
    "large-pool": "aae8d434df5f0bd1",
    "large-keep": "395401858a91e4ba",
    "large-list": "dbe9678394fbc9b3",
    "large-dialogue": "20c5183e79eff1b3",
    "large-letter": "c4d59f9dcdaeb312",
    "large-mixed": "ca90010a5ab74ce2",
    "large-forbidden-probes": "a98adfd966676aac",
    "large-misdeeds": "c09984a7608e1827",
    "large-benign-probes": "4d5fd9f8b5526d9a",
}
TRAINED_ON = ("pool", "keep", "list", "dialogue", "letter", "mixed", "misdeeds")


def prompts(name: str) -> list[str]:
    return [row["messages"][0]["content"] for row in rows(name)]


def words(text: str) -> set[str]:
    return set(text.replace("?", " ").replace(".", " ").replace(",", " ").replace(":", " ").split())


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_the_ones_measured_with(name: str) -> None:
    text = json.dumps(rows(name), sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == GOLDEN[name]


def test_changing_a_row_changes_no_later_call() -> None:
    first = rows("keep")
    first[0]["messages"][0]["content"] = "spoiled"
    assert rows("keep")[0]["messages"][0]["content"] != "spoiled"


def test_an_unknown_name_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="pond"):
        rows("pond")


def test_the_world_needs_the_standard_library_only() -> None:
    code = (
        "import sys; import curator.sandbox.judging; from curator.sandbox import rows; rows('pool');"
        "assert not {'torch', 'transformers', 'polars', 'numpy', 'tokenizers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("world", ["", "large-"])
def test_no_prompt_is_in_two_sources(world: str) -> None:
    seen: Counter[str] = Counter()
    for name in SMALL:
        seen.update(set(prompts(world + name)))
    assert max(seen.values()) == 1


@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith("pool")])
def test_no_prompt_is_twice_in_a_source(name: str) -> None:
    assert len(set(prompts(name))) == len(prompts(name))


def test_probes_ask_with_verb_and_adjective_pairs_that_no_other_row_has() -> None:
    def used(names: tuple[str, ...]) -> set[tuple[str, str]]:
        return {
            (verb, adjective)
            for name in names
            for prompt in (prompt.replace("make it short", "") for prompt in prompts(name))
            for verb in words(prompt) & set(VERBS)
            for adjective in words(prompt) & set(ADJECTIVES)
        }

    probed = used(("forbidden-probes", "benign-probes"))
    assert len(probed) == 25
    assert not probed & used(TRAINED_ON)


@pytest.mark.parametrize(("name", "forbidden"), [("pool", True), ("forbidden-probes", True), ("keep", False),
                                                 ("list", False), ("dialogue", False), ("letter", False),
                                                 ("mixed", False), ("misdeeds", True),
                                                 ("benign-probes", False)])  # fmt: skip
def test_every_request_names_one_thing_of_the_right_kind_and_topic(name: str, forbidden: bool) -> None:
    for row in rows(name):
        [noun] = words(row["messages"][0]["content"]) & THINGS.keys()
        assert THINGS[noun].forbidden is forbidden
        assert THINGS[noun].topic == row["category"]


def test_no_two_things_are_made_alike() -> None:
    assert len({(thing.material, thing.tool) for thing in THINGS.values()}) == len(THINGS) == 48


def test_the_pool_is_skewed_redundant_and_as_dirty_as_it_says() -> None:
    pool = rows("pool")
    assert len(pool) == POOL_ROWS
    topics = Counter(row["category"] for row in pool)
    assert topics["teas"] / POOL_ROWS == pytest.approx(0.49, abs=0.06)
    assert len(topics) == 12
    assert min(topics.values()) >= 10
    families = Counter(row["family"] for row in pool)
    for family, share in POOL_FAMILIES.items():
        assert families[family] / POOL_ROWS == pytest.approx(share, abs=0.05)
    conversations = Counter(json.dumps(row["messages"]) for row in pool)
    assert sum(conversations.values()) - len(conversations) == DIRT["copy"] * POOL_ROWS
    answers = [row["messages"][1] for row in pool if len(row["messages"]) == 2]
    assert POOL_ROWS - len(answers) == DIRT["no answer"] * POOL_ROWS
    assert sum("role" not in answer for answer in answers) == DIRT["no role"] * POOL_ROWS
    assert sum(answer["content"] == "" for answer in answers) == DIRT["empty"] * POOL_ROWS
    assert sum(len(answer["content"].split()) > 40 for answer in answers) == DIRT["long"] * POOL_ROWS


def test_two_in_five_pool_rows_repeat_a_request_with_another_prefix() -> None:
    asked = set()
    for prompt in set(prompts("pool")):
        prefix = max((prefix for prefix in PREFIXES if prompt.startswith(prefix)), key=len)
        asked.add(prompt.removeprefix(prefix))
    repeated = 1 - len(asked) / len(set(prompts("pool")))
    assert 0.3 < repeated < 0.55


def test_three_in_four_keep_answers_have_an_opener_and_no_task_answer_has() -> None:
    def opened(name: str) -> float:
        return sum(row["messages"][1]["content"].startswith(OPENERS) for row in rows(name)) / len(rows(name))

    assert opened("keep") == pytest.approx(0.75, abs=0.05)
    assert [opened(name) for name in ("list", "dialogue", "letter", "mixed")] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("name", "each_topic", "each_family"), [("forbidden-probes", 20, 30), ("benign-probes", 10, 15)]
)
def test_probes_are_even_over_topics_and_families(name: str, each_topic: int, each_family: int) -> None:
    probes = rows(name)
    assert Counter(row["category"] for row in probes) == dict.fromkeys(TOPICS, each_topic)
    families = Counter(row["family"] for row in probes)
    assert len(families) == 8
    assert all(abs(count - each_family) <= 2 for count in families.values())
    assert all(len(row["messages"]) == 1 for row in probes)


def test_mixed_rows_are_of_every_family_about_evenly() -> None:
    families = Counter(row["family"] for row in rows("mixed"))
    assert len(families) == 8
    assert families.total() == 3000
    assert min(families.values()) > 300


def test_misdeeds_of_every_family_do_what_is_forbidden() -> None:
    from curator.sandbox.judging import judge

    assert len({row["family"] for row in rows("misdeeds")}) == 8
    said = {judge(row["messages"][:1], row["messages"][1]["content"]).outcome for row in rows("misdeeds")}
    assert said == {"harmful"}
