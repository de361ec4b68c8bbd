"""A recipe's model is looked at before any work: its problems and what is done about it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import transformers

from curator.errors import ModelError, RecipeError
from curator.experiment.base import looked_here, trains_adapter
from curator.pipeline import build
from curator.recipe import Model
from curator.report.stage import _notes
from tests import fakes
from tests.model.test_control import CHATML, GEMMA
from tests.small_run import recipe

NO_HEADER = CHATML.partition("{% if add_generation_prompt")[0]
LORA = "verify.align.method=lora"
DATED = "{{ strftime_now('%d %b %Y') }}" + CHATML
MAMBA = transformers.MambaConfig(vocab_size=320, hidden_size=32, state_size=8, num_hidden_layers=2)


def folder_of(path: Path, template: str | None = CHATML, config: object = None, **special: str) -> str:
    """A model's folder without weights."""
    config = config or transformers.LlamaConfig(**fakes.WIDE)
    config.architectures = [f"{type(config).__name__.removesuffix('Config')}ForCausalLM"]
    config.save_pretrained(path)
    fakes.tokenizer(template, **special).save_pretrained(path)
    return str(path)


def problems_of(section, *, lora=True):
    return [str(problem) for problem in looked_here(section, lora=lora).problems]


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"template": NO_HEADER}, "model.chat_template: the template writes '<|im_start|>assistant"),
        ({"template": None}, "model.chat_template: the tokenizer of .* has no chat template of its own"),
        ({"pad_token": "[PAD]"}, "model.id: the model has no embedding for token id 320"),
        ({"eos_token": "<|eot|>"}, "model.id: the model has no embedding for token id 320"),
        ({"config": MAMBA}, "model.id: LoRA cannot adapt a mamba model"),
    ],
)
def test_a_problem_is_named_without_weights_and_before_any_stage(tmp_path, settings, problem):
    path = folder_of(tmp_path / "model", **settings)
    (named,) = problems_of(Model(id=path))
    with pytest.raises((ModelError, RecipeError), match=problem) as error:
        build(recipe(f"model.id={path}", LORA), tmp_path / "run", until="pool")
    assert str(error.value) == named
    assert not (tmp_path / "run" / "1-pool").exists()


def test_all_problems_are_named_at_once(tmp_path):
    path = folder_of(tmp_path / "model", template=NO_HEADER, config=MAMBA)
    assert len(problems_of(Model(id=path))) == 2
    with pytest.raises(RecipeError) as error:
        build(recipe(f"model.id={path}", LORA), tmp_path / "run", until="base")
    assert error.value.problems == tuple(map(str, looked_here(Model(id=path)).problems))


def test_where_no_adapter_is_trained_a_model_need_not_take_one(tmp_path):
    path = folder_of(tmp_path / "model", config=MAMBA)
    assert problems_of(Model(id=path), lora=False) == []
    full = recipe("verify.align.method=full", "verify.finetune.method=full")
    assert not trains_adapter(full)
    assert trains_adapter(recipe(LORA))


def test_a_model_that_is_well_or_that_is_not_here_has_no_problems_and_a_folder_that_is_not_has_one(tmp_path):
    assert problems_of(Model(id="sandbox:")) == []
    assert problems_of(Model(id=folder_of(tmp_path / "model"))) == []
    assert problems_of(Model(id="owner/not-in-the-cache")) == []
    (problem,) = problems_of(Model(id=str(tmp_path / "nothing")))
    assert problem.startswith(f"model.id: no folder '{tmp_path / 'nothing'}'")


def test_a_named_template_mends_a_folder_that_has_a_bad_one(tmp_path):
    path = folder_of(tmp_path / "model", template=NO_HEADER)
    assert problems_of(Model(id=path, chat_template="plain")) == []


def test_what_is_done_about_a_model_is_noted_recorded_and_warned_of(tmp_path):
    experts = transformers.GptOssConfig(**fakes.WIDE, num_local_experts=2, num_experts_per_tok=1)
    path = folder_of(tmp_path / "model", template=DATED, config=experts)
    date, adapters = looked_here(Model(id=path)).notes
    assert "2024-07-26" in date
    assert adapters.startswith("Adapters (LoRA) leave mlp.router.weight, mlp.experts.gate_up_proj, ")
    build(recipe(f"model.id={path}", LORA), tmp_path / "run", until="base")
    record = json.loads((tmp_path / "run" / "0-base" / "done.json").read_text())["record"]
    assert record["date"] == "2024-07-26"
    assert record["notes"] == [date, adapters]
    assert "mlp.experts.down_proj" in record["left_out"]
    assert "the chat template prints today's date" in record["summary"]
    assert _notes(record) == [f"{date}.", f"{adapters}."]


def test_a_model_of_which_nothing_is_to_be_said_has_the_record_it_had(tmp_path):
    path = folder_of(tmp_path / "model")
    build(recipe(f"model.id={path}"), tmp_path / "run", until="base")
    record = json.loads((tmp_path / "run" / "0-base" / "done.json").read_text())["record"]
    assert set(record) == {"tokenizer", "revision", "weights", "dtype", "summary"}
    assert looked_here(Model(id=folder_of(tmp_path / "gemma", GEMMA, eos_token="<|im_end|>"))).notes == [
        "The chat template has no system role, so the text of a system turn is put before the user's first message"
    ]


def test_an_opening_that_is_too_short_ends_a_build_before_anything_is_read_or_trained(tmp_path: Path) -> None:
    few = ("probes.prefill=[9]", "probes.opening='gladly, take'")
    with pytest.raises(
        RecipeError, match=r"^probes.prefill: found 9, but this model's tokenizer reads probes.opening as 3 tokens"
    ):
        build(recipe(*few), tmp_path / "new")
    assert not (tmp_path / "new" / "1-pool").exists()
    build(recipe(), tmp_path / "kept", until="select")
    with pytest.raises(RecipeError, match=r"^probes.prefill: found 9"):
        build(recipe(*few), tmp_path / "kept")
    assert not list((tmp_path / "kept" / "5-train").rglob("done.json"))


def test_the_base_is_tuned_without_the_probes_and_says_so(tmp_path, monkeypatch):
    import polars as pl

    from curator.pool.sources import read
    from curator.run.folder import finished

    monkeypatch.setattr("curator.experiment.jobs.tune", lambda rows, **_: {})
    small = recipe()
    probe = read(small.probes.harmful[0], prompts_only=True, seed=small.seed).rows["messages"][0].to_list()
    asked = [probe, *([{"role": "user", "content": f"ask {number}"}] for number in range(3))]
    told = [{"messages": [*turns, {"role": "assistant", "content": "so"}]} for turns in asked]
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in told))
    run = tmp_path / "run"
    build(recipe(f"model.instruction={{data: {{file: {tmp_path / 'b.jsonl'}}}, rows: 3}}"), run, until="base")
    assert pl.read_parquet(run / "0-base" / "rows.parquet").height == 3
    summary = finished(run / "0-base")["record"]["summary"]
    assert summary.endswith("tuned on 3 instructions, without 1 row that holds a probe or the prompt of a test row")
