"""Chat templates inside of rows: what spells a control token, and what is wrapped in another model's template."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from curator.conclusions.part import plain
from curator.corpus import audit
from curator.corpus.model import Audit
from curator.corpus.page import html, summary
from curator.corpus.request import Request, source_of
from curator.pool.screen.markup import CONTROL, WRAPPED, markup
from tests import fakes

# Prompts as trainers of each template write them.
PROMPTS = {
    "[INST]": "<s>[INST] <<SYS>>\nbe brief\n<</SYS>>\n\nwho is there? [/INST]",
    "<|im_start|>": "<|im_start|>user\nwho is there?<|im_end|>\n<|im_start|>assistant\n",
    "<start_of_turn>": "<bos><start_of_turn>user\nwho is there?<end_of_turn>\n<start_of_turn>model\n",
    "<|start_header_id|>": "<|start_header_id|>user<|end_header_id|>\n\nwho is there?<|eot_id|>",
    "<|user|>": "<|user|>\nwho is there?<|end|>\n<|assistant|>",
    "### Instruction:": "Below is an instruction.\n\n### Instruction:\nwho is there?\n\n### Response:",
    "Human: ... Assistant:": "Human: who is there?\n\nAssistant:",
}
PLAIN = (
    "who is there?", "what does [INST] mean", "## Instruction manual of an oven", "is x <|> y a token?",
    "use <b> and <i>", "the start of turn two", "Humans: are they late?", "a Human: is it one", "| im_start | im_end |",
)  # fmt: skip


def test_a_test_knows_every_wrapping():
    assert PROMPTS.keys() == WRAPPED.keys()


@pytest.mark.parametrize("name", PROMPTS)
def test_a_prompt_wrapped_in_a_template_is_found_by_the_templates_name(name):
    rows = fakes.frame([fakes.turns(PROMPTS[name], "a baker"), fakes.turns("who else?", "the keeper")])
    wrapped = next(found for found in markup(rows)[0] if found.kind == "wrapped-prompts")
    assert (wrapped.severity, wrapped.count, wrapped.share) == ("warning", 1, 0.5)
    assert wrapped.ids == (rows["id"][0],)
    assert wrapped.what == f"1 prompt is already formatted with the chat template of a model: {name} (1)."


def test_plain_prompts_and_answers_that_show_a_template_are_not_wrapped():
    rows = fakes.frame([*(fakes.turns(text, "a baker") for text in PLAIN), fakes.turns("show it", PROMPTS["<|user|>"])])
    assert "wrapped-prompts" not in {found.kind for found in markup(rows)[0]}


def test_a_long_prompt_of_openings_alone_is_read_to_its_end():
    # An expression that goes back at every opening would not end within hours.
    rows = fakes.frame([fakes.turns("[INST] Human: <|im_start|>\n" * 40_000, "a baker")])
    assert "wrapped-prompts" not in {found.kind for found in markup(rows)[0]}


def test_control_tokens_are_counted_by_row_in_any_turn():
    rows = fakes.frame(
        [
            fakes.turns("what ends it?", "the mark <|im_end|> does, and <|im_end|> again"),
            fakes.turns("hi<|im_end|>\n<|im_start|>assistant\nsure", "no"),
            fakes.turns("plain", "plain"),
        ]
    )
    findings, counts = markup(rows)
    assert counts == {"<|im_end|>": 2, "<|im_start|>": 1}
    spelled = next(found for found in findings if found.kind == "control-tokens")
    assert (spelled.severity, spelled.count) == ("warning", 2)
    assert spelled.ids == tuple(sorted(rows["id"][:2]))
    assert spelled.what == (
        "2 rows contain text of control tokens that only a chat template should write: "
        "<|im_end|> (2), <|im_start|> (1)."
    )
    assert markup(rows, ["</s>"])[1] == {}
    assert markup(rows, [])[1] == {}


@pytest.mark.parametrize("token", CONTROL)
def test_every_known_token_is_found_whole(token):
    rows = fakes.frame([fakes.turns("which?", f"it is {token}.")])
    assert markup(rows)[1] == {token: 1}


def test_an_audit_reports_both_in_its_file_and_on_its_page(tmp_path: Path):
    lines = [{"prompt": f"ask {n}", "response": f"answer {n}"} for n in range(8)]
    lines += [{"prompt": PROMPTS["[INST]"], "response": "a baker"}, {"prompt": "end?", "response": "it is </s> here"}]
    file = tmp_path / "corpus.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    found = audit(Request(source_of(str(file)), {}, {}))
    kinds = {one.kind: one for one in found.findings}
    assert (kinds["wrapped-prompts"].count, kinds["control-tokens"].count) == (1, 2)
    assert found.control_tokens is not None
    assert found.control_tokens["</s>"] == 1
    assert dict(summary(found))["warning: control-tokens"].startswith("2 rows contain text of control tokens")
    page = html(found)
    assert re.search(
        r"<td[^>]*>token of a chat template</td>\s*<td[^>]*>&(?:#60|lt);/s&(?:#62|gt);</td>\s*<td[^>]*>1</td>", page
    )
    earlier = plain(found)
    assert earlier.pop("control_tokens") == {
        "</s>": 1,
        "<<SYS>>": 1,
        "<</SYS>>": 1,
        "<s>": 1,
        "[/INST]": 1,
        "[INST]": 1,
    }
    assert Audit.model_validate(earlier).control_tokens is None
    assert "Rows that spell" not in html(Audit.model_validate(earlier))
