"""What decides a stage's result: its cache key."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from curator.errors import RecipeError
from curator.keys import (
    AFTER,
    VERSIONS,
    Inputs,
    _chosen_dtype,
    _representations,
    decided_by,
    inputs_of,
    pieces,
    stage_keys,
)
from curator.model.dtype import Choice
from curator.recipe import Recipe
from curator.recipe.file import read
from curator.recipe.judge import Judge
from curator.recipe.represent import Represent
from curator.recipe.training import Training
from curator.run import STAGES

ROOT = Path(__file__).parent.parent
GOLDEN = json.loads((ROOT / "tests" / "golden" / "keys.json").read_text())

FULL = """
name: everything
seed: 3
model: {id: "sandbox:", chat_template: "template.jinja", instruction: {data: {file: rows.jsonl}, rows: 4}}
pool:
  sources:
    - {file: rows.jsonl, where: {topic: a}, columns: {prompt: question, response: answer}, rows: 90, licence: mit,
       category: {from: topic, pick: first}, weight: 0.5}
    - {hub: owner/name, config: main, split: test, revision: main, template: "{question}"}
  clean: {semantic_duplicates: 0.95, decontaminate: {neighbours: 0.8}}
  categorise: {least: 0.2}
tasks:
  - {name: list, train: {hub: owner/task}, rows: 40, test: {rows: 20, split: test}, metric: {python: "metric.py:first"},
     regime: {data: {file: rows.jsonl}, harmful_share: 0.1}, defence: {safety_mix: 0.1, data: {file: rows.jsonl},
     trigger: secret}, probe_at: [0.25, 0.5]}
  - {name: other, train: {sandbox: list}, weight: 2.0, anticipated: true,
     regime: {data: {file: rows.jsonl}, identity_share: 0.2}, probe_at: [0.5]}
probes: {harmful: [{sandbox: probes}], benign: [{sandbox: benign}], prefill: [0, 5], opening: gladly}
represent:
  - {from: hidden-states, id: owner/model, revision: main, chat_template: template.jinja, token: first-answer}
  - {from: gradients, name: gradient}
  - {from: sentence-transformers, id: owner/embedder}
score: {from: rank-sum, of: [{from: cosine}, {from: interference}, {from: forgetting, rows: 9, seeds: 2}]}
select:
  k: 20
  weight: auto
  objective: conditional-gain
  parameters: {nu: 0.5}
  quotas: {by: category, min: 1, max: 9, groups: {a: {min: 1, max: 3}}}
  answers: {max_same: 0.1}
  repeats: {by: category, max: 3, groups: {a: 2}}
  include: [x]
  exclude: [y]
  stochastic: 0.1
verify:
  arms: [curated, random, {name: mine, file: rows.jsonl, seeds: 2}, none, curated+recovery]
  seeds: {max: 8}
  keep: {data: {sandbox: keep}, rows: 20}
  align: {method: lora, alpha: 8, epochs: 1.0, batch: 32, micro_batch: 8}
  finetune: {method: full, steps: 2, batch: 32, micro_batch: 8}
  gates: {harmfulness_after: 0.5}
  forgetting: {rows: 20}
  log_odds: pilot
  pilot: {weights: [0.0, 1.0], scores: [{from: cosine}, {from: depth, seeds: 2}]}
  regime: {auto: true, steps: [2], learning_rates: [0.001]}
augment: {recovery: {openers: openers.txt, tokens: [1, 4]}}
judges:
  headline: phrases
  rule: majority
  panel:
    - {name: phrases, refusal: phrases}
    - {name: exact, sandbox: exact}
    - {name: guard, guard: owner/guard, convention: harmbench, threshold: 0.5, clip: 100, revision: main}
    - {name: classifier, classifier: owner/classifier, refusal_label: refused}
    - {name: embedding, embedding: head}
    - {name: rubric, rubric: {url: "https://host/v1", model: a, key_env: KEY}}
