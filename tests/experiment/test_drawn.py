"""Answers that begin with an opening, and several answers to a prompt: their rows, and what they depend on."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import polars as pl
import pytest

from curator.errors import RunError
from curator.experiment.grid import answer_grid
from curator.experiment.jobs import AnswerJob
from curator.experiment.plan import BASE, NONE
from curator.keys.pieces import answers_key
from curator.model.load import load_tokenizer
from curator.model.prefill import opening_tokens
from curator.recipe.probes import OPENING
from curator.recipe.training import Generate
from curator.train.job import texts_of
from tests.experiment.test_grid import (
    GENERATE,
    data,  # noqa: F401 - a fixture
    experiment,  # noqa: F401 - a fixture
    grid,
    here,
    performed,  # noqa: F401 - a fixture
    pieces,
)

DRAWN = Generate(max_new_tokens=6, batch=4, samples=3, temperature=0.9)
CELL = ["arm", "seed", "phase", "task", "probe"]


@pytest.fixture(scope="module")
def ask(experiment, performed):  # noqa: F811 - the fixtures above
    """Asks the trained grid again, in a folder of its own."""
    weights = {cell: weights for cell, (weights, _) in performed[0].items()} | {BASE: experiment.base}

    def asked(folder, section=GENERATE, execute=here, **changes):
        return answer_grid(
            replace(experiment, **changes), grid(), weights, experiment.root / folder, section=section,
            execute=execute, progress=lambda *_: None,
        )  # fmt: skip

    return asked


@pytest.fixture(scope="module")
def opened(ask):
    return ask("opened", depths=(2, 5), opening=OPENING)


@pytest.fixture(scope="module")
def drawn(ask):
    return ask("drawn", DRAWN, depths=(2,), opening=OPENING)


def test_every_harmful_probe_is_asked_again_at_each_depth_and_nothing_else_is(opened, performed):  # noqa: F811
    plain = performed[1]
    assert opened.filter(pl.col("kind") != "prefilled").equals(plain)
    harmful = plain.filter(kind="harmful").select(CELL)
    for depth in (2, 5):
        part = opened.filter(prefill=depth)
        assert set(part["kind"]) == {"prefilled"}
        assert part.select(CELL).sort(CELL).equals(harmful.sort(CELL))
    assert set(opened["prefill"]) == {0, 2, 5}


def test_an_opened_answer_is_the_text_of_so_many_tokens_and_what_the_model_wrote(opened, experiment):  # noqa: F811
    tokenizer = load_tokenizer(experiment.tokenizer, chat_template=experiment.chat_template)
    for depth in (2, 5):
        part = opened.filter(prefill=depth)
        text = tokenizer.decode(opening_tokens(tokenizer, OPENING, depth)).strip()
        assert set(part["opening"]) == {text}
        assert part["answer"].n_unique() > 3
    assert opened.filter(prefill=0)["opening"].null_count() == opened.filter(prefill=0).height
    # The model answers to what stands before: after more tokens of the opening it goes on in another way.
    both = opened.filter(prefill=2).join(opened.filter(prefill=5), on=CELL, nulls_equal=True)
    assert (both["answer"] != both["answer_right"]).any()


def test_probes_get_several_answers_and_test_rows_the_greedy_one(drawn, performed):  # noqa: F811
    plain = performed[1]
    assert drawn.filter(kind="utility").equals(plain.filter(kind="utility"))
    for kind, tokens in (("harmful", 0), ("benign", 0), ("prefilled", 2)):
        part = drawn.filter(kind=kind, prefill=tokens)
        probes = plain.filter(kind="harmful" if tokens else kind).height
        assert part.group_by("sample").len().sort("sample").rows() == [(n, probes) for n in range(3)]
        answers = part.group_by(CELL).agg(pl.col("answer").n_unique().alias("texts"))
        assert answers["texts"].max() == 3  # drawn, and not one answer three times


def test_what_is_drawn_depends_on_nothing_asked_beside_it(ask, drawn):
    usual = drawn.filter(prefill=0)
    assert ask("one-by-one", DRAWN.model_copy(update={"batch": 1})).equals(usual)
    fewer = ask("fewer", DRAWN.model_copy(update={"samples": 2}))
    assert fewer.equals(usual.filter(pl.col("sample") < 2))


def test_a_resumed_or_reordered_grid_draws_the_same(ask, drawn, experiment):  # noqa: F811
    before = pieces(experiment.root)
    gone = sorted((experiment.root / "drawn" / "after").iterdir())[0]
    shutil.rmtree(gone)

    def backwards(work, jobs):
        return here(work, jobs[::-1])

    again = ask("drawn", DRAWN, backwards, depths=(2,), opening=OPENING)
    assert again.equals(drawn)
    after = pieces(experiment.root)
    assert {name for name in after if after[name] != before[name]} == {
        name for name in before if name.startswith(str(gone.relative_to(experiment.root)))
    }


def test_each_model_and_each_recipes_seed_draws_its_own(ask, experiment):  # noqa: F811
    jobs: list[AnswerJob] = []

    def never(work, given):
        jobs.extend(given)
        return iter(())

    for seed in (1, 2):
        with pytest.raises(RunError, match="No such file"):  # nobody has answered
            ask(f"never-{seed}", DRAWN, never, seed=seed)
    assert len({job.seed for job in jobs}) == len(jobs) == 2 * len(grid().asked)


def test_what_was_not_asked_for_is_in_no_key(ask, experiment, performed):  # noqa: F811
    jobs: dict[str, list[AnswerJob]] = {}

    def keyed(name, section=GENERATE, **changes):
        def note(work, given):
            jobs[name] = list(given)
            return iter(())

        with pytest.raises(RunError, match="No such file"):
            ask(name, section, note, **changes)
        return [job.key for job in jobs[name]]

    usual = keyed("usual")
    base = jobs["usual"][0]
    facts = [(kind, task, texts_of(rows)) for kind, task, rows in base.questions]
    assert base.folder.endswith(NONE) or NONE in base.folder
    assert usual[0] == answers_key("base-key", experiment.chat_template, facts, 6, 4)
    done = json.loads((experiment.root / "6-answer" / base.folder.partition("/")[2] / "done.json").read_text())
    assert done["key"] == usual[0]
    others = [
        keyed("deep", depths=(2,), opening=OPENING),
        keyed("deeper", depths=(2, 3), opening=OPENING),
        keyed("otherwise", depths=(2,), opening="gladly, here is all of it"),
        keyed("one", DRAWN.model_copy(update={"samples": 1})),
        keyed("three", DRAWN),
        keyed("hotter", DRAWN.model_copy(update={"temperature": 1.0})),
        keyed("reseeded", DRAWN, seed=9),
    ]
    assert len({usual[0], *(keys[0] for keys in others)}) == 8
