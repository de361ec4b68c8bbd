"""What leaves the machine: a canary in every place of a recipe and a report, and which of them are in the folder."""

from __future__ import annotations

import json
import shutil
import typing
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from pydantic import BaseModel

import curator
from curator.conclusions.part import plain
from curator.pipeline import build
from curator.publish.record import WITHHELD, dropped_rows, publishable, reason, sentence
from curator.recipe import Recipe
from curator.records import DROPPED_SCHEMA
from curator.report.material import Dropped, Model, Provenance
from curator.report.model import Report
from curator.run import Run
from curator.run.readers import dataset_folder
from tests.judge.test_rubric import Endpoint, served
from tests.small_run import recipe

SECTIONS = (
    "pool.sources", "tasks.train", "tasks.regime.data", "tasks.defence.data", "probes.harmful", "probes.benign",
    "select.data", "verify.arms.data", "verify.keep.data", "model.instruction.data",
)  # fmt: skip
STAYS = {
    "tasks.defence.trigger",
    "probes.opening",
    "select.include",
    "select.exclude",
    "verify.generate.python",
    "verify.log_odds.refuse",
    "verify.log_odds.comply",
    "judges.panel.rubric.url",
    "judges.panel.rubric.key_env",
    *(f"{section}.{name}" for section in SECTIONS for name in ("where.*", "template")),
}
"""All of a recipe that is not published. Whoever adds a setting puts it on the list of `record`, or here."""
LAST_PARTS = {
    "model.id", "model.chat_template", "pool.embedder.id", "represent.id", "represent.chat_template", "tasks.metric",
    "tasks.metric.python", "judges.panel.guard", "judges.panel.classifier", "judges.panel.embedding",
    "pool.refusals.embedding", "judges.panel.error", "judges.panel.rubric.model",
    *(f"{section}.file" for section in SECTIONS),
}  # fmt: skip
"""Where a path may stand, of which the last part is published."""


