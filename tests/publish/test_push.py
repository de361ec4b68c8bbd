"""Pushing: huggingface_hub's own client over real HTTP against a Hub on this machine."""

import hashlib
import json
import os
import threading
import traceback

import pyarrow.parquet
import pytest

from curator.errors import PublishError
from curator.publish.hub import Hub
from curator.publish.merge import files_of
from curator.publish.push import cannot_write, check, push, read_back, rows_hash
from curator.run.folder import write_json, write_text
from tests.publish import hub_server

REPO = "owner/safe"


def local(folder):
    """Path -> content, as a push to REPO shall leave it."""
    contents = {name: path.read_bytes() for name, path in files_of(folder).items()}
    contents["README.md"] = contents["README.md"].replace(b"path/or/repository", REPO.encode())
    return contents


def remote(hub, repo=REPO, revision="main"):
    found = hub.repos["dataset", repo]
    files = dict(found.commits[found.find(revision)].files)
    assert files.pop(".gitattributes")
    return files


def hashes(files):
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def refused(**options):
    with pytest.raises(PublishError) as error:
        push(**options)
    return str(error.value)


def test_a_push_makes_a_private_repository_that_holds_the_folder(hub, folder):
    done = push(folder, REPO)
    assert hub.repos["dataset", REPO].private
    assert hashes(remote(hub)) == hashes(local(folder))
    assert done.commit == hub.repos["dataset", REPO].head.sha
    assert set(done.sent) == set(local(folder))
    assert b'load_dataset("owner/safe", "curated"' in remote(hub)["README.md"]


def test_the_same_push_again_sends_nothing(hub, folder):
    first = push(folder, REPO)
    hub.calm()
    again = push(folder, REPO)
    assert (again.commit, again.sent, again.removed, again.notes) == (first.commit, (), (), ())
    assert not [one for one in hub.asked if "PUT" in one or "/commit/" in one]


def test_an_update_replaces_what_we_wrote_and_removes_what_we_no_longer_write(hub, run, report, write, tmp_path):
    more = run_controls(run)
    push(write(tmp_path / "a" / "dataset", run, report, controls=more), REPO)
    assert any(path.startswith("data/controls/random-00000-of-00001-") for path in remote(hub))
    folder = write(tmp_path / "b" / "dataset", run, report.model_copy(update={"name": "later"}))
    done = push(folder, REPO)
    assert set(done.removed) == {path for path in done.removed if path.startswith("data/controls/")} != set()
    assert hashes(remote(hub)) == hashes(local(folder))


def test_rows_of_an_earlier_push_go_whatever_they_are_called(hub, run, report, write, tmp_path):
    """Names are new with every content; those of version 0.1.0 were the same for all."""
    earlier = write(tmp_path / "a" / "dataset", run, report)
    (file,) = (earlier / "data" / "curated").iterdir()
    former = file.relative_to(earlier).as_posix()
    named = "data/curated/train-00000-of-00001.parquet"
    manifest = (earlier / "evidence" / "files.json").read_text().replace(former, named, 1)
    card = (earlier / "README.md").read_text().replace(former, "data/curated/train-*.parquet")
    file.rename(earlier / named)
    write_json(
        earlier / "evidence" / "files.json", json.loads(manifest.replace(former, "data/curated/train-*.parquet"))
    )
    write_text(earlier / "README.md", card)
    push(earlier, REPO)
    for name, coverage in (("b", {}), ("c", dict.fromkeys(run.selection.ids, 7))):
        folder = write(tmp_path / name / "dataset", run, report, coverage=coverage)
        done = push(folder, REPO)
        assert hashes(remote(hub)) == hashes(local(folder)), "the older rows are gone, and the card names the new ones"
        assert len([path for path in done.removed if path.startswith("data/")]) == 1


def test_what_is_read_back_comes_from_the_hub_and_not_from_a_cache(hub, folder, monkeypatch, tmp_path):
    import datasets
    from huggingface_hub import constants

    for module, name in ((constants, "HF_HUB_CACHE"), (datasets.config, "HF_DATASETS_CACHE")):
        monkeypatch.setattr(module, name, str(tmp_path / name))
    done = push(folder, REPO)
    datasets.load_dataset(REPO, "curated", split="train", token=hub_server.WRITER)
    (kept,) = (tmp_path / "HF_HUB_CACHE").rglob("*.parquet")
    wrong = pyarrow.parquet.read_table(kept).slice(0, 3)
    pyarrow.parquet.write_table(wrong, kept.resolve())
    assert rows_hash(REPO, revision=done.commit, token=hub_server.WRITER) == rows_hash(str(folder))


def run_controls(run):
    import polars as pl

    return pl.DataFrame(
        [
            {"arm": arm, "seed": seed, "id": one}
            for (arm, seed), ids in run.arms.items()
            if arm != "curated"
            for one in ids
        ]
    )


