import hashlib
import json
import os
import re
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from datasets import load_dataset
from ruamel.yaml import YAML

from curator.conclusions.part import plain
from curator.publish.dataset import VERDICTS, control_rows, dataset_rows
from curator.publish.record import publishable, without_nulls
from curator.report.markdown import markdown
from curator.report.material import Model, Provenance


@pytest.fixture
def written(run, report, write, tmp_path):
    return write(tmp_path / "9-publish" / "dataset", run, report)


def load(folder, cache):
    return load_dataset(str(folder), cache_dir=str(cache))


def test_it_loads_with_one_line_as_exactly_the_selected_rows_in_order(run, written, tmp_path):
    found = load(written, tmp_path / "cache")
    assert set(found) == {"train"}
    rows = found["train"]
    assert rows["id"][:] == list(run.selection.ids)
    assert rows["rank"][:] == list(range(12))
    assert rows["gain"][:] == run.selection.gains.tolist()
    pool = {row["id"]: row for row in run.data.pool.rows.to_dicts()}
    place = {one: row for row, one in enumerate(run.scores.ids)}
    for row in rows:
        assert {name: row[name] for name in ("messages", "category", "source", "licence")} == {
            name: pool[row["id"]][name] for name in ("messages", "category", "source", "licence")
        }
        assert row["similarity"] == run.scores.combined[place[row["id"]]]
        assert row["coverage"] == 5
        assert row["similarity:odd"] == run.scores.tasks["odd"][place[row["id"]]]


def test_columns_have_the_types_that_the_card_names(written, tmp_path):
    kinds = {name: str(kind) for name, kind in load(written, tmp_path / "cache")["train"].features.items()}
    assert {name: "string" in kind and "large" not in kind for name, kind in kinds.items()} == {
        **dict.fromkeys(("id", "messages", "category", "source", "licence"), True),
        **dict.fromkeys(
            ("similarity", "similarity:list", "similarity:story", "similarity:odd", "rank", "gain", "coverage"), False
        ),
    }
    assert "float64" in kinds["similarity"]
    assert "int64" in kinds["rank"]
    assert "List" in kinds["messages"]


def test_nothing_but_data_is_taken_as_data(written, tmp_path):
    (written / "evidence" / "more.parquet").write_bytes((written / "evidence" / "selection.parquet").read_bytes())
    assert load(written, tmp_path / "cache")["train"].num_rows == 12


def test_columns_without_any_value_keep_their_type(run, report, write, tmp_path):
    empty = pl.lit(None, pl.String)
    bare = replace(run.data.pool, rows=run.data.pool.rows.with_columns(category=empty, licence=empty))
    rows = load(write(tmp_path / "d", run, report, pool=bare), tmp_path / "cache")["train"]
    assert rows.features["category"].dtype == "string"
    assert rows["licence"][:] == [None] * 12


def test_the_selection_is_evidence_with_the_nearest_task_rows(run, written):
    found = pl.read_parquet(written / "evidence" / "selection.parquet")
    assert found["id"].to_list() == list(run.selection.ids)
    nearest = dict(zip(run.scores.ids, run.scores.nearest["story"], strict=True))
    assert found["nearest:story"].to_list() == [nearest[one] for one in run.selection.ids]


def test_no_text_of_a_task_a_probe_or_an_unselected_row_is_published(run, written):
    everything = b"".join(path.read_bytes() for path in written.rglob("*") if path.is_file())
    frames = [part for task in run.data.tasks for part in (task.train, task.test)]
    frames += [run.data.harmful, run.data.benign, run.data.keep]
    for frame in frames:
        for messages in frame["messages"]:
            assert messages[0]["content"].encode() not in everything


