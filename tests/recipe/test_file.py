"""Every mistake in a recipe is named, with its place, what was found and what is allowed."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curator.errors import RecipeError
from curator.forecast.outline import outline
from curator.recipe import Recipe
from curator.recipe.file import dump, parse, quoted, read, template
from curator.recipe.score import AGGREGATES
from tests.small_run import QUICKSTART, recipe

SELECT_KEYS = (
    "k, budget_tokens, data, objective, parameters, weight, coverage, prefer, by, cover_by, neighbours, quotas, "
    "within, answers, vulnerable, repeats, include, exclude, stochastic"
)

GOOD = """\
name: good
seed: 3
model: {id: "sandbox:"}
pool:
  sources:
    - {sandbox: pool}
    - {file: more.jsonl, where: {kind: [a, b]}}
tasks:
  - name: list
    train: {sandbox: list}
    rows: 40
  - {name: letter-1.5, train: {sandbox: letter}, anticipated: false}
probes:
  harmful: [{sandbox: forbidden-probes}]
represent: {from: hidden-states, layer: -1}
score: {from: cosine, aggregate: top-mean, n: 10}
select:
  k: 20
  weight: 0.3
verify:
  arms: [curated, random, {name: none, seeds: 1}]
  seeds: 3
  align: {steps: 4, learning_rate: 3e-4}
  finetune: {epochs: 1.5}
judges:
  headline: exact
  panel: [{name: exact, sandbox: exact}, {name: phrases, refusal: phrases}]