def test_public_only_where_it_is_asked_for(hub, folder):
    push(folder, REPO, public=True)
    assert not hub.repos["dataset", REPO].private
    assert "give --public" in refused(folder=folder, repo=REPO)
    hub.make("owner/hidden")
    assert "is private and stays so" in push(folder, "owner/hidden", public=True).notes[-1]
    assert hub.repos["dataset", "owner/hidden"].private


def test_a_pull_request_leaves_the_main_branch_and_is_opened_once(hub, folder):
    hub.make(REPO)
    first = push(folder, REPO, pull_request=True)
    again = push(folder, REPO, pull_request=True)
    assert set(hub.repos["dataset", REPO].head.files) == {".gitattributes"}
    assert hashes(remote(hub, revision="refs/pr/1")) == hashes(local(folder))
    assert first == again
    assert first.url.endswith("/discussions/1")
    assert len(hub.repos["dataset", REPO].pulls) == 1


def test_a_tag_stands_on_the_commit_and_is_not_moved(hub, run, report, write, folder, tmp_path):
    done = push(folder, REPO, tag="v1")
    assert hub.repos["dataset", REPO].refs["refs/tags/v1"] == done.commit
    assert push(folder, REPO, tag="v1").commit == done.commit
    other = write(tmp_path / "dataset", run, report.model_copy(update={"name": "later"}))
    before = len(hub.repos["dataset", REPO].commits)
    assert "the tag 'v1' already exists, at commit" in refused(folder=other, repo=REPO, tag="v1")
    assert len(hub.repos["dataset", REPO].commits) == before


# What goes wrong on the way


def count_of_requests(hub, folder):
    push(folder, REPO, tag="v1")
    count = len(hub.asked)
    expected = hashes(remote(hub))
    hub.repos.clear()
    hub.large.clear()
    hub.calm()
    return count, expected


def after_all(hub, folder, expected):
    """A rerun ends with what an uncut push leaves, in one commit of ours, tagged."""
    done = push(folder, REPO, tag="v1")
    found = hub.repos["dataset", REPO]
    assert hashes(remote(hub)) == expected
    assert len(found.commits) == 2
    assert found.refs["refs/tags/v1"] == found.head.sha == done.commit


@pytest.fixture
def lean(monkeypatch):
    """Without loading rows back at every one of many pushes, which has tests of its own."""
    monkeypatch.setattr("curator.publish.push.rows_hash", lambda *_, **__: "")


@pytest.mark.usefixtures("lean")
@pytest.mark.parametrize("part", range(4))
def test_a_push_cut_at_any_request_and_run_again_ends_like_an_uncut_one(hub, folder, part):
    count, expected = count_of_requests(hub, folder)
    assert count > 25
    for number in range(part, count, 4):
        hub.repos.clear()
        hub.large.clear()
        hub.calm()
        hub.down_from = number
        with pytest.raises(PublishError, match="run the same command again"):
            push(folder, REPO, tag="v1")
        there = set(hub.large)
        hub.calm()
        after_all(hub, folder, expected)
        sent = {one.rpartition("/")[2] for one in hub.asked if one.startswith("PUT")}
        assert not sent & there, "what was sent before the cut is not sent again"


@pytest.mark.usefixtures("lean")
@pytest.mark.parametrize(
    "trouble", ["lost", *(pytest.param(one, marks=pytest.mark.slow) for one in ("cut", "half", 503, 429))]
)
def test_a_push_survives_one_trouble_at_any_request(hub, folder, trouble):
    count, expected = count_of_requests(hub, folder)
    for number in range(count):
        hub.repos.clear()
        hub.large.clear()
        hub.calm()
        hub.at = {number: trouble}
        push(folder, REPO, tag="v1")
        assert hashes(remote(hub)) == expected
        assert len(hub.repos["dataset", REPO].commits) == 2, "a commit whose answer was lost is not made twice"
    assert hub.waits


@pytest.mark.usefixtures("lean")
def test_a_lost_answer_opens_no_second_pull_request(hub, folder):
    hub.make(REPO)
    hub.before = lambda number: (
        hub.at.update({number: "lost"}) if "/commit/" in hub.asked[number] and not hub.at else None
    )
    done = push(folder, REPO, pull_request=True)
    assert len(hub.repos["dataset", REPO].pulls) == 1
    assert done.url.endswith("/discussions/1")


def test_the_wait_grows_and_follows_what_the_hub_asks_for(hub, folder):
    hub.at = dict.fromkeys(range(50), 503)
    assert "the Hub has a problem" in refused(folder=folder, repo=REPO)
    assert hub.waits == [1.0, 2.0, 4.0, 8.0, 8.0]
    hub.calm()
    hub.waits.clear()
    hub.at, hub.retry_after = {0: 429}, 17
    push(folder, REPO)
    assert hub.waits == [17.0]


