"""What a push does to work of others: nothing."""

import io

import datasets
import polars as pl
import pytest
from ruamel.yaml import YAML

from curator.errors import PublishError
from curator.publish.card import BEGIN, END
from curator.publish.merge import digest, merged_card, plan
from curator.publish.push import push
from tests.publish import hub_server

REPO = "owner/safe"
OURS = f"""---
pretty_name: ours
license: other
license_name: several-see-below
tags:
- safety
- curator
configs:
- config_name: curated
  default: true
  data_files:
  - split: train
    path: data/curated/train-*.parquet
---

{BEGIN}
## Decision: worse
{END}
"""
THEIRS = """---
# keep this comment
license: cc-by-4.0
language: [en]
tags:
- mine
configs:
- config_name: essays
  data_files: essays.parquet
---

# My page

Words of mine.
"""


def facts(text):
    return YAML(typ="safe").load(text.split("---\n")[1])


def last(text):
    return facts(text)


def test_a_new_card_is_ours_as_it_is():
    assert merged_card(OURS, None, {}) == (OURS, ())


def test_what_others_wrote_on_a_card_stays_and_ours_is_added():
    text, notes = merged_card(OURS, THEIRS, {})
    found = facts(text)
    assert found["license"] == "cc-by-4.0"
    assert "license_name" not in found
    assert found["tags"] == ["mine", "safety", "curator"]
    assert [one["config_name"] for one in found["configs"]] == ["essays", "curated"]
    assert "default" not in found["configs"][1], "load_dataset without a config must not become ours"
    assert "# keep this comment" in text
    assert "# My page\n\nWords of mine.\n" in text
    assert text.index("Words of mine") < text.index("## Decision: worse")
    assert notes == ("the card's license stays 'cc-by-4.0' (curator would write 'other')",)


def test_merging_again_changes_nothing():
    for theirs in (None, THEIRS, "# Only words\n", "", "---\n---\nwords\n"):
        once, _ = merged_card(OURS, theirs, {})
        assert merged_card(OURS, once, last(OURS))[0] == once


def test_our_part_is_replaced_and_what_stands_around_it_stays():
    once, _ = merged_card(OURS, THEIRS, {})
    edited = once.replace("Words of mine.", "Other words.") + "\nAfterword.\n"
    new = OURS.replace("worse", "durable").replace("pretty_name: ours", "pretty_name: renamed")
    text, _ = merged_card(new, edited, last(OURS))
    assert "Other words." in text
    assert "Afterword." in text
    assert "Decision: durable" in text
    assert "Decision: worse" not in text
    assert text.count(BEGIN) == 1
    assert facts(text)["pretty_name"] == "renamed"


def test_a_key_that_its_owner_changed_since_is_theirs():
    edited = OURS.replace("pretty_name: ours", "pretty_name: A better name")
    text, notes = merged_card(OURS.replace("pretty_name: ours", "pretty_name: new"), edited, last(OURS))
    assert facts(text)["pretty_name"] == "A better name"
    assert "pretty_name stays 'A better name'" in notes[0]


def test_a_key_that_we_no_longer_write_goes_unless_it_was_changed():
    new = OURS.replace("license: other\nlicense_name: several-see-below\n", "license: mit\n")
    assert "license_name" not in facts(merged_card(new, OURS, last(OURS))[0])
    edited = OURS.replace("several-see-below", "my-own")
    assert facts(merged_card(new, edited, last(OURS))[0])["license_name"] == "my-own"


def test_a_config_of_our_name_that_is_not_ours_is_refused():
    with pytest.raises(PublishError, match="config 'curated' that curator did not write"):
        merged_card(OURS, THEIRS.replace("essays", "curated"), {})


def test_a_config_that_we_no_longer_write_goes():
    two = OURS.replace("---\n\n", "- config_name: controls\n  data_files: c.parquet\n---\n\n", 1)
    found = facts(merged_card(OURS, two, last(two))[0])
    assert [one["config_name"] for one in found["configs"]] == ["curated"]


@pytest.mark.parametrize("theirs", ["---\na: [\n---\n", "---\n- a\n---\n"])
def test_a_card_that_cannot_be_read_is_told_and_left(theirs):
    with pytest.raises(PublishError, match="fix it there first"):
        merged_card(OURS, theirs, {})