"""
ROOT_KEYS = (
    "name, seed, model, pool, tasks, probes, represent, score, select, verify, augment, judges, publish, engine, suite"
)
SOURCE_KEYS = (
    "file, hub, sandbox, config, split, revision, where, columns, template, category, rows, weight, licence, broken"
)
WORDS = "letters, digits, '.', '_', '+' and '-', starting with a letter or digit"

# What is replaced in GOOD, by what, and every sentence that must come of it.
BAD: list[tuple[str, str, list[str]]] = [
    ("name: good", "name: 12", ["r.yaml:1: name: found 12; allowed: text"]),
    ("name: good", "name: a b", [f"r.yaml:1: name: found 'a b'; allowed: {WORDS}"]),
    ("name: good", "name: ../up", [f"r.yaml:1: name: found '../up'; allowed: {WORDS}"]),
    ("name: good", "name:", ["r.yaml:1: name: found nothing; allowed: text"]),
    ("name: good", "name: " + "x" * 81, [f"r.yaml:1: name: found '{'x' * 56}...; allowed: at most 80 characters"]),
    ("name: good\n", "", ["r.yaml: name: this key is required; add it"]),
    ("name: good", "nam: good", [
        "r.yaml: name: this key is required; add it",
        f"r.yaml:1: nam: unknown key; did you mean 'name'? allowed: {ROOT_KEYS}",
    ]),
    ("seed: 3", "Seed: 3", [f"r.yaml:2: Seed: unknown key; did you mean 'seed'? allowed: {ROOT_KEYS}"]),
    ("seed: 3", "SEED: 3", [f"r.yaml:2: SEED: unknown key; did you mean 'seed'? allowed: {ROOT_KEYS}"]),
    ("seed: 3", "zzz: 3", [f"r.yaml:2: zzz: unknown key; allowed: {ROOT_KEYS}"]),
    ("seed: 3", "12: 3", [f"r.yaml:2: 12: unknown key; allowed: {ROOT_KEYS}"]),
    ("seed: 3", "name: again", ["r.yaml:2: duplicate key 'name'; remove one"]),
    ("seed: 3", "seed: -1", ["r.yaml:2: seed: found -1; allowed: 0 or more"]),
    ("seed: 3", "seed: 2147483648", ["r.yaml:2: seed: found 2147483648; allowed: less than 2147483648"]),
    ("seed: 3", "seed: 1.0", ["r.yaml:2: seed: found 1.0; allowed: a whole number"]),
    ("seed: 3", "seed: 1e3", ["r.yaml:2: seed: found 1000.0; allowed: a whole number"]),
    ("seed: 3", "seed: true", ["r.yaml:2: seed: found True; allowed: a whole number"]),
    ("seed: 3", "seed: '3'", ["r.yaml:2: seed: found '3'; allowed: a whole number"]),
    ('{id: "sandbox:"}', "[sandbox]", ["r.yaml:3: model: found a list of 1; allowed: a mapping"]),
    ('{id: "sandbox:"}', "{id: x, start: aligned}", [
        "r.yaml:3: model: start: found 'aligned', but the key no longer exists: every arm starts from the given model, "
        "and the arm 'none' is that model unchanged; remove start, and add the arm 'none'",
    ]),
    ('{id: "sandbox:"}', "\n  id: sandbox:\n  start: base", [
        "r.yaml:4: invalid YAML (mapping values are not allowed here); fix this line; "
        "text that contains ': ' or ends with ':' needs quotes",
    ]),
    ("    - {sandbox: pool}", "    - {sandbox: pool, file: a.csv}", [
        "r.yaml:6: pool.sources[0]: needs exactly one of file, hub, sandbox; found file and sandbox",
    ]),
    ("    - {sandbox: pool}", "    - {licence: cc0}", [
        "r.yaml:6: pool.sources[0]: needs exactly one of file, hub, sandbox; found none of them",
    ]),
    ("    - {sandbox: pool}", "    - {sandbox: pool, license: cc0}", [
        f"r.yaml:6: pool.sources[0].license: unknown key; did you mean 'licence'? allowed: {SOURCE_KEYS}",
    ]),
    ("    - {sandbox: pool}", "    - {sandbox: pool, split: test}", [
        "r.yaml:6: pool.sources[0]: split is only valid with hub; remove it, or name a hub data set",
    ]),
    ("[a, b]", "{c: 1}", [
        "r.yaml:7: pool.sources[1].where: column 'kind' needs a text, a number, true or false, or a list of these",
    ]),
    ("train: {sandbox: list}", "train: {sandbox: list, columns: {promt: a}}", [
        "r.yaml:10: tasks[0].train.columns: 'promt' is not a known field; "
        "allowed: prompt, response, input, system, history, messages, chosen, label",
    ]),
    ("train: {sandbox: list}", "train: list", ["r.yaml:10: tasks[0].train: found 'list'; allowed: a mapping"]),
    ("    rows: 40", "    rows: 0", ["r.yaml:11: tasks[0].rows: found 0; allowed: 1 or more"]),
    ("    rows: 40", "    weight: 0", ["r.yaml:11: tasks[0].weight: found 0; allowed: more than 0.0"]),
    ("    rows: 40", "    anticipated: no", ["r.yaml:11: tasks[0].anticipated: found 'no'; allowed: true or false"]),
    ("    rows: 40", "    metric: bleu", [
        "r.yaml:11: tasks[0].metric: found 'bleu'; allowed: rouge1, exact, final-number, a mapping",
    ]),
    ("    rows: 40", "    anticipated: false", [
        "r.yaml:8: tasks: no task is anticipated; similarity needs at least one with anticipated: true",
    ]),
    ("name: letter-1.5", "name: list", [
        "r.yaml:8: tasks: duplicate name 'list'; give each task its own",
    ]),
    ("name: letter-1.5", "name: letter-1.5, test: {split: held-out}", [
        "r.yaml:12: tasks[1]: test.split names a split of a hub data set, and train is not one; remove test.split",
    ]),
    ("harmful: [{sandbox: forbidden-probes}]", "harmful: []", [
        "r.yaml:14: probes.harmful: found a list of 0; allowed: at least 1 item",
    ]),
    ("from: hidden-states", "from: sentence-transformers", [
        "r.yaml:15: represent: from: sentence-transformers needs id; give a model on the Hub or a local folder",
    ]),
    ("from: hidden-states", "from: gradients, chat_template: plain", [
        "r.yaml:15: represent: chat_template is only valid with the id of another causal model; remove it (an "
        "embedder reads plain text, and the recipe's own model has model.chat_template)",
    ]),
    ("from: hidden-states", "kind: hidden-states", [
        "r.yaml:15: represent.kind: unknown key; "
        "allowed: from, name, id, revision, chat_template, layer, token, first, side, centre, max_tokens, "
        "batch_tokens, of, rank, dimensions, seed",
    ]),
    ("top-mean", "median", [
        f"r.yaml:16: score.aggregate: found 'median'; allowed: {', '.join(AGGREGATES)}",
    ]),
    ("  k: 20\n", "", ["r.yaml:17: select: needs exactly one of k, budget_tokens, data; found none of them"]),
    ("weight: 0.3", "weight: low", ["r.yaml:19: select.weight: found 'low'; allowed: a number, auto"]),
    ("weight: 0.3", "weight: .nan", ["r.yaml:19: select.weight: found nan; allowed: a finite number"]),
    ("weight: 0.3", "objective: log-det\n  parameters: {alpha: 0}", [
        "r.yaml:17: select: parameters['alpha']: found 0.0; it must be a finite number > 0",
    ]),
    ("weight: 0.3", "objective: graph-cut\n  parameters: {alpha: 1}", [
        "r.yaml:17: select: parameters: objective 'graph-cut' has no parameter 'alpha'; allowed: theta",
    ]),
    ("weight: 0.3", "wieght: 0.3", [
        f"r.yaml:19: select.wieght: unknown key; did you mean 'weight'? allowed: {SELECT_KEYS}",
    ]),
    ("[curated, random,", "[curated,", [
        "r.yaml:20: verify: arms must include 'random', which the decision compares; found curated, none",
    ]),
    ("[curated, random,", "[curated, random, random,", ["r.yaml:20: verify: duplicate arm 'random'; remove one"]),
    ("[curated, random,", "[curated, random, rnadom,", [
        "r.yaml:21: verify.arms[2]: 'rnadom' is not a built-in arm; did you mean 'random'? allowed: curated, random, "
        "matched-random, random-capped, best-random, low-similarity, high-similarity, low-matched, high-matched, full, "
        "none, curated+recovery, random+recovery, or any other name together with file, hub or data",
    ]),
    ("seeds: 1}", "seeds: 4}", ["r.yaml:20: verify: arm 'none' has 4 seeds, more than verify.seeds (3); lower it"]),
    ("  seeds: 3", "  seeds: 3\n  decision: {floor: 1.5}", [
        "r.yaml:23: verify.decision.floor: found 1.5; allowed: 1.0 or less",
    ]),
    ("  seeds: 3", "  seeds: 3\n  decision: {ceiling: -0.1}", [
        "r.yaml:23: verify.decision.ceiling: found -0.1; allowed: 0.0 or more",
    ]),
    ("  seeds: 3", "  seeds: 3\n  decision: {least_seeds: 2}", [
        "r.yaml:23: verify.decision.least_seeds: found 2; allowed: 3 or more",
    ]),
    ("  seeds: 3", "  seeds: 3\n  decision: {least_seeds: 3.0}", [
        "r.yaml:23: verify.decision.least_seeds: found 3.0; allowed: a whole number",
    ]),
    ("  seeds: 3", "  seeds: 3\n  decision: {flor: 0.1}", [
        "r.yaml:23: verify.decision.flor: unknown key; did you mean 'floor'? allowed: floor, ceiling, least_seeds, "
        "one_seed, over",
    ]),
    ("  seeds: 3", "  seeds: 3\n  decision: {ceiling: 0.05}", [
        "r.yaml:23: verify.decision: floor (0.05) must be below ceiling (0.05); lower floor, or raise ceiling",
    ]),
    ("  seeds: 3", "  seeds: {max: 20}\n  decision: {least_seeds: 8}", [
        "r.yaml:20: verify: seeds.first (6) is below decision.least_seeds (8), so the first look could stop with too "
        "few seeds to decide; raise seeds.first, or lower decision.least_seeds",
    ]),
    ("steps: 4", "epochs: 1, steps: 4", ["r.yaml:23: verify.align: needs exactly one of epochs and steps"]),
    ("steps: 4", "steps: 4, micro_batch: 5", [
        "r.yaml:23: verify.align: batch (32) must be a multiple of micro_batch (5)",
    ]),
    ("steps: 4", "steps: 4, processes: 3", [
        "r.yaml:23: verify.align: batch (32) must be a multiple of micro_batch (8) x processes (3) = 24, the rows "
        "computed at once",
    ]),
    ("3e-4", "0", ["r.yaml:23: verify.align.learning_rate: found 0; allowed: more than 0.0"]),
    ("  finetune: {epochs: 1.5}\n", "", ["r.yaml:20: verify.finetune: this key is required; add it"]),
    ("  finetune: {epochs: 1.5}", "  finetune: {epochs: 1.5, warmup: 1.5}", [
        "r.yaml:24: verify.finetune.warmup: found 1.5; allowed: 1.0 or less",
    ]),
    ("headline: exact", "headline: guard", [
        "r.yaml:25: judges: headline 'guard' is not a judge of the panel; allowed: exact, phrases",
    ]),
    ("refusal: phrases", "refusal: phrases, sandbox: exact", [
        "r.yaml:27: judges.panel[1]: needs exactly one of guard, classifier, embedding, rubric, refusal, "
        "sandbox; found refusal and sandbox",
    ]),
    ("name: phrases,", "name: exact,", [
        "r.yaml:25: judges: duplicate name in the panel: exact, exact; give each judge its own",
    ]),
    ("weight: 0.3", "weight: 0.3\n  weight: 0.4", ["r.yaml:20: duplicate key 'weight'; remove one"]),
    ("weight: 0.3", "\tweight: 0.3", [
        "r.yaml:19: invalid YAML (found character '\\t' that cannot start any token); fix this line",
    ]),
    ("[curated, random,", "[curated, random", [
        "r.yaml:21: invalid YAML (expected ',' or ']', but got '{'); fix this line",
    ]),
    ("steps: 4", "<<: *sft", ["r.yaml:23: invalid YAML (found undefined alias 'sft'); fix this line"]),
    ("align: {", "align: &a {<<: *a, ", ["r.yaml: a mapping includes itself with '<<'; write it out"]),
]  # fmt: skip

# What stands in the file instead of a recipe, and the end of the sentence that names it.
NO_RECIPE = [
    (b"", ": holds nothing; a recipe is a mapping that starts with `name:`"),
    (b"# only a comment\n", ": holds nothing; a recipe is a mapping that starts with `name:`"),
    (b"- name: a\n", ": holds a list of 1; a recipe is a mapping that starts with `name:`"),
    (b"quickstart\n", ": holds 'quickstart'; a recipe is a mapping that starts with `name:`"),
    (b"\x93NUMPY\x01\x00", ": cannot be read (it is not UTF-8 text); give the path of a recipe file in YAML"),
    (
        b"a: \x00",
        ": invalid YAML (unacceptable character #x0000: special characters are not allowed); fix the file",
    ),
    (b"a: 1\n---\nb: 1\n", ":2: invalid YAML (but found another document); fix this line"),
    (b"[" * 500, ": is nested too deeply to be read; write it flatter"),
]


# What a recipe may say where nothing reads it: settings, and what is said of the first of them.
UNREAD: list[tuple[list[str], str]] = [
    (
        ["verify.align={method: full, steps: 4, rank: 8}"],
        "verify.align: rank has no effect: only method: lora reads it, and the method is full",
    ),
    (
        ["verify.finetune={method: full, steps: 4, alpha: 8}"],
        "verify.finetune: alpha has no effect: only method: lora reads it",
    ),
    (
        ["verify.rehearsal_share=0.2"],
        "verify: rehearsal_share has no effect: only stage: rehearsal reads it, and the stage is upstream",
    ),
    (
        ["verify.stage=rehearsal", "verify.exposure=tokens"],
        "verify: exposure has no effect: only stage: upstream reads it",
    ),
    (["verify.generate={memory: 0.5}"], "verify.generate: memory has no effect: only engine: vllm reads it, and"),
    (
        ["verify.pilot={seeds: 2}"],
        "verify: pilot.seeds has no effect: only select.weight: auto reads it, and the weight",
    ),
    (
        ["select.weight=auto", "verify.pilot={represent: every}"],
        "verify: pilot.represent has no effect: it chooses among several representations",
    ),
    (
        ["verify.log_odds={refuse: [no], comply: [yes], tokens: 3}"],
        "verify.log_odds: tokens has no effect: only from: pilot reads it, and the recipe",
    ),
    (
        ["select.weight=auto", "verify.log_odds={from: pilot, refuse: [no]}"],
        "verify.log_odds: refuse has no effect: the pilot finds the openers",
    ),
    (["represent={revision: main}"], "represent: revision has no effect: only another model, given as id"),
    (
        ["represent={from: sentence-transformers, id: a, layer: 3}"],
        "represent: layer has no effect: only from: hidden-",
    ),
    (
        ["represent={from: gradients, token: eos}"],
        "represent: token has no effect: only from: hidden-states reads it, and this is gr",
    ),
    (["represent={first: 8}"], "represent: first has no effect: only token: first-answer reads it, and the token"),
    (["represent={side: prompt}"], "represent: side has no effect: only from: sentence-transformers reads it, and"),
    (["represent={dimensions: 64}"], "represent: dimensions has no effect: only from: gradients reads it, and this"),
    (
        ["represent={from: gradients, of: head, rank: 4}"],
        "represent: rank has no effect: only of: lora reads it, and of is head",
    ),
    (["score={aggregate: mean, n: 5}"], "score: n has no effect: only aggregate: top-mean reads it, and the aggregate"),
    (
        ["score={from: interference, aggregate: max}"],
        "score: aggregate has no effect: only cosine, consensus, format and content read it, and this",
    ),
    (["score={from: format, embedder: {id: a}}"], "score: embedder has no effect: only content reads it, and this"),
    (["score={from: content, step: gradient}"], "score: step has no effect: only interference reads it, and this"),
    (["score={step: gradient}"], "score: step has no effect: only interference reads it, and this"),
    (["select={k: 9, objective: log-det, neighbours: 8}"], "select: neighbours has no effect: objective log-det"),
    (["model.revision=main"], "model: revision has no effect: only a model on the Hub"),
    (["tasks.letter-1.5.weight=2.0"], "tasks: weight has no effect: only anticipated tasks have a weight, and"),
    (["tasks.list.train.weight=2.0"], "tasks: list.train.weight has no effect: only sources of the pool"),
    (["probes.harmful.0.weight=0.0"], "probes: harmful.weight has no effect: only sources of the pool"),
    (["select={data: {sandbox: pool, weight: 0.5}}"], "select: data.weight has no effect: only sources of the pool"),
    (
        ["verify.keep={data: {sandbox: keep, weight: 2.0}, rows: 9}"],
        "verify: keep.data.weight has no effect: only sources of the pool",
    ),
    (
        ["verify.arms=[curated, random, {name: mine, file: r.jsonl, weight: 2.0}]"],
        "verify: arms.mine.weight has no effect: only sources of the pool",
    ),
    (
        ["tasks.list.regime={data: {file: r.jsonl, weight: 2.0}, harmful_share: 0.1}"],
        "tasks: list.regime.data.weight has no effect: only sources of the pool",
    ),
    (
        ["tasks.list.defence={data: {file: r.jsonl, weight: 2.0}, safety_mix: 0.1}"],
        "tasks: list.defence.data.weight has no effect: only sources of the pool",
    ),
    (
        ["model.instruction={rows: 9, data: {sandbox: keep, rows: 5}}"],
        "model.instruction: data.rows has no effect: rows of this section are as many as are read",
    ),
    (
        ["judges.panel.phrases.batch=4"],
        "judges.panel[1]: batch has no effect: only judges that load a model read it, and this",
    ),
    (
        ["judges.panel.phrases={name: g, guard: a/harmbench, controversial: safe}"],
        "controversial has no effect: only guards",
    ),
    (
        ["judges.panel.phrases.error=file.json"],
        "judges: panel[1].error has no effect: only a judge that decides alone reads it, and 'phr",
    ),
]


@pytest.mark.parametrize(("given", "words"), UNREAD)
def test_a_setting_that_nothing_reads_is_a_mistake(given: list[str], words: str) -> None:
    (sentence,) = told(GOOD, *given)
    assert words in sentence
    assert " has no effect: " in sentence
    assert sentence.endswith("; remove it")


def test_a_setting_that_nothing_reads_is_no_mistake_at_its_default() -> None:
    """As it stands in every resolved copy."""
    recipe = parse(GOOD)
    assert parse(dump(recipe)) == recipe


def told(text: str, *settings: str) -> list[str]:
    """The problems that a recipe's text has."""
    with pytest.raises(RecipeError) as caught:
        parse(text, settings, name="r.yaml")
    return list(caught.value.problems)


