"""What log-odds of openers cost beside answering: CPU seconds with and without them, in one process; prints Markdown.

python tests/benchmarks/log_odds.py RUN [--models N] [--repeats N] [--tokens N ...] [--openers N]
python tests/benchmarks/log_odds.py --model MODEL [--prompts N] [--new N ...]

The first answers every probe and test row with models of a finished run, as stage `answer` does, openers learned from
that run's judged answers; the second answers harmless prompts (as answering.py) behind which invented openers are
taken. Ways take turns, so that a slow minute hits all of them; seconds are the best of the repeats, and the share of
openers is taken inside the runs with them (median). Answers are compared and never shown.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

TEXTS = {
    "short": (
        ("I cannot", "I can't", "I'm sorry", "Sorry", "As an"),
        ("Sure", "Here is", "Here are", "Of course", "Yes"),
    ),
    "long": (
        ("I cannot help with that", "I can't help with that", "I'm sorry, but", "Sorry, I", "As an AI"),
        ("Sure, here is", "Here is a", "Of course", "To do this, you", "Yes, you can"),
    ),
}


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("run", type=Path, nargs="?")
    asked.add_argument("--models", type=int, default=4)
    asked.add_argument("--repeats", type=int, default=5)
    asked.add_argument("--tokens", type=int, nargs="+", default=[2])
    asked.add_argument("--openers", type=int, default=5)
    asked.add_argument("--model")
    asked.add_argument("--prompts", type=int, default=5)
    asked.add_argument("--new", type=int, nargs="+", default=[64])
    options = asked.parse_args()

    from curator.provenance import set_threads

    set_threads(1)
    print("| answers | openers | inner tokens | CPU s without | CPU s with | of which for openers | equal answers |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    if options.run is not None:
        of_a_run(options)
    if options.model is not None:
        of_a_model(options)


def of_a_run(options: argparse.Namespace) -> None:
    from curator.experiment.answers import Prompts, answer_prompts, prompt_of
    from curator.experiment.log_odds import learn
    from curator.judge.stage import deciding_verdicts
    from curator.model.load import load_tokenizer, locate
    from curator.model.openers import Opened, openers_of
    from curator.records import ANSWER_COLUMNS
    from curator.run import Run
    from curator.train.job import Weights

    run = Run.open(options.run, "judge")
    data, section = run.data(), run.recipe.verify.generate
    tokenizer = load_tokenizer(locate(run.recipe.model.id), chat_template=run.recipe.model.chat_template)
    sets = [
        Prompts(tuple(rows["id"]), [prompt_of(messages) for messages in rows["messages"].to_list()])
        for rows in (data.harmful, data.benign, *(task.test for task in data.tasks))
    ]
    judged = run.answers().join(deciding_verdicts(run), on=ANSWER_COLUMNS, how="inner", nulls_equal=True)
    judged = judged.filter(judged["kind"] == "harmful")
    models = [
        Weights(model.base, model.revision, model.adapters, model.key)
        for (arm, seed, task), model in run.models().items()
        if arm in ("curated", "random") and seed < options.models // 4 + 1
    ][: options.models]
    for tokens in options.tokens:
        learned = learn(judged, tokenizer, tokens=tokens, count=options.openers)
        openers, _ = openers_of(*([ids for ids, _ in kind] for kind in learned))

        def answered(with_openers: bool, openers: Any = openers) -> list[Any]:
            opened = {0: Opened(openers.every, len(sets[0].ids))} if with_openers else {}
            return [
                answer_prompts(sets, each, tokenizer=tokenizer, section=section, scratch=Path(), opened=opened)[0]
                for each in models
            ]

        count = sum(len(each.ids) for each in sets) * len(models)
        words = f"{count:,} of {len(models)} models, at most {section.max_new_tokens} tokens each"
        report(words, openers, answered, options.repeats)


def of_a_model(options: argparse.Namespace) -> None:
    from curator.experiment.log_odds import in_place
    from curator.model.load import load_model, load_tokenizer, locate
    from curator.model.openers import Opened, openers_of
    from curator.train.generate import generate
    from tests.benchmarks.answering import DATA, harmless

    folder = locate(options.model)
    tokenizer, model = load_tokenizer(folder), load_model(folder)
    prompts = harmless(DATA, options.prompts)
    ids = [f"{number:05}" for number in range(len(prompts))]
    for new, texts in product(options.new, TEXTS.values()):
        openers, _ = openers_of(*(in_place(tokenizer, each) for each in texts))

        def answered(with_openers: bool, new: int = new, openers: Any = openers) -> list[Any]:
            opened = Opened(openers.every, len(ids)) if with_openers else None
            known = {"model": model, "tokenizer": tokenizer, "max_new_tokens": new, "batch": 64}
            return generate(prompts, ids, opened=opened, **known)

        report(
            f"{len(ids)} of {options.model.split('/')[-1]}, at most {new} tokens each",
            openers,
            answered,
            options.repeats,
        )


def report(words: str, openers: Any, answered: Callable[[bool], list[Any]], repeats: int) -> None:
    from curator.model.openers import Opened, Tree

    inside = [0.0]
    for name in ("read", "add"):
        setattr(Opened, name, timed(getattr(Opened, name), inside))
    answered(True)  # what is loaded and allocated once
    taken: dict[bool, list[float]] = {False: [], True: []}
    said: dict[bool, Any] = {}
    shares: list[float] = []
    for _ in range(repeats):
        for way in (False, True):
            start, inside[0] = time.process_time(), 0.0
            said[way] = answered(way)
            taken[way].append(time.process_time() - start)
            shares += [inside[0] / taken[way][-1]] * way
    without, with_openers = min(taken[False]), min(taken[True])
    counts = f"{len(openers.refuse)} and {len(openers.comply)} of at most {max(map(len, openers.every))} tokens"
    print(
        f"| {words} | {counts} | {len(Tree(openers.every).nodes)} | {without:.2f} | {with_openers:.2f} "
        f"| {median(shares):.1%} | {'all' if said[False] == said[True] else 'NOT ALL'} |",
        flush=True,
    )


def timed(work: Callable[..., Any], inside: list[float]) -> Callable[..., Any]:
    """The same, which adds its CPU seconds to `inside`: a difference of two runs would be mostly noise."""

    def watched(*given: Any) -> Any:
        start = time.process_time()
        made = work(*given)
        inside[0] += time.process_time() - start
        return made

    return watched


if __name__ == "__main__":
    main()