def leaves(kind, way="", around=()):
    """Dotted way -> whether text may stand there, of every value that a section of models holds; `*` is any key."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        if around.count(kind) < 2:  # a score may be made of scores, and those of none
            for name, field in kind.model_fields.items():
                yield from leaves(field.annotation, f"{way}.{field.alias or name}".strip("."), (*around, kind))
        return
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is dict:
        yield from leaves(inner[1], f"{way}.*", around)
    elif origin is typing.Literal:
        yield way, all(isinstance(value, str) for value in inner)
    elif kind is typing.Any or "JsonValue" in str(kind):
        yield way, True
    elif inner:
        for part in inner:
            yield from leaves(part, way, around)
    elif kind is not type(None) and isinstance(kind, type):
        yield way, kind is str


def of_recipe():
    return {way: text for way, text in leaves(Recipe) if not way.startswith("engine.")}


def nested(way, value):
    """The value in the place that a dotted way names, and nothing else."""
    for key in reversed(way.split(".")):
        value = {"canary-key" if key == "*" else key: value}
    return value


def recipes(values):
    """A recipe whose every section is a list, an item for each value."""
    merged = {}
    for way, value in values.items():
        for section, inside in nested(way, value).items():
            merged.setdefault(section, []).append(inside)
    return merged


def decoded(folder):
    """Everything that a reader of the folder sees: bytes, names of files, and all cells, names and notes of tables."""
    seen = []
    for path in folder.rglob("*"):
        seen.append(path.relative_to(folder).as_posix())
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            seen += [str(table.schema), str(table.schema.metadata), json.dumps(table.to_pylist(), ensure_ascii=False)]
        if path.is_file():
            seen.append(path.read_bytes().decode("utf-8", errors="replace"))
    return "\n".join(seen)


def test_every_setting_of_a_recipe_is_on_the_list_or_stays():
    values = dict.fromkeys(of_recipe(), 8675309)
    public = publishable(bare(recipes(values))).provenance.recipe
    gone = {way for way in values if "8675309" not in json.dumps(alone(way, 8675309))}
    assert gone == STAYS
    assert json.dumps(public).count("8675309") == len(values) - len(STAYS)


def bare(settings, **changes):
    from tests.report.invented import invent

    return invent().report(provenance=Provenance(recipe=settings), **changes)


def alone(way, value, *, report=[]):  # noqa: B006 - made once
    """What is published of a recipe that holds one value."""
    if not report:
        report.append(bare({}))
    whole = report[0].model_copy(update={"provenance": Provenance(recipe=nested(way, value))})
    return publishable(whole).provenance.recipe


def test_a_canary_in_every_text_of_a_recipe_shows_which_are_in_the_folder(run, report, write, tmp_path):
    texts = {way: f"canary{number}x" for number, (way, text) in enumerate(of_recipe().items()) if text}
    assert len(texts) > 150
    told = report.model_copy(update={"provenance": Provenance(recipe=recipes(texts))})
    seen = decoded(write(tmp_path / "dataset", run, told))
    assert {way for way, canary in texts.items() if canary not in seen} == STAYS


@pytest.mark.parametrize("root", ["/home/canary-user/a b", "~/canary-user", "C:\\Users\\canary-user", "..\\canary-user",
                                  "models/canary-user", "file:///canary-user"])  # fmt: skip
def test_of_a_path_in_a_recipe_the_last_part_is_in_the_folder(run, report, write, tmp_path, root):
    slash = "\\" if "\\" in root else "/"
    texts = {way: f"{root}{slash}folder{slash}last{number}x.py:f" for number, way in enumerate(sorted(LAST_PARTS))}
    told = report.model_copy(update={"provenance": Provenance(recipe=recipes(texts))})
    seen = decoded(write(tmp_path / "dataset", run, told))
    assert "canary" not in seen
    for way in texts:
        assert f"last{sorted(LAST_PARTS).index(way)}x.py:f" in seen


def test_the_id_of_a_model_on_the_hub_is_published_and_a_folder_of_the_same_form_is_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "here").mkdir(parents=True)
    for name, public in (("owner/there", "owner/there"), ("owner/here", "here")):
        told = publishable(bare({"model": {"id": name}}, model=Model(id=name, revision=None)))
        assert (told.model.id, told.provenance.recipe["model"]) == (public, {"id": public})


def test_every_text_of_a_report_is_on_the_list_or_stays(report):
    """A text that is not is withheld where the report is published, and of a closed choice that is an error."""
    from curator.publish.record import _LIST

    stays = set()
    for way, text in leaves(Report):
        listed, settings = _LIST, False
        for key in way.split("."):
            settings = settings or listed.settings
            listed = listed.part(key)
        if text and listed.kind is None and not settings and not way.startswith("timing."):
            stays.add(way)
    # Of answers, or of the recipe; groups of a bank by their grouping.
    openers = {"log_odds.refuse.text", "log_odds.comply.text", "log_odds.dropped", "bank.mixtures.*.best.group"}
    assert stays == {"selection.parameters.*", "score.parameters.*", "provenance.sources", *openers}
    loose = {"selection": {"parameters": {"found": "canary", "greedy": "lazy", "rows": 3}},
             "score": {"parameters": {"note": "canary", "aggregate": "max"}}}  # fmt: skip
    parts = {name: getattr(report, name).model_copy(update=values) for name, values in loose.items()}
    public = plain(publishable(report.model_copy(update=parts)))
    assert public["selection"]["parameters"] == {"found": WITHHELD, "greedy": "lazy", "rows": 3}
    assert public["score"]["parameters"] == {"note": WITHHELD, "aggregate": "max"}


def test_a_part_that_is_not_on_the_list_stays_whole():
    found = {"name": "mine", "later": {"canary-key": 3}, "model": {"canary-key": True, "revision": None}}
    assert publishable(bare(found)).provenance.recipe == {
        "name": "mine", "later": WITHHELD, "model": {"canary-key": WITHHELD, "revision": None}
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("read /home/someone/data/pool.jsonl.", "read pool.jsonl."),
        ("(/home/someone/x.csv:12: bad)", "(x.csv:12: bad)"),
        ("'/home/some one/x.csv' is gone", "'x.csv' is gone"),
        ("from ~/secret/x.csv, ~someone/y", "from x.csv, y"),
        ("at C:\\Users\\someone\\x.csv now", "at x.csv now"),
        ("at \\\\server\\share\\x.csv now", "at x.csv now"),
        ("file:///srv/secret/x.csv", "x.csv"),
        ("a guard model /srv/guards/mine/, read as harmbench", "a guard model mine/, read as harmbench"),
        ("of 1/2 or and/or, cosine/top-mean, owner/name", "of 1/2 or and/or, cosine/top-mean, owner/name"),
        ("see https://example.org/a/b and http://h/c", "see https://example.org/a/b and http://h/c"),
        ("a </pre> b / c", "a </pre> b / c"),
    ],
)
def test_a_sentence_holds_no_folder(text, public):
    assert sentence(text, {}) == public


def test_what_a_recipe_keeps_is_in_no_sentence_either(report):
    settings = {
        "tasks": [{"defence": {"trigger": "open sesame 7"}, "metric": {"python": "my code/own.py:f"}}],
        "judges": {"panel": [{"rubric": {"url": "https://inside.example/v1"}}]},
        "verify": {"generate": {"python": "envs/vllm/bin/python3"}},
    }
    reason = "/opt/x/python3 has no vllm, it says open sesame 7"
    told = report.model_copy(
        update={
            "provenance": Provenance(recipe=settings),
            "design": report.design.model_copy(update={"instead_of_vllm": {reason: 3}}),
            "warnings": (f"3 models ({reason}): so", "https://inside.example/v1 by my code/own.py:f: open sesame 7"),
        }
    )
    public = publishable(told)
    assert public.design.instead_of_vllm == {WITHHELD: 3}
    assert public.warnings == (
        "3 models (for a reason that is not published): so", f"{WITHHELD} by own.py:f: {WITHHELD}"
    )  # fmt: skip


def test_reasons_name_neither_the_rows_words_nor_what_where_asks_for(report):
    reasons = [
        ("where", "topic is not 'secret'"),
        ("where", "topic is not secret"),
        ("clean", "the role of turn 2 is 'a private thing'; known: user, assistant"),
        ("clean", "it doesn't end, and isn't short"),
    ]
    public = ["`where` does not keep the row"] * 2
    public += [f"the role of turn 2 is {WITHHELD}; known: user, assistant", "it doesn't end, and isn't short"]
    assert [reason(*both) for both in reasons] == public
    frame = pl.DataFrame(
        {"source": ["a"] * 4, "line": [4, 3, 2, 1], "stage": [stage for stage, _ in reasons],
         "reason": [text for _, text in reasons], "match": [None, "x", None, "y"],
         "kind": ["where", "where", "wrong-roles", "empty"]}, schema=DROPPED_SCHEMA,
    )  # fmt: skip
    assert dropped_rows(frame).equals(frame.with_columns(reason=pl.Series(public)))
    pool = report.pool.model_copy(
        update={"reasons": tuple(Dropped(stage=stage, reason=text, rows=2) for stage, text in reasons)}
    )
    found = publishable(report.model_copy(update={"pool": pool})).pool.reasons
    assert [(one.reason, one.rows) for one in found] == [(public[0], 4), (public[2], 2), (public[3], 2)]


def test_half_of_a_character_is_written_as_a_mark(run, report, write, tmp_path):
    told = report.model_copy(update={"provenance": Provenance(recipe={"pool": {"sources": [{"licence": "a\ud800"}]}})})
    folder = write(tmp_path / "dataset", run, told)
    assert "a\ufffd" in (folder / "evidence" / "report.json").read_text(encoding="utf-8")
    assert "licence:" in (folder / "recipe.yaml").read_text(encoding="utf-8")


# A run that `build` made, whose recipe holds a canary wherever such a recipe can


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A run with files of its own; every folder, every text that is no name, and every address holds `canary`."""
    base = tmp_path_factory.mktemp("canary-base")
    files = base / "canary files"
    files.mkdir()
    shutil.copytree(Path(curator.__file__).parent / "sandbox" / "checkpoint", base / "canary-models" / "small")
    pool = [
        {"ask": f"canary-pool ask {n} {'abcdefgh'[n % 8] * 3}", "say": f"no {n}", "kind": "shown-kind",
         "use": "canary-out" if n % 9 == 0 else "in", "licence": "shown-licence"}
        for n in range(120)
    ]  # fmt: skip
    rows = {
        "pool": pool,
        "task": [{"left": f"canary-task {n}", "out": f"canary-out {n}"} for n in range(60)],
        "harm": [{"prompt": f"canary-harm {n}"} for n in range(12)],
        "good": [{"prompt": f"canary-good {n}"} for n in range(8)],
        "safe": [{"prompt": f"canary-mix {n}", "response": "no"} for n in range(30)],
    }
    for name, records in rows.items():
        (files / f"shown-{name}.jsonl").write_text("\n".join(map(json.dumps, records)))
    (files / "shown_metric.py").write_text("def score(answer, reference):\n    return 0.5\n")
    with served(Endpoint()) as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("CANARY_KEY", "canary-secret")
        patch.chdir(base)
        rubric = f"{{url: '{url}/canary-path', model: /canary-models/shown-grader, key_env: CANARY_KEY}}"
        settings = [
            "name=shown-run",
            "model.id=canary-models/small",
            f"pool.sources=[{{file: '{files}/shown-pool.jsonl', where: {{use: [in, canary-kept]}}, category: kind,"
            " columns: {prompt: ask, response: say}}]",
            "probes.harmful=[{file: 'canary files/shown-harm.jsonl'}]",
            "probes.benign=[{file: 'canary files/shown-good.jsonl'}]",
            "tasks=[{name: shown-task, rows: 20, test: {rows: 10}, train: {file: 'canary files/shown-task.jsonl',"
            " template: 'canary-template {left}', columns: {response: out}}, defence: {safety_mix: 0.2,"
            " data: {file: 'canary files/shown-safe.jsonl'}, trigger: canary-trigger},"
            f" metric: {{python: '{files}/shown_metric.py:score'}}}}]",
            "verify.keep=null",
            "verify.seeds=3",
            "verify.arms=[curated, random]",
            "publish.controls=true",
            f"judges={{headline: shown-words, panel: [{{name: shown-words, refusal: phrases}}, {{name: shown-rubric, "
            f"rubric: {rubric}}}]}}",
        ]
        build(recipe(*settings), base / "canary-out" / "run")
    return base / "canary-out" / "run"


