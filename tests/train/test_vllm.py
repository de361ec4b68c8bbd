"""vLLM in a process of its own, stood in for by a module that transformers answers for; see stand_in/vllm.py."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import curator
from curator.errors import ModelError, RunError
from curator.experiment.answers import Answered, Prompts, answer_prompts
from curator.model.load import load_model, load_tokenizer
from curator.model.openers import Opened
from curator.model.prefill import opening_tokens
from curator.pipeline import build
from curator.recipe.training import Generate
from curator.records import Messages
from curator.run.ran import computed_with, noting
from curator.train.generate import generate
from curator.train.job import Weights
from curator.train.vllm_process import UnavailableError, generate_apart, there
from tests import fakes
from tests.engine.ending import trap
from tests.small_run import recipe, report_of

STAND_IN = Path(__file__).parent / "stand_in"
PROMPTS: list[Messages] = [
    *(messages[:-1] for messages in fakes.conversations()),
    fakes.turns("who</s><s> is there?"),  # tokens that only a template may write
]
IDS = [str(number) for number in range(len(PROMPTS))]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(STAND_IN), os.environ.get("PYTHONPATH", "")]))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    model = fakes.model("llama")
    model.generation_config.eos_token_id = [2, *range(80, 120)]  # so many that an untrained model meets one
    model.save_pretrained(tmp_path / "base")
    fakes.tokenizer().save_pretrained(tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def adapter(weights: Path) -> Path:
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    settings = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(load_model(str(weights)), settings).save_pretrained(weights.parent / "adapter")
    return weights.parent / "adapter"


def apart(
    weights: Path, *adapters: Path, python: str | None = None, limit: int = 6, dtype: str = "fp32"
) -> list[tuple[str, str]]:
    scratch = weights.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    found = generate_apart(
        PROMPTS, base=str(weights), revision=None, adapters=[str(one) for one in adapters],
        tokenizer=load_tokenizer(str(weights)), max_new_tokens=limit, python=python, memory=0.5, scratch=scratch,
        dtype=dtype,
    )  # fmt: skip
    assert not list(scratch.iterdir())
    assert found.version == "stand-in"
    return found.answers


def here(weights: Path, *adapters: Path) -> list[tuple[str, str]]:
    model = load_model(str(weights), adapters=[str(one) for one in adapters])
    tokenizer = load_tokenizer(str(weights))
    return generate(PROMPTS, IDS, model=model, tokenizer=tokenizer, max_new_tokens=6, batch=4)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("drops", ["", pytest.param("1", marks=pytest.mark.slow)])
def test_its_answers_are_those_of_this_process_with_adapters_merged(
    weights: Path, adapter: Path, drops: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_DROPS_ENDS", drops)
    plain, adapted = here(weights), here(weights, adapter)
    assert plain != adapted
    assert {stop for _, stop in plain} == {"end", "length"}
    assert apart(weights, python=sys.executable) == plain
    assert apart(weights, adapter) == adapted


def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    """One that is killed cannot end it, and it would keep its share of the GPU."""
    (tmp_path / "vllm.py").write_text("import time, pathlib\npathlib.Path('began').touch()\ntime.sleep(600)\n")
    (tmp_path / "job.json").write_text("{}")
    start = (
        "import pathlib, sys; from curator.train.vllm_process import CHILD, _run; here = pathlib.Path(sys.argv[1]); "
        "_run([sys.executable, str(CHILD), str(here / 'job.json'), str(here / 'out.json')], here)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(curator.__file__).parents[1])])}
    with subprocess.Popen([sys.executable, "-c", start, str(tmp_path)], env=environment) as owner:
        assert waits((tmp_path / "began").exists, 120)
        [child] = psutil.Process(owner.pid).children()
        owner.kill()
    assert waits(lambda: not child.is_running(), 30)


def waits(done: Callable[[], bool], seconds: float) -> bool:
    limit = time.monotonic() + seconds
    while not done():
        if time.monotonic() > limit:
            return False
        time.sleep(0.1)
    return True


@pytest.mark.usefixtures("installed")
def test_it_computes_in_the_dtype_that_it_is_given(weights: Path) -> None:
    import torch

    model, tokenizer = load_model(str(weights)).to(torch.bfloat16), load_tokenizer(str(weights))
    rounded = generate(PROMPTS, IDS, model=model, tokenizer=tokenizer, max_new_tokens=6, batch=1)
    assert apart(weights, dtype="bf16") == rounded != apart(weights)


@pytest.mark.usefixtures("installed")
def test_its_running_out_of_memory_names_the_settings(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_IS_FULL", "1")
    with pytest.raises(ModelError, match=r"^verify.generate.memory: vLLM's .*CUBLAS.*lower engine.workers"):
        apart(weights)


def test_a_file_of_its_name_in_the_folder_one_stands_in_is_not_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trap(tmp_path / "here"))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert there(None) is (importlib.util.find_spec("vllm") is not None)


def test_an_interpreter_without_it_is_told_before_anything_is_merged(weights: Path, adapter: Path) -> None:
    with pytest.raises(UnavailableError, match="vllm is not installed"):
        apart(weights, adapter)
    with pytest.raises(UnavailableError, match="cannot run no-such-python"):
        apart(weights, python="no-such-python")


@pytest.mark.usefixtures("installed")
def test_paths_from_the_folder_that_curator_is_called_in_do(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(weights.parent)
    assert apart(Path("base"), python=os.path.relpath(sys.executable)) == here(weights)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("STAND_IN_FAILS", "No CUDA GPUs are available"),
        ("STAND_IN_ABORTS", r"vLLM gave up on a prompt \(finish_reason abort\)"),
        ("STAND_IN_LOSES", f"it gave {len(PROMPTS) - 1} answers to {len(PROMPTS)} prompts"),
    ],
)
def test_its_failure_is_an_error_in_its_own_last_words_and_no_answer(
    weights: Path, monkeypatch: pytest.MonkeyPatch, fault: str, words: str
) -> None:
    monkeypatch.setenv(fault, "1")
    with pytest.raises(ModelError, match=rf"without answers .*{words}.*run the same command again"):
        apart(weights)


@pytest.mark.usefixtures("installed")
def test_nothing_stands_in_for_one_that_is_there_and_fails(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_FAILS", "1")
    at = Weights(str(weights), None, (), "key")
    prompts, tokenizer = Prompts(IDS, PROMPTS), load_tokenizer(str(weights))
    section = Generate(engine="vllm", max_new_tokens=6)

    def asked() -> tuple[list[Answered], dict[str, Any]]:
        return answer_prompts([prompts], at, tokenizer=tokenizer, section=section, scratch=tmp_path)

    with pytest.raises(ModelError, match="does not fall back to another engine"):
        asked()
    monkeypatch.delenv("STAND_IN_FAILS")
    assert asked() == ([here(weights)], {"engine": "vllm stand-in"})


@pytest.mark.usefixtures("installed")
def test_openings_and_seeds_reach_it_prompt_by_prompt(weights: Path, tmp_path: Path) -> None:
    at, tokenizer = Weights(str(weights), None, (), "key"), load_tokenizer(str(weights))
    opening = opening_tokens(tokenizer, "Sure, here is", 3)
    greedy, opened = Prompts(IDS, PROMPTS), Prompts(IDS, PROMPTS, opening)
    seeds = [*range(len(IDS))]
    drawn = Prompts(IDS, PROMPTS, seeds=seeds)

    def asked(*sets: Prompts) -> list[Answered]:
        section = Generate(engine="vllm", max_new_tokens=6, temperature=0.8)
        return answer_prompts(sets, at, tokenizer=tokenizer, section=section, scratch=tmp_path)[0]

    first, second, third = asked(greedy, opened, drawn)
    model = load_model(str(weights))
    assert first == here(weights)
    assert second == generate(
        PROMPTS, IDS, model=model, tokenizer=tokenizer, max_new_tokens=6, batch=4, opening=opening
    )
    assert third != first
    # What is drawn goes by the seed of the prompt, whatever else is asked for.
    backwards = Prompts(IDS[::-1], PROMPTS[::-1], seeds=seeds[::-1])
    assert asked(backwards)[0][::-1] == third
    assert asked(drawn._replace(seeds=[seed + 1 for seed in seeds]))[0] != third


def test_transformers_tells_how_likely_openers_are_where_vllm_answers(weights: Path, tmp_path: Path) -> None:
    at, sets = Weights(str(weights), None, (), "key"), [Prompts(IDS, PROMPTS), Prompts(IDS[:1], PROMPTS[:1])]

    def asked(engine: Any) -> tuple[Opened, list[Answered]]:
        opened = Opened([(40, 41), (50,)], len(IDS))
        answers, _ = answer_prompts(
            sets, at, tokenizer=load_tokenizer(str(weights)), section=Generate(engine=engine, max_new_tokens=6),
            scratch=tmp_path, opened={0: opened},
        )  # fmt: skip
        return opened, answers

    (by_vllm, one), (by_transformers, other) = asked("vllm"), asked("transformers")
    np.testing.assert_allclose(by_vllm.log_probs, by_transformers.log_probs, atol=1e-5)
    assert np.isfinite(by_vllm.log_probs).all()
    assert one == other


@pytest.mark.usefixtures("installed")
def test_prompts_too_long_for_the_model_are_an_error_and_no_reason_for_another_engine(weights: Path) -> None:
    with pytest.raises(ModelError, match="max_new_tokens"):
        apart(weights, limit=250)


@pytest.mark.slow
def test_a_run_says_who_answered_and_why_not_vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = (
        "verify.seeds=1",
        "verify.arms=[curated, random]",
        "probes.harmful.0.rows=10",
        "probes.benign.0.rows=4",
        "tasks.list.test.rows=4",
    )
    wanted = recipe(*small, "verify.generate.engine=vllm")
    build(wanted, tmp_path / "run")
    report = report_of(tmp_path / "run")
    models = report["design"]["answered_by"]["transformers"]
    assert list(report["design"]["instead_of_vllm"].values()) == [models]
    assert (
        "The recipe names vLLM, but transformers answered" in (tmp_path / "run" / "8-report" / "report.md").read_text()
    )
    plain = recipe(*small)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(STAND_IN), os.environ.get("PYTHONPATH", "")]))
    # Under another setting the answers are asked for anew, of the models that are there.
    made = build(wanted.model_copy(update={"seed": wanted.seed}), tmp_path / "again")
    assert "vllm stand-in" in str(made["answer"].record["summary"])
    again = report_of(tmp_path / "again")
    assert again["design"]["answered_by"] == {"vllm stand-in": models}
    assert "The recipe names vLLM" not in (tmp_path / "again" / "8-report" / "report.md").read_text()
    build(plain, tmp_path / "plain")
    assert report_of(tmp_path / "plain")["arms"] == again["arms"]


@pytest.mark.parametrize("vllm", [True, False])
def test_a_worker_answers_as_the_run_decided_or_not_at_all(weights: Path, tmp_path: Path, vllm: bool) -> None:
    at, tokenizer = Weights(str(weights), None, (), "key"), load_tokenizer(str(weights))
    section = Generate(engine="vllm", max_new_tokens=2, python="no-such-python")
    settings = {"tokenizer": tokenizer, "section": section, "scratch": tmp_path, "vllm": vllm}
    with noting():
        if vllm:
            with pytest.raises(RunError, match=r"verify\.generate\.engine: .*where the run was started, but not on"):
                answer_prompts([Prompts(IDS, PROMPTS)], at, **settings)
        else:
            _, record = answer_prompts([Prompts(IDS, PROMPTS)], at, **settings)
            assert "cannot run no-such-python" in record["instead_of_vllm"]
            assert computed_with()["answered_by"] == "transformers"
