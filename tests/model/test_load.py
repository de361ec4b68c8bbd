from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from curator.errors import CuratorError, ModelError, RecipeError
from curator.model.chat import TEMPLATES, check_template, encode, encode_prompt, render_prompt, token_counter
from curator.model.load import load_config, load_model, load_tokenizer, locate, memory, resolve_revision, window
from tests import fakes

END = 2
TURNS = fakes.turns("who is there?", "a baker", "and who else?", "the keeper")
SYSTEM = {"role": "system", "content": "be brief"}
# What each template writes around the last answer, whose end token stands for itself.
AROUND = {"llama-2": " {} ", "chatml": "{}", "plain": "{}"}
PROMPTS = {
    "llama-2": (
        "<s>[INST] <<SYS>>\nbe brief\n<</SYS>>\n\nwho is there? [/INST] a baker </s><s>[INST] and who else? [/INST]"
    ),
    "chatml": (
        "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\nwho is there?<|im_end|>\n<|im_start|>assistant\n"
        "a baker</s>\n<|im_start|>user\nand who else?<|im_end|>\n<|im_start|>assistant\n"
    ),
    "plain": (
        "<s>be brief\n\n### Instruction:\nwho is there?\n\n### Response:\na baker</s>"
        "### Instruction:\nand who else?\n\n### Response:\n"
    ),
}
BARE = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
words = st.text(st.characters(exclude_characters="<", exclude_categories=["Cs"]), max_size=12)


@pytest.fixture
def checkpoint(llama_folder, tmp_path):
    """A copy of the tiny Llama's folder that a test may break."""
    return Path(shutil.copytree(llama_folder, tmp_path / "broken"))


def saved(folder, template="plain", **special):
    fakes.tokenizer(template, **special).save_pretrained(folder)
    return str(folder)


def write_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    for name in ("layer_types", *(name for name, value in changes.items() if value is None)):
        config.pop(name, None)
    (folder / "config.json").write_text(json.dumps(config | changes))


# Templates


def test_a_test_knows_every_named_template():
    assert set(TEMPLATES) == set(AROUND) == set(PROMPTS)


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_named_template_writes_the_prompt_as_its_source_does(name):
    tokenizer = fakes.tokenizer(name)
    assert render_prompt(tokenizer, [SYSTEM, *TURNS[:3]]) == PROMPTS[name]
    row = encode(tokenizer, [SYSTEM, *TURNS])
    assert tokenizer.decode(row.ids) == PROMPTS[name] + AROUND[name].format("the keeper") + "</s>"
    assert tokenizer.decode(row.ids[: row.start]) == PROMPTS[name]


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(sorted(TEMPLATES)), st.lists(words, min_size=2, max_size=6).filter(lambda said: len(said) % 2 == 0)
)
def test_an_answer_starts_where_its_prompt_ends_and_ends_with_one_end_token(name, said):
    tokenizer = fakes.tokenizer(name)
    messages = fakes.turns(*said)
    row = encode(tokenizer, messages)
    answer = row.ids[row.start :]
    assert row.ids[: row.start] == encode_prompt(tokenizer, messages[:-1])
    assert answer[-1] == END
    assert answer.count(END) == 1
    assert tokenizer.decode(answer[:-1]) == AROUND[name].format(said[-1])


def test_a_tokenizer_that_would_merge_across_the_border_does_not():
    tokenizer = fakes.tokenizer(BARE)
    split = lambda text: tuple(tokenizer(text)["input_ids"])  # noqa: E731
    assert split("the lighthouse keeper") != split("the light") + split("house keeper")
    row = encode(tokenizer, fakes.turns("the light", "house keeper"))
    assert row.ids == (*split("the light"), *split("house keeper"), END)
    assert row.ids[: row.start] == encode_prompt(tokenizer, fakes.turns("the light"))


@pytest.mark.parametrize("behind", ["</s>", "</s>\n", "</s> the end, as ever</s>", ""])
def test_what_stands_behind_the_end_token_is_cut_and_a_missing_one_is_added(behind):
    template = (
        "{% for m in messages %}{{ m['content'] }}{% if m['role'] == 'assistant' %}"
        + behind
        + "{% endif %}{% endfor %}"
    )
    tokenizer = fakes.tokenizer(template)
    row = encode(tokenizer, fakes.turns("who?", "a baker"))
    assert tokenizer.decode(row.ids[row.start :]) == "a baker</s>"


def test_a_template_whose_prompt_is_no_prefix_is_refused():
    template = (
        "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }} {% endfor %}"
        "{% if add_generation_prompt %}[bot]{% endif %}"
    )
    with pytest.raises(RecipeError) as error:
        check_template(fakes.tokenizer(template))
    assert str(error.value) == (
        "model.chat_template: the templated prompt is not a prefix of the templated conversation, so the start of the "
        "answer is unknown; the prompt ends with '[user] A question? [bot]', the conversation continues with "
        "'assistant] An answer. '; use a template that writes both alike"
    )