def mended(old: str, new: str) -> str:
    assert GOOD.count(old) >= 1
    return GOOD.replace(old, new, 1)


def test_the_good_recipe_is_good() -> None:
    recipe = parse(GOOD)
    assert (recipe.name, recipe.select.k, recipe.verify.align.learning_rate) == ("good", 20, 3e-4)
    assert [(arm.name, arm.seeds) for arm in recipe.verify.arms] == [("curated", None), ("random", None), ("none", 1)]


@pytest.mark.parametrize(("old", "new", "sentences"), BAD)
def test_a_bad_recipe_is_told_in_these_words(old: str, new: str, sentences: list[str]) -> None:
    assert told(mended(old, new)) == sentences


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (
            ["model.quantise=4bit", "verify.align.processes=2"],
            "verify: align.processes is 2, and a model with model.quantise trains in one process; set it to 1",
        ),
        (
            ["engine={kind: ray, gpus_per_worker: 1}", "verify.finetune.processes=2"],
            "engine: gpus_per_worker is 1, and verify.finetune.processes is 2 with one GPU each; set "
            "gpus_per_worker to 2, or lower processes",
        ),
    ],
)
def test_several_processes_need_whole_weights_and_gpus_for_all(settings: list[str], problem: str) -> None:
    assert [one for one in told(GOOD, *settings) if one.endswith(problem)]
    enough = ["engine={kind: ray, gpus_per_worker: 2}", "verify.align.processes=2", "verify.finetune.processes=2"]
    assert parse(GOOD, enough).verify.finetune.processes == 2
    assert parse(GOOD, ["engine={kind: ray}", "verify.align.processes=2"]).verify.align.processes == 2