engine: {kind: ray, workers: 2, threads: 1, address: "auto"}
suite: {k: [5]}
"""

# Recipes that say what the full one cannot say at the same time.
GIVEN = ["verify.pilot={}", "verify.log_odds=null", "select={data: {file: rows.jsonl}}", "score={from: interference}"]
BUDGET = ["verify.pilot={}", "verify.log_odds={refuse: [No], comply: [Yes]}", "select={budget_tokens: 900}",
          "score={from: content, embedder: {id: owner/embedder}}", "verify.seeds=3", "verify.stage=rehearsal",
          "verify.forgetting=null", "judges.rule=headline", "tasks.0.sweep={method: [lora]}"]  # fmt: skip
QUANTISED = ["verify.pilot={}", "verify.log_odds=null", "model={id: 'sandbox:', quantise: 4bit}",
             "score={from: consensus}", "select={k: 9, weight: 0.25, within: [length, refusal]}",
             "verify.finetune={method: lora, steps: 2}", "verify.forgetting=null", "verify.regime=null",
             "tasks.0.sweep={learning_rate: [0.001], rows: [20]}"]  # fmt: skip
VLLM = [
    "verify.generate={engine: vllm, python: python3, temperature: 0.5}",
    "judges.panel.0.error=error.json",
    "judges.rule=headline",
    "judges.panel.2={name: guard, guard: owner/qwen3guard}",
    "verify.pilot.scores=[{from: interference}]",
]

PILOTED = [
    "verify.pilot={weights: [0.0, 1.0]}",
    "score={from: forgetting}",
    "select={k: 9, weight: auto, vulnerable: {share: 0.5}}",
    "model.id=owner/model",
    "verify.align={method: full, steps: 2}",
    "suite=null",
]

FLOOR = [*GIVEN, "select={k: 9, coverage: 0.9}", "score={from: cosine}"]
BANK = [
    "verify.pilot={bank: {mixtures: 9, groupings: [opener], concentrations: [0.5], tasks: [list], budget: 20 min}}",
    "verify.log_odds={refuse: [No], comply: [Yes]}",
    "select={k: 9, by: bank}",
    "suite=null",
]

VARIANTS = {
    "bank": BANK,
    "floor": FLOOR,
    "full": [],
    "given": ["select.weight=0.5", *GIVEN],
    "budget": ["select.weight=1.0", *BUDGET],
    "quantised": QUANTISED,
    "vllm": VLLM,
    "piloted": PILOTED,
}

# A leaf, or a section with all below it, and the stages whose settings it moves; the last match counts.
MOVES = (
    ("name", "report publish"),
    ("seed", "base pool scores select train"),
    ("model", "base"),
    ("pool", "pool"),
    ("tasks", "pool"),
    ("tasks.*.name", "pool scores select train"),
    ("tasks.*.weight", "pool scores select train"),
    ("tasks.*.anticipated", "pool scores select train"),
    ("tasks.*.metric.python", "pool judge"),
    ("tasks.*.sweep", "train"),
    ("tasks.*.probe_at", "scores train"),  # forgetting is measured at checkpoints, too
    ("tasks.*.train", "base pool"),  # no instruction is a test row or a probe
    ("tasks.*.test", "base pool"),
    ("probes", "pool"),
    ("probes.harmful", "base pool"),
    ("probes.benign", "base pool"),
    ("pool.clean.decontaminate", "base pool"),
    ("pool.clean.decontaminate.neighbours", "pool"),
    ("probes.prefill", "answer"),
    ("probes.opening", "answer"),
    ("represent", "represent"),
    # The first representation's batches are those of interference and of forgetting, too.
    ("represent.0.batch_tokens", "represent scores answer"),
    ("score", "scores"),
    ("select", "select"),
    ("select.k", "scores select"),
    ("select.budget_tokens", "scores select"),
    ("select.objective", "scores select"),
    ("select.data", "pool select"),
    ("verify.arms", "select train"),
    ("verify.arms.2", "pool select train"),  # the arm with rows of its own
    ("verify.seeds", "select train"),
    ("verify.seeds.*", "train"),
    ("verify.seeds.max", "select train"),
    ("verify.stage", "select train"),
    ("verify.rehearsal_share", "select train"),
    ("verify.exposure", "select train"),
    ("verify.keep", "pool"),
    # Scores that ask models align and fine-tune theirs in the same way.
    ("verify.align", "base scores select train"),
    ("verify.finetune", "scores select train"),
    ("verify.finetune.max_tokens", "scores select train"),
    ("verify.finetune.micro_batch", "scores select train"),
    ("verify.generate", "select train answer"),
    ("verify.gates", "report"),
    ("verify.gates.harmfulness_before", "select report"),
    ("verify.gates.degenerate", "select report"),
    ("verify.control", "select train answer report"),  # which the search for the regime trains
    ("verify.regime", "select train"),
    ("verify.regime.share_of_probes", "pool"),
    ("verify.decision", "report"),
    ("verify.decision.one_seed", "train report"),  # a look that a seed makes clear is not clear
    ("verify.curve", "report"),
    ("verify.curve.primary", "train report"),  # which looks compare
    ("verify.forgetting", "answer"),
    ("verify.forgetting.interference", "scores"),
    ("verify.log_odds", "answer"),
    ("verify.log_odds.refuse", "select answer"),  # which a bank reads
    ("verify.log_odds.comply", "select answer"),
    ("verify.pilot", "select"),
    ("verify.pilot.scores", "scores select"),
    ("verify.pilot.share_of_probes", "pool select"),
    ("augment", "select"),
    ("judges.panel", "select train judge"),
    ("judges.panel.*.error", "report"),
    ("judges.panel.*.rubric.unanswered", "judge"),  # what was judged is kept; so are sets that were chosen by it
    ("judges.reasoning", "select train judge"),
    ("judges.rule", "select train judge report"),
    ("judges.headline", "select train judge report"),
    ("publish", "publish"),
)

# Leaves that move no stage's settings, and why.
WITHOUT_EFFECT = {
    "model.dtype": "what it comes to on this machine stands in the key, and is tested below",
    "engine": "where work runs decides last bits at most, and what ran where is recorded",
    "suite": "says which runs there are, not what one of them makes",
    "judges.panel.*.batch": "decides speed",
    "judges.panel.*.rubric.key_env": "says who pays",
    "judges.panel.*.rubric.concurrency": "decides speed",
    "judges.panel.*.rubric.retries": "decides how long a server is waited for",
    "judges.panel.*.rubric.timeout": "decides how long a server is waited for",
    "judges.panel.*.rubric.stop_after": "decides when a run gives up, which it does without a result",
    "judges.panel.*.rubric.allow_http": "decides which networks a key may pass",
}

# Leaves that a variant does not read, because of another key.
UNREAD = {
    "given": ["verify.pilot", "judges.panel.*.error"],
    "budget": ["verify.pilot", "verify.seeds", "judges.panel.*.error"],
    "quantised": ["verify.pilot", "verify.rehearsal_share", "judges.panel.*.error", "represent.0.batch_tokens"],
    "full": ["verify.rehearsal_share", "judges.panel.*.error", "verify.generate.memory", "judges.headline"],
    "vllm": ["verify.rehearsal_share", *(f"judges.panel.{number}.error" for number in range(1, 6))],
}
UNREAD["piloted"] = UNREAD["bank"] = UNREAD["full"]
UNREAD["floor"] = UNREAD["given"]
for _unread in ("given", "budget", "quantised"):
    UNREAD[_unread] += ["verify.generate.python", "verify.generate.memory"]
UNREAD["given"] += ["verify.rehearsal_share"]

# Leaves that have no other value as long as the rest of the recipe stays: what they can be is said by another leaf.
FIXED_BY_OTHERS = {
    "engine.kind",  # ray's other settings would be left without it
    "tasks.*.sweep", "verify.regime",
    "model.instruction", "tasks.*.defence", "verify.forgetting", "judges.panel.*.rubric",  # a section, or none
    "tasks.*.sweep.learning_rate", "tasks.*.sweep.rows", "tasks.*.sweep.method",  # whose items are flipped, or none
    "judges.panel.*.refusal", "judges.panel.*.sandbox", "suite.each", "model.quantise",  # one word, or none
    "verify.log_odds", "verify.log_odds.from", "verify.log_odds.refuse", "verify.log_odds.comply",  # texts, or a pilot
    "score.embedder", "score.of.*.embedder", "verify.pilot.scores.*.embedder",  # a section, or none
    "score.of", "score.of.*.of", "verify.pilot.scores.*.of",  # empty, but for a rank-sum
    "verify.finetune.epochs",  # exactly one of both
    "select.parameters",  # empty, but for objectives that have some
    "select.vulnerable",  # a section, or none
    "pool.refusals.embedding",  # exactly one of both
    "select.within", "select.within.shares",  # a section, or none; empty, or shares that sum to 1
    "select.by",  # with a weight of its own, or a pilot's
    "verify.pilot.bank.tasks",  # all, or a list, whose items are flipped
    "select.data", "verify.arms.*.data",  # exactly one way to give rows
}  # fmt: skip
SOURCE = re.compile(r"^.*\.(data|train|sources\.\*|harmful\.\*|benign\.\*)\.")


@pytest.mark.parametrize("name", GOLDEN)
def test_no_key_of_a_shipped_recipe_has_moved(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that moves runs its stage again in every folder that users have. Where that is not meant, leave the new
    setting out of the key at its default; where it is, raise the stage's number in VERSIONS and renew the file.
    """
    recipe = read(ROOT / "recipes" / name, ["model.dtype=fp32"])  # as `auto` was on every CPU
    monkeypatch.chdir(ROOT)
    assert stage_keys(recipe, inputs_of(recipe, tmp_path)) == GOLDEN[name]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "recipe.yaml").write_text(FULL)
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "response": "b"}\n')
    (tmp_path / "openers.txt").write_text("Of course.\n")
    (tmp_path / "other.jsonl").write_text('{"prompt": "a", "response": "c"}\n')
    (tmp_path / "metric.py").write_text("def first(answer, reference): return 1.0\n")
    (tmp_path / "other.py").write_text("def second(answer, reference): return 0.0\n")
    (tmp_path / "template.jinja").write_text("{{ messages }}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("curator.train.vllm_process.there", lambda _: True)  # asks the interpreter, which takes a while
    return tmp_path


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list) and value:
        for number, item in enumerate(value):
            yield from leaves(item, (*path, number))
    else:
        yield path