@pytest.mark.parametrize(
    ("template", "messages", "said"),
    [
        (
            "{{ raise_exception('no system turns here') }}",
            [SYSTEM, *TURNS],
            r"roles user \(no system turns here\)",
        ),
        ("{{ messages[7]['content'] }}", TURNS, "refuses a conversation of roles user "),
        ("{% if %}", TURNS, "refuses a conversation"),
        ("{{ messages + 1 }}", TURNS, "refuses a conversation"),
        ("plain", TURNS[1:2], r"refuses a conversation of roles none \(.*empty conversation"),
    ],
)
def test_a_template_that_refuses_a_conversation_is_told_with_its_roles(template, messages, said):
    with pytest.raises(RecipeError, match=said):
        encode(fakes.tokenizer(template), messages)


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_named_template_passes_its_check_with_and_without_a_begin_token(name):
    check_template(fakes.tokenizer(name))
    check_template(fakes.tokenizer(name, bos_token=None))


def test_tokens_are_counted_over_the_whole_templated_conversation():
    tokenizer = fakes.tokenizer()
    rows = fakes.conversations()
    assert token_counter(tokenizer)(rows) == [len(encode(tokenizer, row).ids) for row in rows]


# Tokenizers


def test_a_tokenizer_brings_its_own_template_or_takes_a_name_or_a_file(tmp_path):
    folder = saved(tmp_path / "model", "chatml")
    (tmp_path / "own.jinja").write_text(BARE)
    assert load_tokenizer(folder).chat_template == TEMPLATES["chatml"]
    assert load_tokenizer(folder, chat_template="llama-2").chat_template == TEMPLATES["llama-2"]
    assert load_tokenizer(folder, chat_template=str(tmp_path / "own.jinja")).chat_template == BARE


def test_a_tokenizer_without_a_padding_token_pads_with_the_end_token(tmp_path):
    assert load_tokenizer(saved(tmp_path, pad_token=None)).pad_token_id == END
    assert load_tokenizer(saved(tmp_path)).pad_token_id == 0


def test_a_tokenizer_without_an_end_token_is_refused(tmp_path):
    with pytest.raises(ModelError) as error:
        load_tokenizer(saved(tmp_path, eos_token=None))
    assert str(error.value) == (
        f"model.id: the tokenizer of {str(tmp_path)!r} has no end token (eos_token), so answers could not end; "
        "set eos_token in its tokenizer_config.json"
    )


def test_a_tokenizer_without_a_chat_template_is_refused(tmp_path):
    with pytest.raises(RecipeError) as error:
        load_tokenizer(saved(tmp_path, None))
    assert str(error.value) == (
        f"model.chat_template: the tokenizer of {str(tmp_path)!r} has no chat template of its own; "
        "name one (llama-2, chatml, plain) or give a file of Jinja text"
    )


def test_an_unknown_template_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(RecipeError, match="found 'lama-2'; allowed: llama-2, chatml, plain, or the path of a file"):
        load_tokenizer(saved(tmp_path), chat_template="lama-2")


@pytest.mark.parametrize("family", fakes.FAMILIES)
def test_a_model_folder_without_a_tokenizer_is_refused(tmp_path, family):
    fakes.model(family).config.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"tokenizer.* the folder contains config.json; it needs .* tokenizer.json"):
        load_tokenizer(str(tmp_path), chat_template="llama-2")


@pytest.mark.parametrize("text", ["", "{", '{"a": 1}'])
def test_a_damaged_tokenizer_is_refused(tmp_path, text):
    folder = saved(tmp_path)
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(ModelError, match=r"model.id: cannot load a tokenizer from"):
        load_tokenizer(folder)


# Models


@pytest.mark.parametrize("load", [load_tokenizer, load_config, load_model])
@pytest.mark.parametrize("name", ["/no/such/folder", "nobody/nothing"])
def test_a_folder_or_name_that_is_not_there_is_refused(load, name):
    with pytest.raises(ModelError, match=rf"model.id: cannot load a .* from '{name}' .*give a folder that exists"):
        load(name)


def test_an_empty_folder_is_refused(tmp_path):
    for load in (load_tokenizer, load_config, load_model):
        with pytest.raises(
            ModelError, match=r"the folder contains nothing; it needs config.json, weights and tokenizer.json"
        ):
            load(str(tmp_path))


@pytest.mark.parametrize(
    ("kind", "config", "said"),
    [
        ("T5ForConditionalGeneration", transformers.T5Config(), "is a t5 model; give a causal language model"),
        ("BertForMaskedLM", transformers.BertConfig(), r"contains a BertForMaskedLM; .*\(here: a BertLMHeadModel\)"),
        ("LlamaForSequenceClassification", transformers.LlamaConfig(), "contains a LlamaForSequenceClassification"),
        ("LlamaModel", transformers.LlamaConfig(), r"contains a LlamaModel; .* \(here: a LlamaForCausalLM\)"),
    ],
)
def test_a_model_that_is_not_causal_is_refused(tmp_path, kind, config, said):
    config.architectures = [kind]
    config.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=said):
        load_config(str(tmp_path))


