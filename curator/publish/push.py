"""Pushes a data set folder to the Hub: checks first, then one commit, then reads back what arrived.

A push can be interrupted at any point and run again. Content is uploaded first, under its own hash. One commit on the
parent that was checked makes it visible. What is already there is not sent again.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curator.errors import PublishError, first_line
from curator.publish.dataset import CURATED
from curator.publish.hub import Hub, Say
from curator.publish.merge import (
    CARD,
    MANIFEST,
    VERSION,
    Plan,
    checked,
    digest,
    json_of,
    merged_card,
    plan,
    refuse_clash,
    written,
)
from curator.records import row_id

PLACEHOLDER = "path/or/repository"


@dataclass(frozen=True)
class Target:
    """A repository that may be written to.

    Attributes:
        repo: `owner/name`. `head`: newest commit of its main branch, null where it does not exist yet.
        user: Who writes. `private`: whether only its owners see it, or will once it is made.
    """

    repo: str
    head: str | None
    user: str
    private: bool


@dataclass(frozen=True)
class Pushed:
    """What a push did: the commit that holds the data set, its page, the paths sent and removed, and notes on files
    that others changed and that were left alone. If everything was already there, nothing was sent.
    """

    repo: str
    commit: str
    url: str
    sent: tuple[str, ...]
    removed: tuple[str, ...]
    notes: tuple[str, ...]


def refuse_name(repo: str) -> None:
    """Refuses what cannot be the name of a repository, by the Hub's rules. Contacts no server.

    Raises:
        PublishError: It is not `owner/name`, or has other characters or more of them than the Hub allows.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # loaded on demand

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise PublishError(f"{repo!r} is not a repository name ({first_line(error)}); write owner/name") from error
    if repo.count("/") != 1:
        raise PublishError(f"{repo!r} is not a repository name; write owner/name")


def check(repo: str, *, public: bool = False, tag: str | None = None, say: Say | None = None) -> Target:
    """Whether this user may push to `repo`, checked before any work: token, name, and what is there.

    Args:
        repo: `owner/name`.
        public: Whether others may see it: a new repository will be public, and a public one is refused without it.
        tag: A tag to be made; it must be a word.
        say: Called with a line when a request to the Hub is repeated.

    Raises:
        PublishError: There is no token, it cannot write there, the name is bad or a model's, the repository is public
            and `public` is not given, or the Hub cannot be reached.
    """
    refuse_name(repo)
    if tag is not None and (not tag or not all(c.isalnum() or c in "._-" for c in tag) or tag[0] in ".-"):
        raise PublishError(
            f"--tag: {tag!r} is not a valid tag; use letters, digits, '_', '.' and '-', and not '.' or '-' first"
        )
    hub = Hub(repo, say)
    who = hub.whoami()
    why = cannot_write(who, repo)
    if why is not None:
        raise PublishError(why)
    info = hub.info("dataset")
    if info is None:
        if hub.info("model") is not None:
            raise PublishError(f"{repo}: is a model on the Hub, not a data set; choose another name")
        return Target(repo, None, str(who["name"]), private=not public)
    if not info.private and not public:
        raise PublishError(f"{repo}: is public; give --public if everybody may see this data set, or use another name")
    return Target(repo, info.sha, str(who["name"]), private=bool(info.private))


def push(
    folder: Path,
    repo: str,
    *,
    public: bool = False,
    pull_request: bool = False,
    tag: str | None = None,
    say: Say | None = None,
) -> Pushed:
    """Creates the repository if it is missing (private unless `public`), commits the folder, and reads it back.

    Args:
        folder: From `dataset.write_dataset`.
        repo, public, say: See `check`.
        pull_request: Opens a pull request instead of committing to the main branch.
        tag: Put on the commit afterwards.

    Raises:
        PublishError: See `check`, `merge`, `merge.checked` and `outdated`; or the repository was changed meanwhile, or
            what was read back is not what was sent.
    """
    if pull_request and tag is not None:
        raise PublishError("--tag: a pull request is not on the main branch yet; merge it, then push again with --tag")
    contents = checked(folder)
    if (why := outdated(folder)) is not None:
        raise PublishError(f"{repo}: nothing was pushed; {why}")
    target = check(repo, public=public, tag=tag, say=say)
    hub = Hub(repo, say)
    contents[CARD] = contents[CARD].replace(PLACEHOLDER.encode(), repo.encode())
    if target.head is None:
        hub.create(public)
    head = hub.head()
    wanted, todo, notes = _merged(hub, head, contents)
    if tag is not None:
        hub.refuse_taken_tag(tag, head if not (todo.write or todo.remove) else None)
    commit, url = hub.commit(wanted, todo, head, pull_request=pull_request)
    if tag is not None:
        hub.tag(tag, commit)
    read_back(hub, commit, wanted, folder)
    if public and target.private:
        notes = (*notes, f"{repo} is private and stays so; its settings on the Hub can make it public")
    return Pushed(repo, commit, url, todo.write, todo.remove, (*todo.notes, *notes))


