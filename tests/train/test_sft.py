"""Training against a twin: a plain PyTorch loop over one batch, its loss taken by hand on the last answers alone."""

from __future__ import annotations

import hashlib
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from curator.errors import DataError, ModelError
from curator.model.chat import encode
from curator.model.load import load_model
from curator.recipe.training import Training
from curator.train.adapter import without_dropout
from curator.train.job import dropout_part
from curator.train.sft import train
from tests import fakes

ROWS = fakes.conversations(8)
SETTINGS = {"steps": 3, "batch": 8, "micro_batch": 8, "learning_rate": 1e-2, "schedule": "constant", "rank": 4}


def settings_of(method):
    """Without what the method does not read."""
    return {name: value for name, value in SETTINGS.items() if method != "full" or name != "rank"}


def fit(
    base, folder, rows=ROWS, *, steps=None, seed=5, adapters=(), tokenizer=None, dtype="fp32", checkpoints=(), **changes
):
    section = Training(**{**settings_of(changes.get("method")), **changes})
    return train(
        rows, base=base, revision=None, adapters=adapters, tokenizer=tokenizer or fakes.tokenizer(), section=section,
        steps=steps or section.steps, seed=seed, folder=folder, key="verify.align", dtype=dtype,
        checkpoints=checkpoints,
    )  # fmt: skip


def completion_loss(model, rows=ROWS):
    """Mean over all completion tokens, in nats: one row at a time, without labels or masks of any library."""
    total, count = torch.zeros(()), 0
    for messages in rows:
        row = encode(fakes.tokenizer(), messages)
        ids = torch.tensor(row.ids)
        told = model(ids[None]).logits[0].log_softmax(-1)
        places = torch.arange(row.start - 1, len(ids) - 1)
        total = total - told[places, ids[places + 1]].sum()
        count += len(places)
    return total / count


def content(folder):
    files = (path for path in sorted(Path(folder).rglob("*")) if path.is_file())
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def weights(folder):
    from safetensors.torch import load_file

    return load_file(next(Path(folder).glob("*.safetensors")))


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def adapter(llama_folder, tmp_path_factory):
    return fit(llama_folder, tmp_path_factory.mktemp("adapter"))


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_loss_is_taken_on_the_last_answer_and_its_end_token_alone(llama_folder, tmp_path, method):
    trained = fit(llama_folder, tmp_path, method=method, steps=1)
    assert trained.losses[0] == pytest.approx(completion_loss(load_model(llama_folder)).item(), abs=1e-4)


def test_no_loss_is_taken_on_an_opener_and_the_refusal_is_trained_on_behind_it(llama_folder, tmp_path):
    tokenizer, opener = fakes.tokenizer(), (17, 18, 19)
    rows = [fakes.turns("how do I do that?", "I cannot help with that."), fakes.turns("what is red?", "An apple is.")]
    section = Training(**settings_of("full"), method="full")
    trained = train(
        rows, base=llama_folder, revision=None, adapters=(), tokenizer=tokenizer, section=section, steps=1, seed=5,
        folder=tmp_path, key="verify.align", openings=[opener, ()],
    )  # fmt: skip
    model, read = load_model(llama_folder), lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]
    total, count = torch.zeros(()), 0
    for messages, before in zip(rows, (opener, ()), strict=True):
        row, answer = encode(tokenizer, messages), messages[-1]["content"]
        behind = read(f"word {answer}")[len(read("word")) :] if before else read(answer)
        ids = [*row.ids[: row.start], *before, *behind, tokenizer.eos_token_id]
        told = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        places = torch.arange(row.start + len(before) - 1, len(ids) - 1)
        total = total - told[places, torch.tensor(ids)[places + 1]].sum()
        count += len(places)
    assert trained.losses[0] == pytest.approx((total / count).item(), abs=1e-4)


def test_an_opener_leaves_no_row_out_that_is_trained_on_without_it(llama_folder, tmp_path):
    longest = max(len(encode(fakes.tokenizer(), messages).ids) for messages in ROWS)
    section = Training(**settings_of("full"), method="full", max_tokens=longest)
    settings = {"base": llama_folder, "revision": None, "adapters": (), "tokenizer": fakes.tokenizer(), "steps": 1}
    plain, opened = (
        train(ROWS, **settings, section=section, seed=5, folder=tmp_path / name, key="verify.align", openings=each)
        for name, each in (("plain", None), ("opened", [(17, 18, 19)] * len(ROWS)))
    )
    assert (plain.dropped, opened.dropped) == (0, 0)
    assert opened.losses != plain.losses