@pytest.mark.parametrize("architectures", [None, ["LlamaForCausalLM"]])
def test_a_causal_model_is_taken(checkpoint, architectures):
    write_config(checkpoint, architectures=architectures)
    assert load_config(str(checkpoint)).model_type == "llama"
    model = load_model(str(checkpoint))
    assert not model.training
    assert next(model.parameters()).dtype == torch.float32
    assert window(model) == 256


@pytest.mark.parametrize("bytes_kept", [0, 100, -100])
def test_damaged_weights_are_refused(checkpoint, bytes_kept):
    file = checkpoint / "model.safetensors"
    file.write_bytes(file.read_bytes()[:bytes_kept])
    with pytest.raises(ModelError, match=r"model.id: cannot load a model from"):
        load_model(str(checkpoint))


def test_missing_weights_are_refused(checkpoint):
    (checkpoint / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"it needs config.json, weights and tokenizer.json"):
        load_model(str(checkpoint))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"num_hidden_layers": 4},
            r"lack 9 tensors of its config.json \(first: 'model.layers.3.input_layernorm.weight'\)",
        ),
        ({"intermediate_size": 64}, "cannot load a model from"),
    ],
)
def test_weights_that_do_not_fill_the_model_are_refused(checkpoint, changes, said):
    write_config(checkpoint, **changes)
    with pytest.raises(ModelError, match=said):
        load_model(str(checkpoint))


def test_a_message_names_the_key_that_the_model_stands_under():
    for load in (load_tokenizer, load_model):
        with pytest.raises(ModelError, match=r"^judges.panel.guard: cannot load a (tokenizer|model)"):
            load("/nowhere/guard", key="judges.panel.guard")


def test_an_adapter_that_is_not_there_is_refused(llama_folder, tmp_path):
    with pytest.raises(ModelError, match=r"adapter_config.json"):
        load_model(llama_folder, adapters=[str(tmp_path)])


def test_the_sandbox_is_a_folder_and_other_names_are_themselves():
    assert (Path(locate("sandbox:")) / "config.json").is_file()
    assert locate("owner/name") == "owner/name"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), True),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"), True),
        (RuntimeError("HIP out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("HIP error: hipErrorOutOfMemory"), True),
        (RuntimeError("shapes do not match"), False),
        (ValueError("other"), False),
    ],
)
def test_running_out_of_memory_names_the_setting_and_nothing_else_is_caught(said, told):
    kind, text = (ModelError, "a.key: out of memory") if told else (type(said), str(said))
    with pytest.raises(kind, match=text), memory("a.key"):
        raise said


@pytest.mark.parametrize(
    ("raised", "remedy"),
    [
        ("The NVIDIA driver on your system is too old (found version 11040).", "update it"),
        ("CUDA driver version is insufficient for CUDA runtime version", "update it"),
        ("CUDA error: no kernel image is available for execution on the device", "no code for this GPU"),
        ("CUDA error: device-side assert triggered", "a token without an embedding"),
        ("CUDA error: all CUDA-capable devices are busy or unavailable", "nvidia-smi lists processes"),
        ("CUDA error: an illegal memory access was encountered", "run the same command again"),
    ],
)
def test_a_fault_of_a_gpu_is_a_sentence_that_says_what_to_do(raised, remedy):
    with pytest.raises(ModelError, match=f"^the GPU: {re.escape(raised.rstrip('.'))}: .*{remedy}"), memory("a.key"):
        raise RuntimeError(raised)


def test_a_revision_is_resolved_to_a_commit(monkeypatch, tmp_path):
    asked = []

    def model_info(_self, name, *, revision, timeout):
        asked.append((name, revision))
        return SimpleNamespace(sha="a" * 40)

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    assert resolve_revision("owner/name", "main") == "a" * 40
    assert resolve_revision("owner/name", "b" * 40) == "b" * 40
    assert resolve_revision(str(tmp_path), None) is None
    assert resolve_revision("sandbox:", None) is None
    assert asked == [("owner/name", "main")]


@pytest.mark.parametrize("name", ["owner/name", "/no/such/folder"])
@pytest.mark.parametrize("network", ["none", "off"])
def test_a_revision_that_cannot_be_asked_for_is_told(monkeypatch, name, network):
    import httpx2

    def lost(*_args, **_settings):
        raise httpx2.ConnectError("Name or service not known")

    if network == "none":
        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lost)
    with pytest.raises(CuratorError, match=rf"model.id: '{name}' not found on the Hub .*give a folder that exists"):
        resolve_revision(name, None)