def test_a_published_run_holds_no_canary_but_in_its_rows(built):
    seen = decoded(dataset_folder(built))
    for name in ("shown-run", "shown-task", "shown-rubric", "shown-grader", "shown_metric.py:score", "shown-pool.jsonl",
                 "shown-kind", "shown-licence", "shown-task.jsonl", "shown-harm.jsonl"):  # fmt: skip
        assert name in seen, name
    assert "canary" in (built / "8-report" / "report.html").read_text(), "the run folder keeps it"
    left = seen.replace("canary-pool ask", "")
    assert "canary-pool" not in left
    assert "canary" not in left.lower(), left[max(0, left.lower().index("canary") - 300) :][:600]


def test_no_text_of_a_task_a_probe_or_an_answer_is_published(built):
    made, seen = Run.open(built), decoded(dataset_folder(built))
    answers = {text for text in made.answers()["answer"].to_list() if len(text) > 20}
    assert answers
    assert not [text for text in answers if text in seen]
    frames = [
        made.data().harmful,
        made.data().benign,
        *(part for task in made.data().tasks for part in (task.train, task.test)),
    ]
    texts = [turn["content"] for frame in frames for messages in frame["messages"] for turn in messages]
    assert len(texts) > 50
    assert not [text for text in texts if text in seen]


def test_a_label_that_is_text_is_not_published(tmp_path):
    from curator.pool.sources import read
    from curator.recipe.source import Source

    labels = (True, "some private words of a person", "it's theirs and \"nobody's\"")
    rows = [json.dumps({"prompt": f"ask {label}", "response": "tell", "label": label}) for label in labels]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    dropped = read(Source(file="a.jsonl", columns={"label": "label"}), base=tmp_path).dropped
    assert dropped.height == 2
    for text in dropped["reason"]:
        assert reason("clean", text) == "label is (not published), neither true nor false"