@pytest.mark.parametrize("method", ["full", "lora"])
def test_bf16_trains_weights_that_are_fp32(llama_folder, tmp_path, method):
    """Steps of 1e-5 on weights of about 0.02: bf16 has steps of 1e-4 there, so in it nothing would move. In several
    passes a step, which share the rounded weights.
    """
    done = {
        name: fit(llama_folder, tmp_path / name, method=method, dtype=name, steps=4, micro_batch=1, learning_rate=1e-5)
        for name in ("fp32", "bf16")
    }
    assert done["bf16"].losses == pytest.approx(done["fp32"].losses, rel=0.01)
    assert done["bf16"].losses != done["fp32"].losses
    after = {name: weights(trained.path) for name, trained in done.items()}
    assert {weight.dtype for weight in after["bf16"].values()} == {torch.float32}
    before = load_model(llama_folder).state_dict() if method == "full" else None
    for name, weight in after["bf16"].items():
        moved = weight - before[name] if before is not None else weight
        if "lora_B" in name or before is not None:
            assert moved.abs().max() == pytest.approx(4e-5, rel=0.2), name
    # The two runs move alike: Adam's first steps are signs of gradients.
    names = [name for name in after["fp32"] if before is not None or "lora_B" in name]
    signs = [
        torch.cat(
            [(after[dtype][name] - (before[name] if before is not None else 0)).sign().flatten() for name in names]
        )
        for dtype in ("fp32", "bf16")
    ]
    assert (signs[0] == signs[1]).float().mean() > 0.9


def test_an_end_token_that_an_answer_spells_is_trained_on_as_text_and_cuts_nothing(llama_folder, tmp_path):
    ask, answer = "which mark ends a turn?<s>", "it is </s> in that format, and this is why it matters"
    trained = fit(llama_folder, tmp_path, [fakes.turns(ask, answer)], method="full", steps=1, batch=1, micro_batch=1)
    read = lambda text, **how: fakes.tokenizer()(text, add_special_tokens=False, **how)["input_ids"]  # noqa: E731
    says = [read(text, split_special_tokens=True) for text in (f"### Instruction:\n{ask}\n\n### Response:\n", answer)]
    ids = [1, *says[0], *says[1], 2]
    assert ids[1:-1].count(1) == ids[1:-1].count(2) == 0
    told = load_model(llama_folder)(torch.tensor([ids])).logits[0].log_softmax(-1)
    places = torch.arange(len(says[0]), len(ids) - 1)
    loss = -told[places, torch.tensor(ids)[places + 1]].mean()
    assert trained.losses[0] == pytest.approx(loss.item(), abs=1e-4)


@pytest.mark.parametrize(
    ("schedule", "warmup", "rates", "micro_batch"),
    [
        ("linear", 0.0, [1, 0.75, 0.5, 0.25], 8),
        ("cosine", 0.0, [(1 + math.cos(math.pi * step / 4)) / 2 for step in range(4)], 2),
        ("constant", 0.5, [0, 0.5, 1, 1], 1),
    ],
)
def test_full_training_leaves_the_weights_of_a_plain_loop(llama_folder, tmp_path, schedule, warmup, rates, micro_batch):
    trained = fit(
        llama_folder, tmp_path, method="full", schedule=schedule, warmup=warmup, steps=4, learning_rate=3e-3,
        micro_batch=micro_batch,
    )  # fmt: skip
    model, losses = load_model(llama_folder), []
    optimiser = torch.optim.AdamW(model.parameters(), lr=1.0, weight_decay=0.0)
    for rate in rates:
        optimiser.param_groups[0]["lr"] = 3e-3 * rate
        loss = completion_loss(model)
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    np.testing.assert_allclose(trained.losses, losses, rtol=1e-3)
    found, wanted = load_model(trained.path).state_dict(), model.state_dict()
    for name in wanted:
        np.testing.assert_allclose(found[name], wanted[name], atol=2e-4, err_msg=name)