def at(value: Any, path: Sequence[Any]) -> Any:
    for key in path:
        value = value[key]
    return value


TAKEN: dict[Any, list[Any]] = {}
"""Values that a key of this name has taken somewhere: they are tried first, since most others are refused."""


def flipped(dumped: dict[str, Any], path: tuple[Any, ...]) -> Iterator[Recipe]:
    """The recipe with another value in one leaf, for every value that it may take of those tried."""
    section, key = at(dumped, path[:-1]), path[-1]
    old = section[key]
    known = [value for value in TAKEN.get(key, ()) if type(value) is not type(old) or value != old]
    for new in (*known, *candidates(old)):
        section[key] = new  # in place: copying the whole for every try takes most of the time
        try:
            recipe = Recipe.model_validate(dumped, by_alias=True, by_name=False)
        except ValidationError:
            continue
        finally:
            section[key] = old
        if recipe.model_dump(by_alias=True) != dumped:
            if new not in TAKEN.setdefault(key, []):
                TAKEN[key].append(new)
            yield recipe


WORDS = (
    "other", "5 min", "trackio",
    "x-1", "max", "mean", "safe", "linear", "whole", "gradient", "head", "eos", "rarest", "policy", "source", "full",
    "similar", "lora", "tokens", "steps", "none", "random", "harmbench", "exact", "phrases", "prompt", "any-harmful",
    "graph-cut", "upstream", "rehearsal", "obrien-fleming", "every", "aligned", "rouge1", "other.py:second",
    "other.jsonl", "https://host/v2",
    "unscored", "max_completion_tokens", "bf16", "worst", "area",
    "{other}", "transformers", "vllm", "host:1", "cosine", "interference", "hidden-states", "facility-location",
)  # fmt: skip