def test_the_report_goes_along_without_times_or_folders_of_this_machine(run, report, write, tmp_path):
    local = report.model_copy(
        update={
            "model": Model(id="/home/someone/models/tiny", revision=None),
            "provenance": Provenance(
                sources={"pool": {"sources": [{"file": "C:\\data\\pool.json"}, {"hub": "owner/name"}]}}
            ),
        }
    )
    found = json.loads((write(tmp_path / "d", run, local) / "evidence" / "report.json").read_text())
    assert "timing" not in found
    assert found["model"]["id"] == "tiny"
    assert found["provenance"]["sources"]["pool"]["sources"] == [{"file": "pool.json"}, {"hub": "owner/name"}]
    assert found["arms"] == plain(report)["arms"]
    assert "someone" not in (tmp_path / "d" / "README.md").read_text()


def test_publishing_changes_no_figure(report):
    timed = plain(report)
    assert plain(publishable(report)) == {key: value for key, value in timed.items() if key != "timing"}


def test_writing_again_gives_the_same_bytes(run, report, write, tmp_path):
    first, second = (write(tmp_path / name, run, report) for name in ("a", "b"))
    names = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert len(names) == 10
    recipe = YAML(typ="safe").load(first / "recipe.yaml")
    assert recipe == without_nulls(publishable(report).provenance.recipe)
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_an_older_folder_goes_only_when_the_new_one_is_whole(run, report, write, written):
    def broken(public, figures):
        raise OSError(28, "No space left on device")

    before = {path: path.read_bytes() for path in written.rglob("*") if path.is_file()}
    with pytest.raises(OSError, match="No space"):
        write(written, run, report, evidence=broken)
    assert {path: path.read_bytes() for path in written.rglob("*") if path.is_file()} == before
    assert [path.name for path in written.parent.iterdir()] == ["dataset"]
    (written / "stale.txt").write_text("old")
    write(written, run, report)
    assert not (written / "stale.txt").exists()


def test_a_selected_row_that_is_nowhere_is_our_mistake(run):
    lost = replace(run.selection, ids=("nowhere", *run.selection.ids[1:]))
    with pytest.raises(ValueError, match="'nowhere' is selected but has no score"):
        dataset_rows(run.data.pool, run.scores, lost, {})
    fewer = replace(run.data.pool, rows=run.data.pool.rows.filter(pl.col("id") != run.selection.ids[3]))
    with pytest.raises(ValueError, match="is not in the pool"):
        dataset_rows(fewer, run.scores, run.selection, {})


def test_the_order_of_the_pool_changes_nothing(run):
    shuffled = replace(run.data.pool, rows=run.data.pool.rows.sample(fraction=1.0, shuffle=True, seed=3))
    order = np.random.default_rng(3).permutation(len(run.scores.ids))
    scores = replace(
        run.scores,
        ids=tuple(run.scores.ids[i] for i in order),
        combined=run.scores.combined[order],
        tasks={name: values[order] for name, values in run.scores.tasks.items()},
        nearest={name: tuple(ids[i] for i in order) for name, ids in run.scores.nearest.items()},
    )
    assert dataset_rows(shuffled, scores, run.selection, {}).equals(
        dataset_rows(run.data.pool, run.scores, run.selection, {})
    )


def test_verdicts_are_evidence_without_the_judges_words(run, report, write, tmp_path):
    said = run.verdicts.with_columns(raw=pl.lit("quotes a harmful answer"), reason=pl.lit("and so does this"))
    folder = write(tmp_path / "d", run, report, verdicts=said)
    found = pl.read_parquet(folder / "evidence" / "verdicts.parquet")
    assert found.equals(run.verdicts.select(VERDICTS))
    assert {"raw", "reason", "answer"}.isdisjoint(found.columns)


def test_what_was_dropped_is_evidence_with_its_reason(run, written):
    found = pl.read_parquet(written / "evidence" / "dropped.parquet")
    assert found.equals(run.data.pool.dropped)


def sets_of(run):
    sets = [(arm, seed, one) for (arm, seed), ids in run.arms.items() if arm != "curated" for one in ids]
    return pl.DataFrame(sets, schema=["arm", "seed", "id"], orient="row")