def test_micro_batches_add_up_to_the_whole_batch(llama_folder, adapter, tmp_path):
    parts = fit(llama_folder, tmp_path, micro_batch=2)
    np.testing.assert_allclose(parts.losses, adapter.losses, rtol=1e-3)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_equal_seeds_leave_equal_weights_and_other_seeds_others(llama_folder, tmp_path, method):
    first, again, other = (
        fit(llama_folder, tmp_path / name, method=method, seed=seed, batch=4, micro_batch=4)
        for name, seed in (("first", 1), ("again", 1), ("other", 2))
    )
    assert first.losses == again.losses != other.losses
    assert same(weights(first.path), weights(again.path))
    assert not same(weights(first.path), weights(other.path))


def test_the_seed_decides_how_an_adapter_starts(llama_folder, tmp_path):
    # A step too small to matter leaves the first matrix of every pair as it was drawn.
    drawn = [
        weights(fit(llama_folder, tmp_path / str(seed), seed=seed, steps=1, learning_rate=1e-12).path)
        for seed in (1, 2)
    ]
    names = [name for name in drawn[0] if "lora_A" in name]
    assert len(names) == 3 * 7  # every linear layer of every block
    assert not any(torch.allclose(drawn[0][name], drawn[1][name], atol=1e-3) for name in names)


def test_an_adapter_leaves_the_base_alone_and_merges_into_what_was_trained(llama_folder, adapter, tmp_path):
    from peft import PeftModel

    before = content(llama_folder)
    second = fit(llama_folder, tmp_path, adapters=[adapter.path], learning_rate=5e-3)
    assert content(llama_folder) == before
    assert (adapter.parent, second.parent) == (llama_folder, adapter.path)
    ids = torch.tensor([encode(fakes.tokenizer(), ROWS[4]).ids])
    with torch.no_grad():
        base = load_model(llama_folder)(ids).logits
        once = load_model(llama_folder, adapters=[adapter.path])
        assert not any("lora" in name for name, _ in once.named_modules())
        twice = load_model(llama_folder, adapters=[adapter.path, second.path])(ids).logits
        kept_apart = PeftModel.from_pretrained(load_model(llama_folder), adapter.path).eval()(ids).logits
        on_top = PeftModel.from_pretrained(once, second.path).eval()(ids).logits
        merged = load_model(llama_folder, adapters=[adapter.path])(ids).logits
    np.testing.assert_allclose(merged, kept_apart, atol=1e-3)
    np.testing.assert_allclose(twice, on_top, atol=1e-3)
    assert (merged - base).abs().max() > 0.1 < (twice - merged).abs().max()


def test_the_merged_adapter_has_the_loss_that_training_went_on_to(llama_folder, tmp_path):
    short, long = fit(llama_folder, tmp_path / "short", steps=2), fit(llama_folder, tmp_path / "long", steps=3)
    assert short.losses == long.losses[:2]
    with torch.no_grad():
        merged = completion_loss(load_model(llama_folder, adapters=[short.path]))
    assert merged.item() == pytest.approx(long.losses[2], abs=1e-3)


@pytest.mark.parametrize("family", ["gemma", "gpt2"])
def test_an_adapter_merges_in_every_family(family, tmp_path):
    base = fakes.save(tmp_path / family, family)
    trained = fit(base, tmp_path / "run", steps=2)
    with torch.no_grad():
        start, merged = (completion_loss(load_model(base, adapters=given)) for given in ([], [trained.path]))
    assert trained.losses[0] == pytest.approx(start.item(), abs=1e-3)
    assert merged < start


def test_the_loss_falls(llama_folder, tmp_path):
    losses = fit(llama_folder, tmp_path, steps=12).losses
    assert len(losses) == 12
    assert losses[-1] < 0.7 * losses[0]


def test_rows_that_are_too_long_are_left_out_whole_and_counted(llama_folder, tmp_path):
    lengths = [len(encode(fakes.tokenizer(), row).ids) for row in ROWS]
    limit = sorted(lengths)[4]
    short = [row for row, length in zip(ROWS, lengths, strict=True) if length <= limit]
    trained = fit(llama_folder, tmp_path / "all", max_tokens=limit)
    alone = fit(llama_folder, tmp_path / "short", short)
    assert (trained.rows, trained.dropped) == (5, 3)
    assert (alone.rows, alone.dropped) == (5, 0)
    assert trained.losses == alone.losses
    assert same(weights(trained.path), weights(alone.path))


def test_rows_beyond_the_models_positions_are_left_out_too(tmp_path):
    base = fakes.save(tmp_path / "short", "gpt2", n_positions=60)
    assert fit(base, tmp_path / "run").dropped == sum(len(encode(fakes.tokenizer(), row).ids) > 60 for row in ROWS) > 0