def test_a_training_in_one_process_is_written_as_before_there_were_more() -> None:
    """Keys are made of this: runs that were made before stay made."""
    one, again = parse(GOOD).verify.align, parse(GOOD, ["verify.align.processes=1"]).verify.align
    assert one.model_dump() == again.model_dump()
    assert list(one.model_dump()) == [
        "method", "rank", "alpha", "learning_rate", "schedule", "warmup", "weight_decay", "epochs", "steps", "batch",
        "micro_batch", "max_tokens", "checkpointing", "save_steps",
    ]  # fmt: skip
    two = parse(GOOD, ["verify.align.processes=2"])
    assert two.verify.align.model_dump() == {**one.model_dump(), "processes": 2}
    assert two.model_dump()["verify"]["align"]["processes"] == 2
    assert "processes" not in two.model_dump()["verify"]["finetune"]


def test_the_limits_of_a_decision_have_defaults_and_are_written_out() -> None:
    usual = parse(GOOD).verify.decision
    assert (usual.floor, usual.ceiling, usual.least_seeds) == (0.05, 0.95, 3)
    assert (usual.one_seed, usual.over) == (False, "mean")
    assert (
        "  decision:\n    floor: 0.05\n    ceiling: 0.95\n    least_seeds: 3\n    one_seed: false\n    over: mean\n"
    ) in dump(parse(GOOD))
    assert parse(GOOD, ["verify.decision.floor=0.1"]).verify.decision == usual.model_copy(update={"floor": 0.1})
    assert parse(GOOD, ["verify.seeds={max: 20, first: 8}", "verify.decision.least_seeds=8"]).verify.most_seeds == 20