def test_controls_are_a_config_of_their_own_with_a_split_an_arm(run, report, write, tmp_path):
    folder = write(tmp_path / "d", run, report, controls=sets_of(run))
    found = load_dataset(str(folder), "controls", cache_dir=str(tmp_path / "cache"))
    assert set(found) == {"random", "matched_random"}
    for split, arm in (("random", "random"), ("matched_random", "matched-random")):
        for seed in range(4):
            own = {row["id"] for row in found[split] if seed in row["draws"]}
            assert own == set(run.arms[arm, seed])
    assert load(folder, tmp_path / "cache2")["train"].num_rows == 12, "the curated rows stay the default"


def test_every_split_loads_beside_a_recovery_arm(run, report, write, tmp_path):
    sets = sets_of(run)
    random = sets.filter(pl.col("arm") == "random")
    controls = pl.concat([sets, random.with_columns(arm=pl.lit("random+recovery"))])
    row_id = random["id"][0]
    folder = write(tmp_path / "d", run, report, controls=controls, openers={row_id: "Of course."})
    found = load_dataset(str(folder), "controls", cache_dir=str(tmp_path / "controls"))
    openers = {split: {row["id"]: row["opener"] for row in rows if row["opener"]} for split, rows in found.items()}
    assert openers == {"random": {}, "matched_random": {}, "random_recovery": {row_id: "Of course."}}
    assert load(folder, tmp_path / "curated")["train"].num_rows == 12
    for split in found:
        assert load_dataset(str(folder), "controls", split=split, cache_dir=str(tmp_path / split)).num_rows


def test_without_controls_there_is_one_config(written, tmp_path):
    with pytest.raises(ValueError, match="controls"):
        load_dataset(str(written), "controls", cache_dir=str(tmp_path))


def test_an_arm_of_rows_that_are_not_the_pools_is_no_control(run, report, write, tmp_path):
    more = pl.concat(
        [sets_of(run), pl.DataFrame({"arm": ["mine"] * 2, "seed": [0] * 2, "id": ["x", run.scores.ids[0]]})]
    )
    assert set(control_rows(run.data.pool, more)) == {"random", "matched_random"}
    text = (write(tmp_path / "d", run, report, controls=more) / "README.md").read_text()
    assert "Not in it, because they have rows that are not in the pool: mine." in text


def test_arms_of_like_names_have_a_split_each(run):
    like = pl.DataFrame({"arm": ["matched_random", "a-b", "a_b"], "seed": [0] * 3, "id": run.scores.ids[:3]})
    found = control_rows(run.data.pool, pl.concat([sets_of(run), like]))
    assert set(found) == {"random", "matched_random", "matched_random_2", "a_b", "a_b_2"}
    assert found["matched_random_2"]["id"].to_pylist() == [run.scores.ids[0]]
    assert found["a_b_2"]["id"].to_pylist() == [run.scores.ids[2]]


def test_the_licence_is_that_of_the_controls_rows_too(run, report, write, tmp_path):
    chosen = pl.col("id").is_in(list(run.selection.ids))
    licence = pl.when(chosen).then(pl.lit("mit")).otherwise(pl.lit("cc-by-nc-4.0"))
    source = pl.when(chosen).then(pl.lit("ours")).otherwise(pl.lit("theirs"))
    pool = replace(run.data.pool, rows=run.data.pool.rows.with_columns(licence=licence, source=source))
    alone = write(tmp_path / "alone", run, report, pool=pool)
    both = write(tmp_path / "both", run, report, pool=pool, controls=sets_of(run))
    assert "license: mit" in (alone / "README.md").read_text()
    text = (both / "README.md").read_text()
    assert "license: other" in text
    assert "license_name: several-see-below" in text
    drawn = set(sets_of(run)["id"]) - set(run.selection.ids)
    assert f"| theirs | cc-by-nc-4.0 | {len(drawn)} |" in text
    assert f"| ours | mit | {len(run.selection.ids)} |" in text
    assert json.loads((both / "croissant.json").read_text())["license"] == "several-see-below"


# What a user loads. `datasets` keeps rows of a local folder under the folder's last name and the card's configs.