@pytest.mark.parametrize("rows", [ROWS, []])
def test_a_training_without_a_row_that_is_short_enough_is_refused(llama_folder, tmp_path, rows):
    shortest = min((len(encode(fakes.tokenizer(), row).ids) for row in rows), default=0)
    with pytest.raises(DataError) as error:
        fit(llama_folder, tmp_path, rows, max_tokens=5)
    assert str(error.value) == (
        f"verify.align.max_tokens: found 5, and each of {len(rows)} rows is longer (the shortest has {shortest}); "
        "raise it, or use shorter rows"
    )


def test_only_the_weights_are_left_on_disk_and_nothing_is_printed(llama_folder, tmp_path, capfd):
    trained = fit(llama_folder, tmp_path, method="full", batch=4, micro_batch=2)
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]
    assert trained.path == str(tmp_path / "weights")
    assert capfd.readouterr() == ("", "")


def test_tokens_are_counted_without_padding(adapter):
    assert adapter.tokens == 3 * sum(len(encode(fakes.tokenizer(), row).ids) for row in ROWS)


def test_a_training_that_breaks_down_is_told_and_leaves_nothing(llama_folder, tmp_path):
    with pytest.raises(
        ModelError,
        match=r"verify.align.learning_rate: training diverged at 1e\+30 \(the loss of step [23] is not finite\)",
    ):
        fit(llama_folder, tmp_path, method="full", learning_rate=1e30)
    assert not list(tmp_path.iterdir())


def test_a_training_that_breaks_down_leaves_no_checkpoint(llama_folder, tmp_path):
    with pytest.raises(ModelError, match="is not finite"):
        fit(llama_folder, tmp_path, method="full", learning_rate=1e30, checkpoints=(1, 2))
    assert not list(tmp_path.iterdir())


def test_memory_that_runs_out_names_the_setting(llama_folder, tmp_path, monkeypatch):
    def full(*_args, **_settings):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr("transformers.LlamaModel.forward", full)
    with pytest.raises(ModelError, match=r"verify.align.micro_batch: out of memory \(no room\); lower it"):
        fit(llama_folder, tmp_path)


class Cut(Exception):
    """What ends a training from outside."""


@pytest.mark.parametrize("method", ["full", "lora"])
def test_an_interrupted_training_goes_on_where_it_was_saved_and_ends_the_same(
    llama_folder, tmp_path, method, monkeypatch
):
    settings = {"method": method, "steps": 6, "batch": 4, "micro_batch": 2, "save_steps": 2}
    whole = fit(llama_folder, tmp_path / "whole", **settings)
    real, taken = torch.optim.AdamW.step, []

    def step(self, *rest, **more):
        if len(taken) == 5:
            raise Cut
        taken.append(self)
        return real(self, *rest, **more)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    with pytest.raises(Cut):
        fit(llama_folder, tmp_path / "cut", **settings)
    assert not (tmp_path / "cut" / "weights").exists()
    checkpoints = tmp_path / "cut" / "checkpoints"
    assert [path.name for path in checkpoints.glob("checkpoint-*")] == ["checkpoint-4"]
    torn = checkpoints / "checkpoint-5" / "trainer_state.json"
    torn.parent.mkdir()
    torn.write_text('{"global_step": 5, "log')
    taken.clear()
    again = fit(llama_folder, tmp_path / "cut", **settings)
    assert len(taken) == 2
    assert (again.losses, again.tokens, again.steps) == (whole.losses, whole.tokens, whole.steps)
    assert same(weights(again.path), weights(whole.path))
    assert sorted(path.name for path in (tmp_path / "cut").iterdir()) == ["weights"]


@pytest.mark.parametrize("method", ["full", "lora"])
def test_what_is_left_on_the_way_is_what_a_training_ended_there_leaves_and_changes_nothing(
    llama_folder, tmp_path, method
):
    """Under a constant rate, so that a shorter training takes the same steps; in passes and with a warmup of none."""
    settings = {"method": method, "batch": 4, "micro_batch": 2}
    plain = fit(llama_folder, tmp_path / "plain", steps=6, **settings)
    curve = fit(llama_folder, tmp_path / "curve", steps=6, checkpoints=(4, 1), **settings)
    assert same(weights(plain.path), weights(curve.path))
    assert content(plain.path) == content(curve.path)
    assert (plain.losses, plain.checkpoints) == (curve.losses, ())
    assert [step for step, _ in curve.checkpoints] == [1, 4]
    assert sorted(path.name for path in (tmp_path / "curve").iterdir()) == ["weights", "weights-1", "weights-4"]
    for step, path in curve.checkpoints:
        short = fit(llama_folder, tmp_path / str(step), steps=step, **settings)
        assert same(weights(path), weights(short.path))
        assert not same(weights(path), weights(curve.path))