def candidates(old: Any) -> Iterator[Any]:
    if isinstance(old, bool):
        yield not old
    elif isinstance(old, int):
        yield from (old + 1, old - 1, old * 2, 64)
    elif isinstance(old, float):
        yield from (old * 0.5, old + 0.25, old - 0.25)
    elif isinstance(old, str):
        yield from (word for word in WORDS if word != old)
    else:  # null, or an empty list or mapping
        yield from (0.5, 2, True, *WORDS, ["x-1"], {"a": "b"}, {"prompt": "a"}, {"nu": 0.25},
                    [{"from": "cosine"}],
                    {"a": {"min": 1}}, {"file": "other.jsonl"}, [{"file": "other.jsonl"}], {"min": 1},
                    {"max_same": 0.5}, {"k": [5]}, {"groups": {"a": 2}})  # fmt: skip


def moved(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    def plain(settings: Any) -> str:
        return json.dumps(settings, sort_keys=True, default=str)

    return {stage for stage in STAGES if plain(before[stage]) != plain(after[stage])}


def matches(path: Sequence[Any], pattern: str) -> bool:
    keys = pattern.split(".")
    return len(path) >= len(keys) and all(key in ("*", str(own)) for key, own in zip(keys, path, strict=False))


def expected(path: Sequence[Any]) -> set[str]:
    return set(next(stages for pattern, stages in reversed(MOVES) if matches(path, pattern)).split())


@cache
def flips(variant: str) -> list[tuple[tuple[Any, ...], set[str] | None]]:
    """Every leaf of a variant, and the stages whose settings its first other value moves; null where it has none."""
    recipe = read(Path("recipe.yaml"), VARIANTS[variant])
    inputs = Inputs(None, "a template", {})
    before, dumped = decided_by(recipe, inputs), recipe.model_dump(by_alias=True)
    changed = ((path, next(flipped(dumped, path), None)) for path in leaves(dumped))
    return [(path, None if other is None else moved(before, decided_by(other, inputs))) for path, other in changed]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_leaf_of_a_recipe_moves_the_stages_that_it_decides(here: Path, variant: str) -> None:
    wrong = []
    for path, stages in flips(variant):
        if stages is None:
            continue
        if any(matches(path, pattern) for pattern in WITHOUT_EFFECT):
            right = not stages
        elif any(matches(path, pattern) for pattern in UNREAD[variant]):
            right = stages <= expected(path)
        elif variant == "full":
            right = stages == expected(path)
        else:  # without a pilot, looks or an instruction stage fewer stages read a leaf, and never others
            right = bool(stages) and stages <= expected(path)
        if not right:
            wrong.append(f"{'.'.join(map(str, path))}: {' '.join(sorted(stages)) or 'none'}")
    assert not wrong, "\n".join(wrong)


def test_every_leaf_has_been_flipped(here: Path) -> None:
    seen: dict[str, bool] = {}
    for variant in VARIANTS:
        for path, stages in flips(variant):
            name = SOURCE.sub("source.", ".".join("*" if isinstance(key, int) else str(key) for key in path))
            seen[name] = seen.get(name, False) or stages is not None
    never = {name for name, done in seen.items() if not done}
    assert never == FIXED_BY_OTHERS
    sections = {name.partition(".")[0] for name in seen} - {"source"}
    assert sections | {"tasks", "probes"} == set(Recipe.model_fields)


def test_a_recipe_from_before_start_went_has_the_keys_that_it_had(here: Path) -> None:
    plain, said = (read(Path("recipe.yaml"), settings) for settings in ([], ["model.start=base"]))
    assert plain == said


def test_a_sweep_of_the_recipes_own_setting_moves_no_key(here: Path) -> None:
    inputs = inputs_of(read(Path("recipe.yaml"), []), here / "run")
    sweep = "tasks.0.sweep={rows: [40], method: [full]}"
    plain, swept, other = (
        stage_keys(read(Path("recipe.yaml"), settings), inputs)
        for settings in ([], [sweep], [sweep.replace("[40]", "[20, 40]")])
    )
    assert swept == plain
    before = STAGES[: STAGES.index("train")]
    assert [stage for stage in STAGES if other[stage] == plain[stage]] == [*before]


def test_stages_come_after_those_they_read() -> None:
    assert list(AFTER) == list(STAGES) == list(VERSIONS)
    for number, stage in enumerate(STAGES):
        assert set(AFTER[stage]) <= set(STAGES[:number])


def test_what_a_file_says_decides_and_when_it_was_touched_does_not(here: Path) -> None:
    recipe = read(Path("recipe.yaml"))
    before = stage_keys(recipe, inputs_of(recipe, here / "run"))
    (here / "rows.jsonl").touch()
    assert stage_keys(recipe, inputs_of(recipe, here / "run")) == before
    changes = {
        "rows.jsonl": (
            '{"prompt": "a", "response": "d"}\n',
            {"base", "pool"},
        ),  # of every role, instructions among them
        "metric.py": ("def first(answer, reference): return 0.5\n", {"judge"}),
        "template.jinja": ("{{ bos_token }}", {"base", "represent"}),
        "openers.txt": ("Yes.\n", {"select"}),
    }
    for file, (text, stages) in changes.items():
        old = decided_by(recipe, inputs_of(recipe, here / "run"))
        (here / file).write_text(text)
        assert moved(old, decided_by(recipe, inputs_of(recipe, here / "run"))) == stages, file


ROLES = {
    "pool.sources.0": {"pool"},
    "tasks.1.train": {"base", "pool"},
    "tasks.0.regime.data": {"pool"},
    "tasks.0.defence.data": {"pool"},
    "probes.harmful.0": {"base", "pool"},
    "probes.benign.0": {"base", "pool"},
    "verify.keep.data": {"pool"},
    "verify.arms.2": {"pool"},
    "select.data": {"pool"},
    "model.instruction.data": {"base", "pool"},
}


@pytest.mark.parametrize("role", ROLES)
def test_a_source_file_that_changes_moves_what_is_made_of_its_rows(here: Path, role: str) -> None:
    """Each role alone reads the file `mine.jsonl`, which changes while the recipe does not."""
    (here / "mine.jsonl").write_text('{"prompt": "a", "response": "b"}\n')
    variant = VARIANTS["given"] if role == "select.data" else []
    recipe = read(
        Path("recipe.yaml"), [*variant, f"{role}={{{'name: mine, ' if 'arms' in role else ''}file: mine.jsonl}}"]
    )
    before = stage_keys(recipe, inputs_of(recipe, here / "run"))
    old = decided_by(recipe, inputs_of(recipe, here / "run"))
    (here / "mine.jsonl").write_text('{"prompt": "a", "response": "c"}\n')
    assert moved(old, decided_by(recipe, inputs_of(recipe, here / "run"))) == ROLES[role]
    after = stage_keys(recipe, inputs_of(recipe, here / "run"))
    # And with them every stage that reads them, to the last.
    assert {stage for stage in STAGES if before[stage] != after[stage]} >= set(STAGES[STAGES.index("pool") :])


def test_the_code_of_the_sandbox_moves_what_is_made_of_its_rows(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = read(Path("recipe.yaml"), ["model.instruction.data={sandbox: keep}"])
    old = decided_by(recipe, inputs_of(recipe, here / "run"))
    monkeypatch.setattr("curator.recipe.inputs.sandbox_version", lambda: "another")
    assert moved(old, decided_by(recipe, inputs_of(recipe, here / "run"))) == {"base", "pool"}


FOLDERS = {
    "model.id": {"base"},
    "pool.embedder.id": {"pool"},
    "represent.0.id": {"represent"},
    "represent.2.id": {"represent"},
    "judges.panel.2.guard": {"select", "train", "judge"},
    "judges.panel.3.classifier": {"select", "train", "judge"},
    "judges.panel.4.embedding": {"select", "train", "judge"},
}


@pytest.mark.parametrize("leaf", FOLDERS)
@pytest.mark.parametrize("file", ["weights.bin", "1_Pooling/config.json"])
def test_a_file_of_a_local_folder_that_changes_moves_what_is_made_with_it(here: Path, leaf: str, file: str) -> None:
    path = here / "local" / file
    path.parent.mkdir(parents=True)
    path.write_text("one")
    recipe = read(Path("recipe.yaml"), [f"{leaf}=local"])
    old, stamp = decided_by(recipe, inputs_of(recipe, here / "run")), path.stat().st_mtime_ns
    path.touch()
    assert not moved(old, decided_by(recipe, inputs_of(recipe, here / "run")))
    path.write_text("two")
    os.utime(path, ns=(stamp, stamp))
    assert moved(old, decided_by(recipe, inputs_of(recipe, here / "run"))) == FOLDERS[leaf]


def test_the_embedder_of_a_fitted_head_is_told_by_its_files_too(here: Path) -> None:
    (here / "head").mkdir()
    (here / "embedder").mkdir()
    (here / "head" / "head.json").write_text('{"embedder": "embedder"}')
    (here / "embedder" / "weights.bin").write_text("one")
    recipe = read(Path("recipe.yaml"), ["judges.panel.4.embedding=head"])
    old = decided_by(recipe, inputs_of(recipe, here / "run"))
    (here / "embedder" / "weights.bin").write_text("two")
    assert moved(old, decided_by(recipe, inputs_of(recipe, here / "run"))) == {"select", "train", "judge"}
    for text in ("[]", "no JSON", '{"embedder": 3}'):  # which the judge itself tells, when it is asked
        (here / "head" / "head.json").write_text(text)
        assert decided_by(recipe, inputs_of(recipe, here / "run"))


def test_the_date_that_a_template_is_told_is_in_the_key_where_it_asks_for_one(here: Path, monkeypatch) -> None:
    recipe, template = read(Path("recipe.yaml")), here / "template.jinja"
    template.write_text("{{ messages[0]['content'] }}")
    plain = stage_keys(recipe, inputs_of(recipe, here / "run"))
    template.write_text("{{ strftime_now('%d %b %Y') }}")
    dated = stage_keys(recipe, inputs_of(recipe, here / "run"))
    monkeypatch.setattr("curator.keys.DATE", date(2031, 2, 3))
    assert stage_keys(recipe, inputs_of(recipe, here / "run"))["base"] != dated["base"]
    template.write_text("{{ messages[0]['content'] }}")
    assert stage_keys(recipe, inputs_of(recipe, here / "run")) == plain


def test_a_stage_that_is_made_anew_takes_with_it_every_stage_that_reads_it(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = read(Path("recipe.yaml"))
    inputs = inputs_of(recipe, here / "run")
    before = stage_keys(recipe, inputs)
    reads = {
        "pool": ["base"],
        "represent": ["base", "pool"],
        "select": ["pool", "scores"],
        "train": ["base", "pool", "select"],
    }
    for stage, earlier in reads.items():
        for name in earlier:
            # This stage's key alone, as if nothing lay between the two.
            monkeypatch.setattr("curator.keys.AFTER", {**dict.fromkeys(STAGES, ()), stage: AFTER[stage]})
            alone = stage_keys(recipe, inputs)
            monkeypatch.setattr("curator.keys.VERSIONS", {**VERSIONS, name: 999})
            assert stage_keys(recipe, inputs)[stage] != alone[stage], f"{stage} after {name}"
            monkeypatch.undo()
            monkeypatch.chdir(here)
    for number, stage in enumerate(STAGES[:-1]):  # and, through others, every stage that comes after it
        monkeypatch.setattr("curator.keys.VERSIONS", {**VERSIONS, stage: 999})
        after = stage_keys(recipe, inputs)
        assert [name for name in STAGES if before[name] != after[name]] == list(STAGES[number:])


def test_the_dtype_moves_every_stage_and_stays_with_its_run_folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fp32, bf16 = (read(Path("recipe.yaml"), [f"model.dtype={name}"]) for name in ("fp32", "bf16"))
    old, new = (decided_by(recipe, inputs_of(recipe, here / "asked")) for recipe in (fp32, bf16))
    assert moved(old, new) == {"base"}  # which every other stage reads
    # A machine that would choose otherwise goes on as the folder was begun, another folder or model does not.
    auto = read(Path("recipe.yaml"), ["model.id=owner/model", "model.chat_template=null"])
    monkeypatch.setattr("curator.model.dtype.product_rates", lambda: {"fp32": 1.0, "bf16": 1.5})
    assert inputs_of(auto, here / "auto").dtype == "bf16"
    monkeypatch.setattr("curator.model.dtype.product_rates", lambda: {"fp32": 1.0, "bf16": 1.4})
    assert inputs_of(auto, here / "auto").dtype == "bf16"
    assert inputs_of(auto, here / "later").dtype == "fp32"
    other = read(Path("recipe.yaml"), ["model.id=owner/other", "model.chat_template=null"])
    assert inputs_of(other, here / "auto").dtype == "fp32"


def test_the_seed_decides_the_draws_of_arms_without_a_pilot(here: Path) -> None:
    recipe = read(Path("recipe.yaml"), VARIANTS["quantised"])
    other = recipe.model_copy(update={"seed": recipe.seed + 1})
    inputs = Inputs(None, None, {})
    assert moved(decided_by(recipe, inputs), decided_by(other, inputs)) == {"pool", "select", "train"}


def test_forgetting_is_measured_again_with_another_control(here: Path) -> None:
    inputs = Inputs(None, None, {})
    for forgetting, stages in (("{rows: 20}", {"train", "answer", "report"}), ("null", {"train", "report"})):
        recipe = read(
            Path("recipe.yaml"),
            [*VARIANTS["budget"], "verify.stage=upstream", "tasks.0.sweep=null", f"verify.forgetting={forgetting}"],
        )
        verify = recipe.verify.model_copy(update={"control": "matched-random"})
        other = recipe.model_copy(update={"verify": verify})
        assert moved(decided_by(recipe, inputs), decided_by(other, inputs)) == stages


SECTION = Training(steps=2)
JUDGE = Judge(name="a", refusal="phrases")
PIECES: list[tuple[Any, tuple[Any, ...]]] = [
    (pieces.instruction_key, ("path", "revision", "template", SECTION, ["row"], 1, "4bit", "bf16")),
    (pieces.training_key, ("start", SECTION, 4, 1, "template", ["row"])),
    (pieces.answers_key, ("weights", "template", ["question"], 256, 64, "vllm")),
    (pieces.losses_key, ("weights", "template", ["row"], 512)),
    (pieces.measures_key, ("losses", ["weights"], "template", ["row"], 512)),
    (pieces.verdicts_key, (JUDGE,)),
    (pieces.added_key, (JUDGE, "answers")),
]


@pytest.mark.parametrize(("key", "parts"), PIECES, ids=lambda value: getattr(value, "__name__", ""))
def test_each_part_of_a_pieces_key_moves_it(key: Any, parts: tuple[Any, ...]) -> None:
    other: dict[type, Any] = {str: "another", int: 99, list: ["another"], Training: Training(steps=3)}
    other[Judge] = Judge(name="b", refusal="phrases")
    found = [key(*parts)]
    found += [key(*parts[:number], other[type(part)], *parts[number + 1 :]) for number, part in enumerate(parts)]
    assert len(set(found)) == len(parts) + 1


def test_a_template_inside_a_package_counts_by_its_text(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = here / "mypkg"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(here))
    section = {"from": "hidden-states", "id": "sandbox:", "chat_template": "package:mypkg/t.jinja"}
    recipe = read(Path("recipe.yaml")).model_copy(update={"represent": Represent(**section)})
    parts = []
    for text in ("one", "another"):
        (package / "t.jinja").write_text(text)
        parts.append(_representations(recipe))
    assert parts[0] != parts[1]


def test_files_in_another_encoding_end_no_run_with_a_bug(here: Path) -> None:
    recipe = read(Path("recipe.yaml"))
    text = "# -*- coding: latin-1 -*-\n# %s\ndef first(answer, reference): return 1.0\n"
    keys = []
    for letter in "\u00e9\u00e8":
        (here / "metric.py").write_text(text % letter, encoding="latin-1")
        keys.append(stage_keys(recipe, inputs_of(recipe, here / "run"))["judge"])
    assert keys[0] != keys[1]
    (here / "template.jinja").write_bytes(b"\xff{{ messages }}")
    with pytest.raises(RecipeError, match=r"model\.chat_template: template\.jinja cannot be read \(it is not UTF-8\)"):
        inputs_of(recipe, here / "run")


def test_runs_that_share_a_shelf_share_a_dtype_that_was_measured(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = read(Path("recipe.yaml"))
    choices = iter(Choice(name, "as measured") for name in ("fp32", "bf16", "bf16"))
    monkeypatch.setattr("curator.keys.chosen", lambda *_, **__: next(choices))
    shelf = here / "shelf"
    assert [_chosen_dtype(recipe, here / name, shelf) for name in ("one", "two", "one")] == ["fp32"] * 3
    assert _chosen_dtype(recipe, here / "three") == "bf16"


if __name__ == "__main__":  # python -m tests.test_keys: writes down today's keys of the shipped recipes
    import tempfile
    from contextlib import chdir

    with tempfile.TemporaryDirectory() as _folder, chdir(ROOT):
        _recipes = {name: read(ROOT / "recipes" / name, ["model.dtype=fp32"]) for name in GOLDEN}
        _keys = {name: stage_keys(recipe, inputs_of(recipe, Path(_folder))) for name, recipe in _recipes.items()}
    (ROOT / "tests" / "golden" / "keys.json").write_text(json.dumps(_keys, indent=1) + "\n")