def test_files_of_others_are_neither_overwritten_nor_removed():
    a, b, c = (digest(one) for one in (b"a", b"b", b"c"))

    def there(one):
        return (None, one.blob)

    assert plan({"x": a}, {"x": there(a), "notes.md": there(b)}, {}).write == ()
    assert plan({"x": a}, {"x": there(b)}, {"x": b}).write == ("x",)
    assert plan({"x": a}, {"x": (b.sha256, "pointer")}, {"x": b}).write == ("x",)
    with pytest.raises(PublishError, match="x: the repository already has this file"):
        plan({"x": a}, {"x": there(b)}, {})
    with pytest.raises(PublishError, match="somebody has changed it since"):
        plan({"x": a}, {"x": there(c)}, {"x": b})
    gone = plan({}, {"x": there(a), "y": there(c), "z": there(a)}, {"x": a, "y": b})
    assert gone.remove == ("x",)
    assert gone.notes == ("y is left in the repository, because somebody has changed it since the last push",)


def parquet():
    out = io.BytesIO()
    pl.DataFrame({"a": [1, 2]}).write_parquet(out)
    return out.getvalue()


def test_a_push_into_somebodys_repository_keeps_all_of_theirs(hub, folder, tmp_path):
    files = {"README.md": THEIRS.encode(), "essays.parquet": parquet(), "evidence/own.txt": b"mine"}
    repo = hub.make(REPO, files=files)
    push(folder, REPO)
    assert {name: repo.head.files[name] for name in ("essays.parquet", "evidence/own.txt")} == {
        name: files[name] for name in ("essays.parquet", "evidence/own.txt")
    }
    text = repo.head.files["README.md"].decode()
    assert "Words of mine." in text
    assert [one["config_name"] for one in facts(text)["configs"]] == ["essays", "curated"]
    head = repo.head.sha
    assert push(folder, REPO).commit == head
    assert datasets.load_dataset(REPO, "essays", split="train", cache_dir=str(tmp_path))["a"][:] == [1, 2]


def test_data_of_another_format_beside_which_ours_cannot_be_read_is_refused(hub, folder):
    files = {"README.md": THEIRS.replace(".parquet", ".csv").encode(), "essays.csv": b"a,b\n1,2\n"}
    hub.make(REPO, files=files)
    with pytest.raises(PublishError, match="reads one format per repository"):
        push(folder, REPO)
    assert not hub.large


def test_data_that_our_configs_would_hide_is_not_hidden(hub, folder):
    hub.make(REPO, files={"train.csv": b"a,b\n1,2\n"})
    with pytest.raises(PublishError, match=r"train\.csv: the repository holds data that no config"):
        push(folder, REPO)
    assert not hub.large


def test_a_file_of_our_name_that_is_not_ours_stops_the_push(hub, folder):
    hub.make(REPO, files={"README.md": THEIRS.encode(), "evidence/report.json": b"{}"})
    with pytest.raises(PublishError, match=r"evidence/report\.json: the repository already has this file"):
        push(folder, REPO)
    assert not hub.large


NO_MANIFESTS = (
    b"",
    b"[]",
    b"{",
    b'{"made_by": "me"}',
    b'{"made_by": "curator"}',
    b'{"made_by": "curator", "files": {"x": {"a": 1}}, "metadata": {}}',
)


@pytest.mark.parametrize("content", NO_MANIFESTS)
def test_a_manifest_that_is_none_of_ours_gives_no_right_to_overwrite(hub, folder, content):
    files = {"README.md": THEIRS.encode(), "evidence/files.json": content, "evidence/report.json": b"{}"}
    hub.make(REPO, files=files)
    with pytest.raises(PublishError, match=r"evidence/report\.json"):
        push(folder, REPO)


def test_the_server_refuses_what_was_never_uploaded(hub):
    """The server of these tests would show a client that commits before it uploads."""
    import huggingface_hub

    hub.make(REPO)
    api = huggingface_hub.HfApi(token=hub_server.WRITER)
    add = huggingface_hub.CommitOperationAdd("a.parquet", b"abc")
    add._upload_mode, add._is_uploaded, add._should_ignore = "lfs", True, False
    with pytest.raises(huggingface_hub.errors.BadRequestError):
        api.create_commit(REPO, [add], commit_message="x", repo_type="dataset")