def test_several_mistakes_are_told_together_in_the_order_of_the_file() -> None:
    text = GOOD
    for old, new in (("layer: -1", "layer: top"), ("k: 20", "k: many"), ("seed: 3", "sede: 3"), ("name: good\n", "")):
        text = text.replace(old, new)
    sentences = [
        "r.yaml: name: this key is required; add it",
        f"r.yaml:1: sede: unknown key; did you mean 'seed'? allowed: {ROOT_KEYS}",
        "r.yaml:14: represent.layer: found 'top'; allowed: a whole number",
        "r.yaml:17: select.k: found 'many'; allowed: a whole number",
    ]
    assert told(text) == sentences
    with pytest.raises(RecipeError) as caught:
        parse(text, name="r.yaml")
    assert str(caught.value) == "4 problems:\n  " + "\n  ".join(sentences)


@pytest.mark.parametrize(("content", "sentence"), NO_RECIPE)
def test_a_file_that_holds_no_recipe_is_told_so(content: bytes, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        read(path)
    assert str(caught.value) == f"{path}{sentence}"


def test_a_missing_file_and_a_folder_are_told_so(tmp_path: Path) -> None:
    ask = "give the path of a recipe file in YAML"
    for path, reason in ((tmp_path / "none.yaml", "no such file or directory"), (tmp_path, "is a directory")):
        with pytest.raises(RecipeError) as caught:
            read(path)
        assert str(caught.value) == f"{path}: cannot be read ({reason}); {ask}"


# YAML 1.2


@pytest.mark.parametrize(
    ("written", "meant"),
    [("3e-4", 3e-4), ("3.0e-4", 3e-4), ("3", 3.0), ("1E3", 1000.0), (".5", 0.5), ("-2", -2.0)],
)
def test_a_number_may_be_written_in_any_of_the_usual_ways(written: str, meant: float) -> None:
    assert parse(mended("weight: 0.3", f"weight: {written}")).select.weight == meant


@pytest.mark.parametrize("word", ["no", "yes", "on", "off", "n", "y", "2001-01-01"])
def test_a_word_that_old_yaml_took_for_something_else_is_a_word(word: str) -> None:
    assert parse(mended("name: good", f"name: {word}")).name == word
    assert parse(mended("kind: [a, b]", f"{word}: {word}")).pool.sources[1].where == {word: word}


def test_a_byte_order_mark_is_no_part_of_the_recipe() -> None:
    assert parse("\ufeff" + GOOD) == parse(GOOD)


def test_anchors_aliases_and_merge_keys_work() -> None:
    text = mended("align: {steps: 4", "align: &sft {steps: 4, rank: 2").replace(
        "finetune: {epochs: 1.5}", "finetune: {<<: *sft, rank: 3}\n  generate: {max_new_tokens: 5}"
    )
    recipe = parse(text)
    assert recipe.verify.finetune == recipe.verify.align.model_copy(update={"rank": 3})
    assert parse(text.replace("{<<: *sft, rank: 3}", "*sft")).verify.finetune == recipe.verify.align
    assert parse(text.replace("{<<: *sft, rank: 3}", "{<<: *sft}")).verify.finetune == recipe.verify.align


def test_a_mistake_behind_an_anchor_is_told_at_both_places() -> None:
    text = mended("align: {steps: 4", "align: &sft {steps: 4, rank: 0").replace("{epochs: 1.5}", "{<<: *sft}")
    assert told(text) == [
        "r.yaml:23: verify.align.rank: found 0; allowed: 1 or more",
        "r.yaml:24: verify.finetune.rank: found 0; allowed: 1 or more",
    ]


# --set


@pytest.mark.parametrize(
    ("setting", "path", "value"),
    [
        ("select.k=50", "select.k", 50),
        ("select.weight=-1e-3", "select.weight", -1e-3),
        ("tasks.list.rows=7", "tasks.0.rows", 7),
        ("tasks.letter-1.5.rows=7", "tasks.1.rows", 7),
        ("tasks.1.rows=7", "tasks.1.rows", 7),
        ("tasks.1.test.rows=7", "tasks.1.test.rows", 7),
        ("pool.clean.max_tokens=9", "pool.clean.max_tokens", 9),
        ("engine={workers: 2, threads: 1}", "engine.workers", 2),
        ("engine.threads=null", "engine.threads", None),
        ("model.revision=", "model.revision", None),
        ("model.id=a/b:c=d", "model.id", "a/b:c=d"),
        ("verify.arms.random.seeds=2", "verify.arms.1.seeds", 2),
        ("verify.arms.none.seeds=2", "verify.arms.2.seeds", 2),
        ("verify.arms.1=random", "verify.arms.1.name", "random"),
        ("pool.sources.1.where={kind: no}", "pool.sources.1.where", {"kind": "no"}),
        ("verify.align={epochs: 2}", "verify.align.epochs", 2.0),
        ("represent={from: sentence-transformers, id: x}", "represent.kind", "sentence-transformers"),
    ],
)
def test_a_setting_changes_one_place_and_nothing_else(setting: str, path: str, value: Any) -> None:
    changed = parse(GOOD, [setting])
    here: Any = changed
    for key in path.split("."):
        here = here[int(key)] if key.isdecimal() else getattr(here, key)
    assert here == value
    section, original = path.partition(".")[0], parse(GOOD)
    assert changed.model_dump(exclude={section}) == original.model_dump(exclude={section})


def test_later_settings_win() -> None:
    assert parse(GOOD, ["select.k=5", "select.k=6"]).select.k == 6


def test_a_setting_does_not_reach_through_an_anchor() -> None:
    text = mended("align: {steps: 4", "align: &sft {steps: 4").replace("{epochs: 1.5}", "{<<: *sft}")
    changed = parse(text, ["verify.align.steps=9"]).verify
    assert (changed.align.steps, changed.finetune.steps) == (9, 4)


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("select.k", "--set select.k: expected KEY.PATH=VALUE, for example --set select.k=50"),
        ("=5", "--set =5: expected KEY.PATH=VALUE, for example --set select.k=50"),
        ("select..k=5", "--set select..k=5: expected KEY.PATH=VALUE, for example --set select.k=50"),
        ("select.k=many", "--set select.k=many: select.k: found 'many'; allowed: a whole number"),
        ("select.k=[1, 2", "--set select.k=[1, 2: invalid YAML (expected ',' or ']', but got '<stream end>'); "
         "fix this line"),
        ("select.kk=5", f"--set select.kk=5: select.kk: unknown key; allowed: {SELECT_KEYS}"),
        ("slect.k=5", f"--set slect.k=5: slect: unknown key; did you mean 'select'? allowed: {ROOT_KEYS}"),
        ("select.k.x=5", "--set select.k.x=5: select.k: found a mapping with x; allowed: a whole number"),
        ("tasks.lits.rows=5", "--set tasks.lits.rows=5: tasks has no item 'lits'; allowed: list, letter-1.5"),
        ("tasks.2.rows=5", "--set tasks.2.rows=5: tasks has no item '2'; allowed: list, letter-1.5"),
        ("tasks.².rows=5", "--set tasks.².rows=5: tasks has no item '²'; allowed: list, letter-1.5"),
        ("pool.sources.-1.rows=5", "--set pool.sources.-1.rows=5: pool.sources has no item '-1'; allowed: 0 to 1"),
        ("verify.align.epochs=2", "r.yaml:23: verify.align: needs exactly one of epochs and steps"),
    ],
)  # fmt: skip
def test_a_bad_setting_is_told_in_these_words(setting: str, sentence: str) -> None:
    assert told(GOOD, setting) == [sentence]