def letters(run, letter):
    """The run with rows that hold one letter, so that two such runs differ in it alone, also in their files' sizes."""
    messages = [[{"role": "user", "content": letter * 40}, {"role": "assistant", "content": letter * 40}]] * len(
        run.data.pool.rows
    )
    kind = run.data.pool.rows.schema["messages"]
    return replace(run.data.pool, rows=run.data.pool.rows.with_columns(pl.Series("messages", messages, dtype=kind)))


def loaded(folder):
    return load_dataset(str(folder), "curated", split="train")


@pytest.fixture
def shared_cache(monkeypatch, tmp_path):
    """The cache of `datasets`, as everything that one user loads shares it."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "shared")
    return tmp_path / "shared"


@pytest.mark.usefixtures("shared_cache")
def test_another_run_of_the_same_name_size_and_time_loads_as_itself(run, report, write, tmp_path):
    folders = [write(tmp_path / letter / "9-publish" / "dataset", run, report, pool=letters(run, letter))
               for letter in "ab"]  # fmt: skip
    sizes = [[path.stat().st_size for path in sorted((folder / "data").rglob("*.parquet"))] for folder in folders]
    assert sizes[0] == sizes[1], "a test of nothing else than the names"
    for path in tmp_path.rglob("*"):
        os.utime(path, (1e9, 1e9))
    for folder, letter in zip(folders, "ab", strict=True):
        assert {row["messages"][0]["content"] for row in loaded(folder)} == {letter * 40}


def test_a_folder_that_is_built_again_loads_with_its_new_rows(run, report, write, tmp_path, shared_cache):
    folder = tmp_path / "dataset"
    for letter in "aba":
        write(folder, run, report, pool=letters(run, letter))
        assert {row["messages"][0]["content"] for row in loaded(folder)} == {letter * 40}
        assert len(list((folder / "data").rglob("*.parquet"))) == 1, "what was there before is gone"
    assert len(list(shared_cache.glob("dataset/curated/0.0.0/*/*.arrow"))) == 2, "equal rows are kept once"


@pytest.mark.usefixtures("shared_cache")
def test_a_folder_of_an_earlier_version_does_not_stand_in_for_a_new_one(run, report, write, tmp_path):
    earlier, now = (write(tmp_path / letter / "dataset", run, report, pool=letters(run, letter)) for letter in "ab")
    (file,) = (earlier / "data" / "curated").iterdir()
    card = (earlier / "README.md").read_text().replace(file.name, "train-*.parquet")
    file.rename(file.with_name("train-00000-of-00001.parquet"))
    (earlier / "README.md").write_text(card)
    for folder, letter in ((earlier, "a"), (now, "b")):
        assert {row["messages"][0]["content"] for row in loaded(folder)} == {letter * 40}


def test_a_data_file_is_called_by_its_content_wherever_it_is_named(run, report, write, tmp_path):
    folder = write(tmp_path / "dataset", run, report, controls=sets_of(run))
    names = {path.relative_to(folder).as_posix(): path for path in folder.glob("data/*/*")}
    for name, path in names.items():
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert name.endswith(f"-00000-of-00001-{digest[:12]}.parquet")
    described = json.loads((folder / "croissant.json").read_text())
    assert {file["contentUrl"] for file in described["distribution"]} == set(names)
    assert set(names) < set(json.loads((folder / "evidence" / "files.json").read_text())["files"])
    facts = YAML(typ="safe").load((folder / "README.md").read_text().split("---\n")[1])
    assert {part["path"] for config in facts["configs"] for part in config["data_files"]} == set(names)


def test_every_figure_that_the_card_shows_lies_beside_it_and_is_known_by_its_digest(written, report):
    card = (written / "README.md").read_text()
    shown = re.findall(r"^!\[[^\]]+\]\((\S+)\)$", card, flags=re.MULTILINE)
    assert shown == ["evidence/figures/harm.svg"]  # this run has neither a frontier nor a bank
    assert [path.relative_to(written).as_posix() for path in written.glob("evidence/figures/*")] == shown
    assert set(shown) < set(json.loads((written / "evidence" / "files.json").read_text())["files"])
    assert "![" not in markdown(report)  # beside which no figure lies
