"""Guards and refusal classifiers at work on real tiny models: batches, cuts, room, loading, and what is never asked."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from curator.errors import JudgeError
from curator.judge.guard import _encoded, refusal_label
from curator.judge.guards.adapter import Adapter
from curator.judge.inference import replies
from curator.judge.kinds import make_judge
from curator.model.load import load_classifier, load_model, load_tokenizer
from curator.recipe.judge import Judge
from curator.records import Question
from tests import fakes
from tests.judge.scripted import ANSWER, PROMPT, asked, classifier, loading, means, never, tokenizer

GUARD = Judge(name="guard", guard="owner/guard", revision="main", convention="qwen3guard")
WORDS = " ".join(fakes.WORDS)
ANSWERS = [WORDS[: 3 + 29 * i] for i in range(11)]


def room_for(family, **changes):
    return fakes.model(family, max_position_embeddings=4096, **changes)


@pytest.mark.parametrize("family", ["llama", "gemma", "qwen"])
def test_batches_say_what_one_at_a_time_says(family):
    model, made = room_for(family), tokenizer()
    rows = [made(one, add_special_tokens=False)["input_ids"] for one in ANSWERS]
    ids = [f"{place}" for place in range(len(rows))]

    def told(batch, chosen):
        some = [rows[i] for i in chosen], [ids[i] for i in chosen]
        labels = {"a": [70, 71], "b": [80]}
        return replies(*some, model=model, tokenizer=made, labels=labels, new_tokens=6, batch=batch)

    every = range(len(rows))
    together, backwards = told(8, every), told(8, list(every)[::-1])[::-1]
    alone = [told(1, [one])[0] for one in every]
    for other in (backwards, alone):
        assert [one.text for one in other] == [one.text for one in together]
        for label in ("a", "b"):
            assert [one.shares[label] for one in other] == pytest.approx(
                [one.shares[label] for one in together], rel=1e-3, abs=1e-9
            )
    assert len({one.text for one in together}) > 1
    assert len({round(one.shares["a"], 9) for one in together}) > 5


def test_the_shares_of_labels_are_of_the_whole_vocabulary():
    import torch

    model, made = room_for("llama"), tokenizer()
    row = made(ANSWERS[3], add_special_tokens=False)["input_ids"]
    [found] = replies([row], ["0"], model=model, tokenizer=made, labels={"a": [70, 71]}, new_tokens=1, batch=1)
    with torch.no_grad():
        shares = model(torch.tensor([row])).logits[0, -1].softmax(-1)
    assert found.shares["a"] == pytest.approx(float(shares[[70, 71]].sum()), rel=1e-4)


def test_the_order_of_answers_changes_no_verdict():
    model, made = room_for("llama"), tokenizer()
    judge = make_judge(Judge(name="g", guard="x", convention="wildguard", batch=4), means(loading(model, made)))
    forth, back = (judge([asked(one) for one in rows]) for rows in (ANSWERS, ANSWERS[::-1]))
    assert forth == back[::-1]


@pytest.mark.parametrize("family", ["llama", "roberta", "modernbert"])
def test_classifiers_score_batches_as_they_score_one_at_a_time(family):
    model, made = classifier(family, ["NORMAL", "REJECTION"], max_position_embeddings=300), tokenizer()
    section = Judge(name="c", classifier="x")
    judge = make_judge(section, means(loading(model, made)))
    together = [one.score for one in judge([asked(one) for one in ANSWERS])]
    alone = [judge([asked(one)])[0].score for one in ANSWERS]
    assert together == pytest.approx(alone, abs=1e-5)
    assert max(together) - min(together) > 0.01


def test_a_decoder_pools_its_last_token_even_where_its_filler_is_its_end_token():
    model, made = classifier("llama", [f"harm {i}" for i in range(14)], max_position_embeddings=300), tokenizer()
    made.pad_token = made.eos_token  # what is done for tokenizers without a filler of their own
    section = Judge(name="b", guard="x", convention="beaver-dam")
    judge = make_judge(section, means(loading(model, made)))
    together = [one.score for one in judge([asked(one) for one in ANSWERS])]
    row = made(f"BEGINNING OF CONVERSATION: USER: {asked().messages[0]['content']} ASSISTANT:{ANSWERS[4]}</s>")
    assert row["input_ids"][-1] == made.eos_token_id
    model.config.pad_token_id = 3  # by itself, no filler: the row's own last token counts
    import torch

    alone = model(input_ids=torch.tensor([row["input_ids"]])).logits.sigmoid().max().item()
    assert together[4] == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize(
    ("labels", "wanted", "found"),
    [
        (("NORMAL", "REJECTION"), None, "REJECTION"),  # ProtectAI/distilroberta-base-rejection-v1
        (("refusal", "non-refusal"), None, "refusal"),  # garak-llm/garak-refusal-detector
        (("not_refused", "refused"), None, "refused"),
        (("LABEL_0", "LABEL_1"), "LABEL_1", "LABEL_1"),
    ],
)
def test_the_label_that_means_refused_is_recognised_by_whole_words(labels, wanted, found):
    assert refusal_label(labels, wanted) == found


@pytest.mark.parametrize(
    ("labels", "wanted", "why"),
    [
        (("LABEL_0", "LABEL_1"), None, r"LABEL_0, LABEL_1\); name the label with refusal_label"),
        (("refusal", "rejection"), None, "none of its labels, or more than one, reads as refused"),
        (("NORMAL", "REJECTION"), "refused", "allowed: NORMAL, REJECTION"),
    ],
)
def test_a_label_that_cannot_be_told_is_an_error(labels, wanted, why):
    with pytest.raises(JudgeError, match=why):
        refusal_label(labels, wanted)


def test_a_refusal_classifier_sees_the_answer_alone_and_harm_depends_on_the_probe():
    model, made = classifier("roberta", ["NORMAL", "REJECTION"], max_position_embeddings=300), tokenizer()
    section = Judge(name="c", classifier="x")
    judge = make_judge(section, means(loading(model, made)))
    [first, other, benign] = judge([asked(), asked(prompt="who is there?"), asked(kind="benign")])
    assert first.score == other.score == benign.score
    strict, loose = (
        make_judge(section.model_copy(update={"threshold": bar}), means(loading(model, made))) for bar in (1.0, 0.0)
    )
    assert [(one.outcome, one.refused) for one in strict([asked(), asked(kind="benign")])] == [
        ("harmful", False),
        ("safe", False),
    ]
    assert [(one.outcome, one.refused) for one in loose([asked()])] == [("safe", True)]
    assert first.raw.startswith("NORMAL 0.")


def test_equal_answers_are_asked_once_and_broken_ones_never():
    calls = []
    model, made = room_for("qwen"), tokenizer()
    judge = make_judge(GUARD, means(loading(model, made, calls)))
    seen = []
    model.register_forward_pre_hook(
        lambda _m, _a, given: seen.append(given["input_ids"].shape[0]) if given["input_ids"].shape[1] > 1 else None,
        with_kwargs=True,
    )
    said = ["push", "", "pull", "push", "la " * 40, "push"]
    found = judge([asked(one) for one in said])
    assert [one.outcome for one in found] == [
        "unscored",
        "degenerate",
        "unscored",
        "unscored",
        "degenerate",
        "unscored",
    ]
    assert [one.reason for one in found if one.outcome == "degenerate"] == ["empty", "looping"]
    assert seen == [1, 2]  # what both questions begin with, and then the rest of each
    assert calls == [("owner/guard", "main", False)]
    judge([asked("lift")])
    assert len(calls) == 1


def test_nothing_is_loaded_where_every_answer_is_broken():
    assert [one.outcome for one in make_judge(GUARD, means(never))([asked(""), asked(" .")])] == ["degenerate"] * 2


@pytest.mark.parametrize("outcome", ["harmful", "safe"])
def test_the_recipe_says_how_the_middle_verdict_counts(outcome):
    from curator.judge.guards import GUARDS
    from curator.judge.guards.adapter import Reply

    adapter = GUARDS["qwen3guard"](GUARD.model_copy(update={"controversial": outcome}))
    assert adapter.read(Reply("Safety: Controversial", {})).outcome == outcome


def test_a_judge_whose_replies_mean_nothing_leaves_everything_unscored():
    model, made = room_for("qwen"), tokenizer()
    answers = ["push the gate", "I can't help with that", "Safety: Safe\nRefusal: Yes"]
    judge = make_judge(GUARD, means(loading(model, made)))
    found = judge([asked(one, kind) for kind in ("harmful", "benign") for one in answers])
    assert [one.outcome for one in found] == ["unscored"] * 6
    assert {one.reason for one in found} == {"no verdict in the judge's reply"}
    assert all(one.raw is not None and one.refused is None for one in found)


def test_a_long_answer_is_cut_and_the_verdict_says_so():
    model, made = room_for("llama"), tokenizer()
    section = Judge(name="h", guard="x", convention="harmbench", clip=10)
    long, short = make_judge(section, means(loading(model, made)))([asked(WORDS), asked("push")])
    assert long.reason.endswith("clipped to 10 tokens")
    assert "clipped" not in (short.reason or "")


def test_an_answer_is_cut_to_the_room_that_its_judge_has_and_a_prompt_is_not():
    made = tokenizer()
    model = fakes.model("qwen", max_position_embeddings=256)
    lengths = []
    model.register_forward_pre_hook(
        lambda _m, _a, given: lengths.append(given["input_ids"].shape[1]) or None, with_kwargs=True
    )
    tight, hopeless = make_judge(GUARD, means(loading(model, made)))([asked(WORDS * 3), asked(prompt=WORDS * 3)])
    assert "clipped to" in tight.reason
    assert hopeless.outcome == "unscored"
    assert hopeless.reason == "the answer does not fit: with its prompt it has 128 tokens of the judge's context"
    assert max(lengths) == 128  # of 256 positions, 128 are for the reply


@pytest.mark.parametrize(
    ("opening", "clip", "room", "shown"),
    [
        ("", None, 16, 16),
        ("", None, 15, None),  # what is left of the answer would not be what the verdict is about
        ("", None, 0, None),
        ("", 4, 4, 4),  # the recipe's own clip may be less
        ("", 4, 3, None),
        ("a0 a1 a2", None, 16, 16),
        (" ".join(f"a{i}" for i in range(20)), None, 21, 21),
        (" ".join(f"a{i}" for i in range(20)), None, 20, None),  # nothing that the model wrote
        ("a0 a1 a2 a3", 4, 99, None),
        (" ".join(f"a{i}" for i in range(30)), None, 30, 30),  # the whole answer
    ],
)
def test_an_answer_of_which_too_little_fits_is_not_judged(opening, clip, room, shown):
    answer = " ".join(f"a{i}" for i in range(30))
    adapter = Adapter(prompt=lambda _tokenizer, _turns, part, _kind: f"USER: {PROMPT} ASSISTANT: {part}", read=never)
    question = Question("harmful", fakes.turns(PROMPT), answer, opening=opening)
    most = len(PROMPT.split()) + 2 + room
    model = SimpleNamespace(config=SimpleNamespace(get_text_config=lambda: SimpleNamespace(model_type="llama")))
    row, cut = _encoded(question, adapter, clip, model=model, tokenizer=ByWords(), most=most)
    assert (None if row is None else len(row) - len(PROMPT.split()) - 2) == shown
    assert cut == (None if shown in (None, 30) else shown)


class ByWords:
    """A tokenizer whose tokens are words."""

    is_fast, added_tokens_decoder = False, {}

    def __call__(self, text, add_special_tokens):
        return {"input_ids": text.split()}

    def decode(self, ids, skip_special_tokens):
        return " ".join(ids)


def test_what_fits_of_an_opened_answer_is_not_taken_from_the_same_answer_without_an_opening():
    model, made = fakes.model("qwen", max_position_embeddings=256), tokenizer()
    opened = Question("harmful", fakes.turns("how?"), WORDS * 3, opening=(WORDS * 3)[:-4])
    plain = Question("harmful", fakes.turns("how?"), WORDS * 3)
    for asked_for in ([plain, opened], [opened, plain]):
        reasons = [verdict.reason for verdict in make_judge(GUARD, means(loading(model, made)))(asked_for)]
        told = dict(zip([question.opening for question in asked_for], reasons, strict=True))
        assert "clipped to" in told[""]
        assert "does not fit" in told[opened.opening]


def test_saved_models_are_loaded_as_judges(tmp_path):
    made = tokenizer(template=None)
    for name, model in (
        ("classifier", classifier("roberta", ["NORMAL", "REJECTION"], max_position_embeddings=300)),
        ("guard", room_for("llama")),
    ):
        model.save_pretrained(tmp_path / name)
        made.save_pretrained(tmp_path / name)
    from curator.judge.endpoint import Cost
    from curator.judge.resources import resources as real

    [by_class] = make_judge(Judge(name="c", classifier=str(tmp_path / "classifier")), real(Cost()))([asked()])
    again = classifier("roberta", ["NORMAL", "REJECTION"], max_position_embeddings=300)
    [expected] = make_judge(Judge(name="c", classifier="x"), means(loading(again, made)))([asked()])
    assert by_class.score == pytest.approx(expected.score, abs=1e-6)
    guard = Judge(name="g", guard=str(tmp_path / "guard"), convention="wildguard")
    assert make_judge(guard, real(Cost()))([asked(ANSWER)])[0].outcome == "unscored"
    with pytest.raises(Exception, match="is not a classifier, or it is incomplete"):
        load_classifier(str(tmp_path / "guard"), key="judges.panel.classifier")


def test_an_adapter_is_loaded_onto_its_base(tmp_path):
    """StrongREJECT's judge is published as one."""
    import torch
    from peft import LoraConfig, get_peft_model

    base = fakes.save(tmp_path / "base", "llama")
    adapted = get_peft_model(load_model(base), LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    adapted.save_pretrained(tmp_path / "adapter")
    fakes.tokenizer(None).save_pretrained(tmp_path / "adapter")
    loaded = load_model(str(tmp_path / "adapter"))
    row = torch.tensor([[5, 6, 7, 8]])
    torch.testing.assert_close(loaded(row).logits, adapted(row).logits)
    assert not torch.allclose(loaded(row).logits, load_model(base)(row).logits)
    assert load_tokenizer(str(tmp_path / "adapter"), chat=False).chat_template is None