def test_mistakes_of_file_and_settings_are_told_together() -> None:
    sentences = told(mended("k: 20", "k: many"), "tasks.x.rows=5", "seed=-1")
    assert sentences == [
        "r.yaml:18: select.k: found 'many'; allowed: a whole number",
        "--set seed=-1: seed: found -1; allowed: 0 or more",
        "--set tasks.x.rows=5: tasks has no item 'x'; allowed: list, letter-1.5",
    ]


def test_a_setting_mends_a_mistake_of_the_file() -> None:
    assert parse(mended("k: 20", "k: many"), ["select.k=5"]).select.k == 5


# The resolved copy

# Three rare line breaks are left out: ruamel.yaml writes them in a way that YAML folds into spaces.
texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00\x85\u2028\u2029"), max_size=20)
wheres = st.dictionaries(texts, texts | st.integers() | st.booleans() | st.floats(allow_nan=False), max_size=3)


@settings(deadline=None, max_examples=20)
@given(
    words=st.lists(texts, min_size=4, max_size=4),
    where=wheres,
    weight=st.floats(allow_nan=False, allow_infinity=False),
    rate=st.floats(min_value=0, exclude_min=True, allow_infinity=False),
    name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,79}", fullmatch=True),
)
def test_what_dump_writes_parse_reads_back(
    words: list[str], where: dict[str, Any], weight: float, rate: float, name: str
) -> None:
    data = parse(GOOD).model_dump(by_alias=True)
    data["name"] = name
    data["model"]["id"], data["model"]["revision"], data["represent"]["id"] = "m" + words[0], *words[1:3]
    data["pool"]["sources"][1] |= {"file": "f" + words[3], "where": where, "columns": {"prompt": words[0]}}
    data["select"]["weight"], data["verify"]["align"]["learning_rate"] = weight, rate
    recipe = Recipe.model_validate(data)
    again = parse(dump(recipe))
    assert again == recipe
    assert dump(again) == dump(recipe)