def test_what_is_waited_for_is_told(hub, folder):
    hub.at, told = {0: 503}, []
    push(folder, REPO, say=told.append)
    assert told[0].startswith("could not identify the owner of the token on the Hub: ")
    assert told[0].endswith("trying again in 1 s")


def test_two_pushes_at_once_one_wins_the_other_is_told_and_nothing_is_lost(hub, run, report, write, tmp_path):
    hub.make(REPO, files={"notes.md": b"mine"})
    reports = {name: report.model_copy(update={"name": name}) for name in ("first", "second")}
    folders = [write(tmp_path / name / "dataset", run, other) for name, other in reports.items()]
    both, met, ends = threading.Barrier(2), [], []

    def before(number):
        # Both have looked at the same parent before either commits.
        if "/commit/" in hub.asked[number] and len(met) < 2:
            met.append(number)
            both.wait(timeout=30)

    hub.before = before

    def work(place):
        try:
            ends.append((place, push(folders[place], REPO).commit))
        except PublishError as error:
            ends.append((place, str(error)))
        except Exception:  # noqa: BLE001 - shown by the assertion below
            ends.append((place, traceback.format_exc()))

    threads = [threading.Thread(target=work, args=(place,)) for place in (0, 1)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    repo = hub.repos["dataset", REPO]
    won = [place for place, end in ends if end == repo.head.sha]
    assert len(won) == 1, ends
    told = next(end for place, end in ends if place != won[0])
    assert "somebody else changed the repository during this push" in told
    assert hashes(remote(hub)) == hashes({**local(folders[won[0]]), "notes.md": b"mine"})
    assert len(repo.commits) == 2


def test_a_change_between_look_and_commit_is_refused(hub, folder):
    repo = hub.make(REPO)

    def before(number):
        if "/commit/" in hub.asked[number] and len(repo.commits) == 1:
            repo.add("refs/heads/main", hub_server.Commit(repo.head.sha, "theirs", {**repo.head.files, "x.md": b"x"}))

    hub.before = before
    assert "somebody else changed the repository" in refused(folder=folder, repo=REPO)
    assert set(repo.head.files) == {".gitattributes", "x.md"}
    push(folder, REPO)
    assert hashes(remote(hub)) == hashes({**local(folder), "x.md": b"x"})


def test_damage_on_the_way_is_found(hub, folder):
    good = hub_server.Handler._resolve

    def bad(self, repo, revision, path):
        try:
            good(self, repo, revision, path)
        except hub_server.Answered as answer:
            if path == "evidence/report.json" and isinstance(answer.body, bytes):
                answer.body = answer.body[:-1] + b"?"
            raise

    hub_server.Handler._resolve = bad
    try:
        assert "evidence/report.json at commit" in refused(folder=folder, repo=REPO)
    finally:
        hub_server.Handler._resolve = good


def test_rows_that_open_as_others_are_found(hub, run, report, write, folder, tmp_path):
    """Files alone do not say it: which of them are data stands on a card that may be somebody else's."""
    done = push(folder, REPO)
    other = write(tmp_path / "dataset", run, report, coverage={})
    with pytest.raises(PublishError, match="are not the rows that were sent"):
        read_back(Hub(REPO, None), done.commit, local(folder), other)


def test_the_rows_of_every_config_are_read_back(hub, folder, write, run, report, tmp_path):
    controls = run_controls(run)
    sent = write(tmp_path / "a" / "dataset", run, report, controls=controls)
    done = push(sent, REPO)
    other = write(tmp_path / "b" / "dataset", run, report, controls=controls.filter(controls["seed"] < 2))
    with pytest.raises(PublishError, match="are not the rows that were sent"):
        read_back(Hub(REPO, None), done.commit, local(sent), other)


# Refused before anything is sent


@pytest.mark.parametrize(
    ("token", "repo", "words"),
    [
        ("hf_wrong", REPO, "the token is not valid"),
        (hub_server.READER, REPO, "this token can only read"),
        (hub_server.STRANGER, REPO, "owner is neither stranger, the owner of this token"),
        (hub_server.WRITER, "club/safe", "owner may only read in club"),
        (hub_server.WRITER, "owner/model", "is a model on the Hub"),
        (hub_server.WRITER, "safe", "write owner/name"),
        (hub_server.WRITER, "owner/sa fe", "write owner/name"),
        (hub_server.WRITER, "a/b/c", "write owner/name"),
        (hub_server.WRITER, "owner/--", "write owner/name"),
    ],
)
def test_what_cannot_work_is_refused_before_any_upload(hub, folder, monkeypatch, token, repo, words):
    monkeypatch.setenv("HF_TOKEN", token)
    hub.make("owner/model", "model")
    assert words in refused(folder=folder, repo=repo)
    assert not [one for one in hub.asked if not one.startswith("GET")]
    assert not hub.waits
    assert set(hub.repos) == {("model", "owner/model")}


def test_organisations_that_one_may_write_to_are_fine(hub, folder):
    push(folder, "team/safe")
    assert ("dataset", "team/safe") in hub.repos


def test_without_a_token_the_user_is_told_how_to_get_one(hub, folder, monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    assert "hf auth login" in refused(folder=folder, repo=REPO)
    assert not hub.asked


def test_offline_is_told_at_once(hub, folder, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "offline" in refused(folder=folder, repo=REPO)
    assert not hub.waits


@pytest.mark.parametrize("tag", ["", "a b", "-x", "a/b", "..", "v1\n"])
def test_bad_tags_are_refused(hub, folder, tag):
    assert "is not a valid tag" in refused(folder=folder, repo=REPO, tag=tag)
    assert not hub.asked


def test_a_tag_and_a_pull_request_exclude_each_other(hub, folder):
    assert "--tag" in refused(folder=folder, repo=REPO, tag="v1", pull_request=True)


@pytest.mark.parametrize("status", [401, 402, 403, 404, 409, 412, 500, 503])
def test_every_refusal_is_an_error_that_says_what_to_do_and_never_the_token(hub, folder, status):
    hub.make(REPO)
    count = 0
    while True:
        hub.calm()
        hub.echo_token = True
        hub.at = dict.fromkeys(range(count, count + 40), status)
        try:
            push(folder, REPO)
        except PublishError as error:
            words = "".join(traceback.format_exception(error))
            assert hub_server.WRITER not in words
            assert "could not" in words or "somebody else changed" in words or "sees no such data set" in words
        else:
            break
        count += 3
        if count > 12:
            break


def test_a_card_that_the_hub_refuses_is_told_in_its_words(hub, folder):
    hub.make(REPO, files={"README.md": b"---\nlicense: [mit]\n---\n"})
    assert '"license" must be one word' in refused(folder=folder, repo=REPO)


@pytest.mark.parametrize(
    ("access", "allowed"),
    [
        ({"role": "write"}, True),
        ({"role": "read"}, False),
        ({"role": "fineGrained", "fineGrained": {"scoped": []}}, False),
        ({"role": "fineGrained", "fineGrained": {"scoped": [
            {"entity": {"name": "owner"}, "permissions": ["repo.content.read", "repo.write"]}]}}, True),
        ({"role": "fineGrained", "fineGrained": {"scoped": [
            {"entity": {"name": "owner"}, "permissions": ["repo.content.read"]}]}}, False),
        ({"role": "fineGrained", "fineGrained": {"scoped": [
            {"entity": {"name": "other"}, "permissions": ["repo.write"]}]}}, False),
        ({}, True),
    ],
)  # fmt: skip
def test_what_a_token_may_is_read_from_the_hubs_description(access, allowed):
    why = cannot_write({"name": "owner", "auth": {"accessToken": access}, "orgs": []}, "owner/safe")
    assert (why is None) is allowed


def test_check_names_the_commit_that_is_there(hub):
    assert check(REPO).head is None
    repo = hub.make(REPO)
    assert check(REPO).head == repo.head.sha
    assert not [one for one in hub.asked if not one.startswith("GET")]


def test_a_strangers_gated_set_is_not_ours_to_write(hub, folder, monkeypatch):
    hub.make(REPO, private=False, gated=True)
    monkeypatch.setenv("HF_TOKEN", hub_server.STRANGER)
    assert "owner is neither stranger" in refused(folder=folder, repo=REPO)
    monkeypatch.setenv("HF_TOKEN", hub_server.WRITER)
    push(folder, REPO, public=True)


def test_the_hash_of_the_rows_sees_order_text_and_columns(run, report, write, folder, tmp_path):
    from dataclasses import replace

    def told(name, **changes):
        return rows_hash(str(write(tmp_path / name, run, report, **changes)))

    assert rows_hash(str(folder)) == told("same")
    turned = replace(run.selection, ids=run.selection.ids[::-1], gains=run.selection.gains[::-1])
    assert rows_hash(str(folder)) != told("turned", selection=turned)
    assert rows_hash(str(folder)) != told("uncounted", coverage={})


def test_the_manifest_names_every_file_but_itself_and_the_card(folder):
    told = json.loads((folder / "evidence" / "files.json").read_text())
    assert set(told["files"]) == set(local(folder)) - {"README.md", "evidence/files.json"}
    for name, one in told["files"].items():
        content = (folder / name).read_bytes()
        assert one == {
            "size": os.path.getsize(folder / name),
            "sha256": hashlib.sha256(content).hexdigest(),
            "blob": hub_server.blob(content),
        }
