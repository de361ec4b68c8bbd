"""What judging may cost: in CPU seconds, which a busy machine disturbs less than the clock."""

from __future__ import annotations

import time

import pytest

from curator.judge.kinds import make_judge
from curator.recipe.judge import Judge
from tests import fakes
from tests.judge.scripted import asked, loading, means, tokenizer

pytestmark = pytest.mark.bench  # asserts on time, which a suite on a shared machine must not


def test_ten_thousand_answers_go_through_the_phrase_judge_in_three_seconds():
    starts = ("I'm sorry, but I can't help with that.", "Sure! First,", "I'm sorry to hear that. Here is how:", "")
    rows = [asked(f"{starts[i % 4]} {' '.join(fakes.WORDS[: 1 + i % 4])} {i}") for i in range(10_000)]
    judge = make_judge(Judge(name="p", refusal="phrases"), means())
    clock = time.process_time()
    found = judge(rows)
    assert time.process_time() - clock <= 3.0
    assert sum(bool(one.refused) for one in found) == 2500


def test_a_guard_judges_batches_at_three_times_the_rate_of_one_by_one():
    model, made = fakes.model("qwen", max_position_embeddings=2048), tokenizer()
    words = " ".join(fakes.WORDS)
    rows = [asked(f"{words[: 20 + 7 * i]} {i}") for i in range(24)]
    seconds = {}
    for batch in (1, 24):
        section = Judge(name="g", guard="x", convention="wildguard", batch=batch)
        judge = make_judge(section, means(loading(model, made)))
        judge(rows[:1])
        clock = time.process_time()
        judge(rows)
        seconds[batch] = time.process_time() - clock
    assert seconds[1] >= 3 * seconds[24]