def outdated(folder: Path) -> str | None:
    """Why a data set folder that `checked` accepts must be written again before it is pushed; null if it need not."""
    version = json_of((folder / MANIFEST).read_bytes()).get("version")
    if isinstance(version, int) and version >= VERSION:
        return None
    return (
        f"an earlier version of curator wrote {folder}. Its card and report can hold paths, addresses and other "
        "settings that are no longer published. Run `curator build` again to write the folder again"
    )


def _merged(hub: Hub, head: str, contents: Mapping[str, bytes]) -> tuple[dict[str, bytes], Plan, tuple[str, ...]]:
    """What the repository must hold, how to get there from `head`, and notes."""
    remote = hub.tree(head)
    theirs = hub.read(CARD, head).decode("utf-8", errors="replace") if CARD in remote else None
    former, metadata = written(json_of(hub.read(MANIFEST, head))) if MANIFEST in remote else ({}, {})
    refuse_clash(contents, remote, former, theirs)
    card, notes = merged_card(contents[CARD].decode(), theirs, metadata)
    wanted = {**contents, CARD: card.encode()}
    todo = plan({name: digest(content) for name, content in contents.items()}, remote, former)
    if theirs is None or card != theirs:
        todo = Plan((CARD, *todo.write), todo.remove, todo.notes)
    return wanted, todo, notes


def read_back(hub: Hub, commit: str, wanted: Mapping[str, bytes], folder: Path) -> None:
    """Downloads every file at the commit and compares it with what was sent. Then loads the data set with `datasets`,
    as any user would, and compares the rows of every config.

    Raises:
        PublishError: A file or the rows are not what was sent.
    """
    for path, content in wanted.items():
        content_there = hub.read(path, commit)
        if digest(content_there) != digest(content):
            raise PublishError(
                f"{hub.repo}: {path} at commit {commit[:8]} is not what was sent ({len(content_there):,} bytes instead "
                f"of {len(content):,}); run the same command again"
            )
    configs = sorted({path.split("/")[1] for path in wanted if path.startswith("data/")})
    there = hub.ask("load its rows", lambda: rows_hash(hub.repo, configs, revision=commit, token=hub.token))
    if there != rows_hash(str(folder), configs):
        raise PublishError(
            f"{hub.repo}: the rows at commit {commit[:8]} are not the rows that were sent; run the same command again"
        )


def cannot_write(account: Mapping[str, Any], repo: str) -> str | None:
    """Why the token that `whoami` described cannot write to `repo`; null if it may, as far as the token tells."""
    owner = repo.partition("/")[0]
    orgs = {org["name"]: org for org in account.get("orgs", [])}
    access = account.get("auth", {}).get("accessToken", {})
    page = "huggingface.co/settings/tokens"
    if owner != account["name"] and owner not in orgs:
        return f"{repo}: {owner} is neither {account['name']}, the owner of this token, nor one of their organisations"
    if owner in orgs and orgs[owner].get("roleInOrg") == "read":
        return f"{repo}: {account['name']} may only read in {owner}; ask its admins for write access, or use another"
    if access.get("role") == "read":
        return f"{repo}: this token can only read; make one that can write at {page}, then run `hf auth login`"
    if access.get("role") == "fineGrained":
        scopes = access.get("fineGrained", {}).get("scoped", [])
        here = [
            permission
            for scope in scopes
            if scope.get("entity", {}).get("name") in (owner, repo, f"datasets/{repo}")
            for permission in scope.get("permissions", [])
        ]
        if not any(permission in ("repo.write", "repo.content.write") for permission in here):
            return f"{repo}: this fine-grained token has no write permission there; add it at {page}"
    return None


def rows_hash(
    source: str, configs: Sequence[str] = (CURATED,), *, revision: str | None = None, token: str | None = None
) -> str:
    """SHA-256 over the rows of these configs of a folder or a repository, split by split, as `datasets` gives them:
    order, texts, everything beside them, and the columns' types.
    """
    import datasets

    with tempfile.TemporaryDirectory() as cache:
        datasets.disable_progress_bars()
        # Files of a data set go through the Hub's cache, wherever those of others are kept: what is there is not taken.
        download = datasets.DownloadConfig(cache_dir=f"{cache}/files", force_download=True, token=token)
        running = hashlib.sha256()
        for config in configs:
            splits = datasets.load_dataset(
                source, config, revision=revision, token=token, cache_dir=cache, download_config=download
            )
            for split, rows in sorted(splits.items()):
                running.update(repr((config, split, sorted(rows.features.items()))).encode())
                for row in rows:
                    running.update(repr((row_id(row["messages"]), sorted(row.items()))).encode())
    return running.hexdigest()