def test_the_resolved_copy_holds_every_default() -> None:
    written = dump(parse(GOOD))
    for part in ("from: hidden-states", "neighbours: 64", "max_new_tokens: 256", "revision:", "threads:"):
        assert part in written


# Typos

KEYS = sorted(
    {(), *((name,) for name in ("model", "select", "verify", "represent", "score", "judges", "engine"))}
    | {
        ("verify", "align"),
        ("pool", "sources", 0),
        ("tasks", 0),
        ("pool", "clean"),
        ("verify", "gates"),
        ("verify", "decision"),
    },
    key=str,
)


@settings(deadline=None, max_examples=30)
@given(data=st.data(), path=st.sampled_from(KEYS))
def test_a_misspelt_key_is_always_caught_and_told_by_its_place(
    data: st.DataObject, path: tuple[str | int, ...]
) -> None:
    whole = parse(GOOD).model_dump(by_alias=True)
    section = whole
    for part in path:
        section = section[part]
    key = data.draw(st.sampled_from(sorted(section)))
    at = data.draw(st.integers(0, len(key) - 1))
    letter = data.draw(st.sampled_from("abcdefghijklmnopqrstuvwxyz_"))
    wrong = data.draw(
        st.sampled_from([key[:at] + key[at + 1 :], key[:at] + letter + key[at:], key[:at] + letter + key[at + 1 :]])
    )
    if not wrong or wrong in section:
        return
    section[wrong] = section.pop(key)
    sentences = told(json.dumps(whole))
    place = ".".join(str(part) for part in (*path, wrong)).replace(".0", "[0]")
    mine = [sentence for sentence in sentences if sentence.startswith(f"r.yaml:1: {place}: unknown key; ")]
    assert len(mine) == 1
    if len(key) > 3:
        assert "did you mean" in mine[0]


# curator new


@pytest.mark.parametrize("name", ["mine", "a-1.5+x", "no", "123", "1e5", "null", "x" * 80])
def test_the_template_is_a_recipe_that_can_be_planned(name: str) -> None:
    recipe = parse(template(name))
    assert recipe.name == name
    assert outline(recipe)["model"] == "the sandbox model"


@pytest.mark.parametrize("name", ["", "a b", "../up", "{name}", 'quo"te', "two\nlines", "-x", "é"])
def test_a_name_that_no_folder_can_have_is_refused(name: str) -> None:
    with pytest.raises(RecipeError, match=r"^NAME: found .*; allowed: letters, digits,"):
        template(name)


def test_no_number_of_a_recipe_is_infinite_or_nan() -> None:
    for text in (".nan", ".inf", "-.inf"):
        with pytest.raises(RecipeError, match="allowed: a finite number"):
            parse(GOOD, [f"select.weight={text}"])
    assert math.isfinite(parse(GOOD).select.weight)


@pytest.mark.parametrize(
    ("setting", "at"),
    [
        (r'pool.sources.0.licence="\ud800"', "pool.sources[0].licence"),
        (r'pool.sources.0.where={"\udc00": [1, "a"]}', r"pool.sources[0].where.\udc00"),
        (r'pool.sources.0.where={kind: ["a", "b\udfff"]}', "pool.sources[0].where.kind[1]"),
        (r'judges.panel.0.name="a\ud801"', "judges.panel[0].name"),
    ],
)
def test_half_of_a_character_is_refused_where_it_stands(setting, at):
    text = QUICKSTART.read_text(encoding="utf-8")
    with pytest.raises(RecipeError) as refused:
        parse(text, [setting])
    assert f"{at}: holds half of a surrogate pair, which is not a character; correct the text" in str(refused.value)
    str(refused.value).encode()
    key, _, value = setting.partition("=")
    if key == "pool.sources.0.licence":
        whole = text.replace("sources: [{sandbox: pool}]", f"sources: [{{sandbox: pool, licence: {value}}}]")
        line = next(number for number, row in enumerate(whole.splitlines(), 1) if "licence" in row)
        with pytest.raises(RecipeError, match=rf"mine.yaml:{line}: pool.sources\[0\].licence: holds half"):
            parse(whole, name="mine.yaml")
    parse(text, [r'pool.sources.0.licence="\U0001f600"'])