@pytest.mark.parametrize("gone", [False, True])
def test_an_interrupted_training_still_leaves_what_it_was_to_leave(llama_folder, tmp_path, monkeypatch, gone):
    """Cut after step 5, with its state saved at 2 and 4; where weights of before are `gone`, it begins anew."""
    settings = {"method": "full", "steps": 6, "batch": 4, "micro_batch": 2, "save_steps": 2, "checkpoints": (1, 3, 5)}
    whole = fit(llama_folder, tmp_path / "whole", **settings)
    real, taken = torch.optim.AdamW.step, []

    def step(self, *rest, **more):
        if len(taken) == 5:
            raise Cut
        taken.append(self)
        return real(self, *rest, **more)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    with pytest.raises(Cut):
        fit(llama_folder, tmp_path / "cut", **settings)
    if gone:
        shutil.rmtree(tmp_path / "cut" / "weights-3")
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self, *rest, **more: (taken.append(0), real(self, *rest))[1])
    taken.clear()
    again = fit(llama_folder, tmp_path / "cut", **settings)
    assert len(taken) == (6 if gone else 2)
    assert again.losses == whole.losses
    assert same(weights(again.path), weights(whole.path))
    for (step, path), (other, wanted) in zip(again.checkpoints, whole.checkpoints, strict=True):
        assert step == other
        assert same(weights(path), weights(wanted))


def test_activation_checkpointing_changes_no_loss(llama_folder, adapter, tmp_path):
    np.testing.assert_allclose(fit(llama_folder, tmp_path, checkpointing=True).losses, adapter.losses, rtol=1e-4)


@given(st.integers(1, 50), st.floats(0.1, 5), st.integers(1, 12))
def test_epochs_become_whole_steps(rows, epochs, batch):
    section = Training(epochs=epochs, batch=batch, micro_batch=batch)
    assert section.steps_over(rows) == math.ceil(epochs * math.ceil(rows / batch)) >= 1
    assert Training(steps=7).steps_over(rows) == 7


@given(st.integers(1, 50), st.integers(0, 40), st.integers(1, 12))
def test_rows_seen_are_those_of_batches_dealt_one_by_one(rows, steps, batch):
    section = Training(steps=1, batch=batch, micro_batch=batch)
    epoch = [min(batch, rows - start) for start in range(0, rows, batch)]
    assert section.rows_seen(rows, steps) == sum(epoch[step % len(epoch)] for step in range(steps))


def test_dropout_of_a_models_configuration_is_left_out_so_splitting_changes_nothing(tmp_path):
    base = fakes.save(tmp_path / "base", "gpt2", resid_pdrop=0.5, embd_pdrop=0.5, attn_pdrop=0.5)
    plain = fakes.save(tmp_path / "plain", "gpt2")
    losses = [
        fit(folder, tmp_path / name, steps=2, method="full", micro_batch=size).losses
        for name, folder, size in (("one", base, 1), ("four", base, 4), ("none", plain, 4))
    ]
    np.testing.assert_allclose(losses[0], losses[1], atol=1e-4)
    assert losses[1] == losses[2]
    assert (dropout_part(base, None), dropout_part(plain, None)) == ([["no dropout"]], [])


def test_dropout_that_a_model_applies_by_itself_is_left_out_too():
    """OPT's layers hold a number, and no module of their own."""
    from transformers import OPTConfig, OPTForCausalLM

    sizes = {"hidden_size": 16, "word_embed_proj_dim": 16, "ffn_dim": 32, "num_attention_heads": 2}
    model = OPTForCausalLM(OPTConfig(vocab_size=40, num_hidden_layers=1, dropout=0.5, **sizes)).train()
    ids = torch.arange(3, 20)[None]

    def same() -> bool:
        return bool(torch.equal(model(ids).logits, model(ids).logits))

    assert not same()
    without_dropout(model)
    assert same()