def test_several_mistakes_between_sections_are_told_at_once() -> None:
    settings = ["tasks.0.name=anticipated", "verify.arms=[curated, random, best-random]", "verify.pilot={seeds: 4}",
                "verify.exposure=epochs", "verify.forgetting={rows: 20, seeds: 9}"]  # fmt: skip
    with pytest.raises(RecipeError) as caught:
        read(QUICKSTART, settings)
    told = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 2, told  # of one section; those between sections come when each is sound
    assert "forgetting.seeds (9)" in told
    assert "exposure: epochs needs align.epochs" in told
    with pytest.raises(RecipeError) as caught:
        read(QUICKSTART, settings[:3])
    told = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 3, told
    for part in ("the name 'anticipated'", "arm 'best-random'", "pilot.seeds has no effect"):
        assert part in told


@pytest.mark.parametrize("arm", ["curated", "random"])
def test_arms_that_are_looked_at_have_no_fewer_seeds(arm: str) -> None:
    arms = ["curated", "random", "none"]
    given = ", ".join(f"{{name: {name}, seeds: 4}}" if name in (arm, "none") else name for name in arms)
    with pytest.raises(RecipeError) as caught:
        recipe(f"verify.arms=[{given}]", "verify.seeds={max: 8}")
    assert f"arm {arm!r} has 4 seeds, and the looks of verify.seeds compare it at up to 8" in str(caught.value)
    recipe("verify.arms=[curated, random, {name: none, seeds: 4}]", "verify.seeds={max: 8}")
    recipe(f"verify.arms=[{given}]", "verify.seeds=8")


def test_forgetting_is_not_measured_on_a_control_that_was_not_aligned() -> None:
    with pytest.raises(RecipeError, match=r"forgetting measures models that were aligned .* and control 'none' has"):
        recipe("verify.arms=[curated, none]", "verify.control=none", "verify.forgetting={rows: 20}")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            ["verify.log_odds=pilot"],
            "verify: log_odds learns its openers from the answers of the pilot, and there is no pilot when",
        ),
        (
            ["select.weight=auto", "verify.pilot={weights: [0.5]}", "verify.log_odds=pilot"],
            "the pilot, which trains nothing for a single candidate",
        ),
        (["verify.log_odds={refuse: [no]}"], "verify.log_odds: comply has no opener"),
        (
            ["verify.log_odds={refuse: [no, no], comply: [yes]}"],
            "verify.log_odds: duplicate value 'no' in refuse; remove one",
        ),
        (
            ["verify.log_odds={refuse: [i can], comply: [i cannot]}"],
            "'i can' is the beginning of 'i cannot' in the other set",
        ),
        (["verify.log_odds={refuse: [no], comply: [no]}"], "'no' is the beginning of 'no' in the other set"),
    ],
)
def test_openers_that_could_not_be_told_apart_or_learned_are_refused(settings: list[str], words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe(*settings)
    assert words in str(caught.value)


def test_openers_are_the_texts_of_the_recipe_or_those_of_its_pilot() -> None:
    named = recipe("verify.log_odds={refuse: [no, i cannot], comply: [yes]}").verify.log_odds
    assert named is not None
    assert (named.kind, named.refuse, named.comply) == ("recipe", ["no", "i cannot"], ["yes"])
    learned = recipe("select.weight=auto", "verify.log_odds=pilot").verify.log_odds
    assert learned is not None
    assert (learned.kind, learned.tokens, learned.openers) == ("pilot", 2, 5)
    assert recipe().verify.log_odds is None


def test_a_number_of_draws_that_an_earlier_version_wrote_into_its_run_folder_is_read() -> None:
    assert recipe("verify.pilot={random_draws: 2}").verify.pilot.random_draws == 2
    with pytest.raises(RecipeError, match=r"pilot.random_draws has no effect: only select.weight: auto reads it"):
        recipe("verify.pilot={random_draws: 3}")


def test_a_setting_inside_a_short_form_keeps_what_the_short_form_says() -> None:
    text = QUICKSTART.read_text(encoding="utf-8")

    def read_with(*settings: str) -> Recipe:
        return parse(text, settings)

    regime = read_with("verify.regime=auto", "verify.regime.seeds=3").verify.regime
    assert (regime.auto, regime.seeds) == (True, 3)
    near = "pool.clean.near_duplicates"
    clean = read_with(f"{near}=0.6", f"{near}.shingle=3").pool.clean
    assert (clean.near_duplicates.jaccard, clean.near_duplicates.shingle) == (0.6, 3)
    probes = "pool.clean.decontaminate"
    clean = read_with(f"{probes}=0.5", f"{probes}.ngram=4").pool.clean
    assert (clean.decontaminate.overlap, clean.decontaminate.ngram) == (0.5, 4)
    source = read_with("pool.sources.0.category=topic", "pool.sources.0.category.pick=first").pool.sources[0]
    assert (source.category.column, source.category.pick) == ("topic", "first")
    clean = read_with(f"{near}=null", f"{near}.shingle=3").pool.clean
    assert clean.near_duplicates.shingle == 3
    looks = read_with("verify.seeds=6", "verify.seeds.max=9").verify.seeds
    assert looks.max == 9


@pytest.mark.parametrize("name", ["\U0001f600.jsonl", 'a "b" \\ c.jsonl', "\x7f\x85\u2028.jsonl", "\u00e9: #.jsonl"])
def test_any_name_of_a_file_is_quoted_for_a_recipe(name: str) -> None:
    source = parse(QUICKSTART.read_text(encoding="utf-8"), [f"pool.sources.0={{file: {quoted(name)}}}"]).pool.sources[0]
    assert source.file == name
