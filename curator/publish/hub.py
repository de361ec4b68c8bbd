"""Reads one repository of the Hugging Face Hub and writes to it; the only file that uploads to the Hub.

Every request is repeated while its failure is temporary. No message holds the token.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from curator.errors import PublishError, first_line
from curator.publish.merge import Digest, Plan, digest

if TYPE_CHECKING:
    from huggingface_hub import HfApi

T = TypeVar("T")
Say = Callable[[str], None]
_PASSING = (408, 429, 500, 502, 503, 504)
_TRIES = 6
_LONGEST_WAIT = 60.0


class Hub:
    """Requests to the Hub about one repository, each repeated while its failure is temporary."""

    def __init__(self, repo: str, say: Say | None) -> None:
        from huggingface_hub import HfApi, get_token
        from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]  # loaded on demand

        self.repo, self.say = repo, say or (lambda _: None)
        self.token: str | None = get_token()
        self.api: HfApi = HfApi(token=self.token)
        disable_progress_bars()

    def whoami(self) -> dict[str, Any]:
        if self.token is None:
            raise PublishError("no token for the Hub was found; run `hf auth login`, or set HF_TOKEN")
        return self.ask("identify the owner of the token", self.api.whoami)

    def info(self, kind: str) -> Any:
        from huggingface_hub.errors import RepositoryNotFoundError

        def ask() -> Any:
            try:
                return self.api.repo_info(self.repo, repo_type=kind)
            except RepositoryNotFoundError:
                return None

        return self.ask(f"look up the {kind} {self.repo}", ask)

    def head(self) -> str:
        info = self.info("dataset")
        if info is None or info.sha is None:
            raise PublishError(f"{self.repo}: this token sees no such data set; give it access, or correct the name")
        return str(info.sha)

    def create(self, public: bool) -> None:
        self.ask(
            f"create {self.repo}",
            lambda: self.api.create_repo(self.repo, repo_type="dataset", private=not public, exist_ok=True),
        )

    def tree(self, revision: str) -> dict[str, tuple[str | None, str]]:
        """Path -> (SHA-256 where the Hub knows it, git's blob SHA-1)."""
        from huggingface_hub.hf_api import RepoFile

        entries = self.ask(
            f"list the files of {self.repo}",
            lambda: list(self.api.list_repo_tree(self.repo, recursive=True, revision=revision, repo_type="dataset")),
        )
        return {
            entry.path: (entry.lfs.sha256 if entry.lfs else None, entry.blob_id)
            for entry in entries
            if isinstance(entry, RepoFile)
        }

    def read(self, path: str, revision: str) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            return self.ask(
                f"download {path}",
                lambda: Path(
                    self.api.hf_hub_download(
                        self.repo, path, repo_type="dataset", revision=revision, local_dir=folder, force_download=True
                    )
                ).read_bytes(),
            )

    def commit(self, wanted: Mapping[str, bytes], todo: Plan, head: str, *, pull_request: bool) -> tuple[str, str]:
        """The commit that holds everything wanted, and its page."""
        from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete

        page = f"{self.api.endpoint}/datasets/{self.repo}"
        if not todo.write and not todo.remove:
            return head, page
        names = "".join(f"{name} {hashlib.sha256(wanted[name]).hexdigest()}\n" for name in sorted(wanted))
        title = f"Data set of curator, content {hashlib.sha256(names.encode()).hexdigest()[:12]}"
        digests = {name: digest(content) for name, content in wanted.items()}

        def made() -> tuple[str, str] | None:
            """The commit, if an earlier request arrived and its answer was lost; null while the head is the same."""
            if pull_request:
                return self._opened(title, digests, todo)
            now = self.head()
            if now == head:
                return None
            if _holds(self.tree(now), digests, todo):
                return now, page
            raise PublishError(
                f"{self.repo}: somebody else changed the repository during this push (now at {now[:8]}). Their changes "
                "are kept, and nothing was pushed. Run the same command again"
            )

        if pull_request and (committed := made()) is not None:
            return committed

        def send() -> tuple[str, str]:
            operations: list[CommitOperationAdd | CommitOperationCopy | CommitOperationDelete] = [
                *(CommitOperationAdd(path, wanted[path]) for path in todo.write),
                *(CommitOperationDelete(path, is_folder=False) for path in todo.remove),
            ]
            info = self.api.create_commit(
                self.repo,
                operations,
                commit_message=title,
                repo_type="dataset",
                parent_commit=head,
                create_pr=pull_request,
            )
            return info.oid, info.pr_url or page

        return self.ask("commit the data set", send, made=made)

    def _opened(self, title: str, digests: Mapping[str, Digest], todo: Plan) -> tuple[str, str] | None:
        for pull in self.ask(
            "list its pull requests",
            lambda: list(
                self.api.get_repo_discussions(
                    self.repo, repo_type="dataset", discussion_type="pull_request", discussion_status="open"
                )
            ),
        ):
            if pull.title == title:
                look = partial(self.api.dataset_info, self.repo, revision=pull.git_reference)
                info = self.ask("read its pull request", look)
                if info.sha and _holds(self.tree(info.sha), digests, todo):
                    return info.sha, pull.url
        return None

    def refuse_taken_tag(self, tag: str, allowed: str | None) -> None:
        refs = self.ask("list its tags", lambda: self.api.list_repo_refs(self.repo, repo_type="dataset"))
        taken = next((ref.target_commit for ref in refs.tags if ref.name == tag), None)
        if taken is not None and taken != allowed:
            raise PublishError(f"--tag: the tag {tag!r} already exists, at commit {taken[:8]}; choose another tag")

    def tag(self, tag: str, commit: str) -> None:
        self.ask(
            f"create the tag {tag!r}",
            lambda: self.api.create_tag(self.repo, tag=tag, revision=commit, repo_type="dataset", exist_ok=True),
        )

    def ask(self, what: str, call: Callable[[], T], *, made: Callable[[], T | None] | None = None) -> T:
        """The answer to `call`, repeated after longer and longer waits while its failure is temporary.

        `what` completes "could not ...". `made` is called before a second try: it returns what the first one did after
        all, or null.
        """
        from huggingface_hub import errors

        wait, tries = 1.0, 0
        while True:
            tries += 1
            try:
                return call()
            except (errors.HTTPError, OSError, RuntimeError, ValueError) as error:  # type: ignore[attr-defined]
                status, pause = trouble(error)
                # 409 and 412: somebody else has written meanwhile, or this commit's first request got through.
                passing = status in (0, *_PASSING) or (made is not None and status in (409, 412))
                if passing and made is not None and (answer := made()) is not None:
                    return answer
                if not passing or tries == _TRIES:
                    raise self._actionable(what, error, status) from None
                self.say(f"could not {what} on the Hub: {self._words(error)}; trying again in {pause or wait:.0f} s")
            time.sleep(min(pause or wait, _LONGEST_WAIT))
            wait = min(2 * wait, 8.0)

    def _actionable(self, what: str, error: Exception, status: int | None) -> Exception:
        """The error as one that a user can act on. Causes are cut off: the client's may hold a request's headers."""
        if status in (None, 400):  # the client's own checks, and the Hub's of the card
            words = self._clean(" ".join(str(error).split()))
            return PublishError(f"{self.repo}: could not {what} on the Hub: {words}")
        message = f"could not {what} on the Hub: {self._words(error)}"
        advice = {
            0: "the Hub cannot be reached; what was sent is kept, run the same command again",
            401: "the token is not valid; run `hf auth login` again, or set HF_TOKEN to another",
            403: "this token may not do that; use a token with write access (huggingface.co/settings/tokens)",
            404: "this token does not see it; correct the name, or use another token",
            409: "somebody else is changing the repository; run the same command again",
            412: "somebody else changed the repository meanwhile; run the same command again",
            429: "the Hub limits the number of requests; wait some minutes, then run the same command again",
        }.get(status, "the Hub has a problem; what was sent is kept, run the same command again later")
        return PublishError(f"{self.repo}: {message}; {advice}")

    def _words(self, error: BaseException) -> str:
        return self._clean(first_line(_heart(error)))

    def _clean(self, text: str) -> str:
        return text.replace(self.token, "(token)") if self.token else text


def trouble(error: BaseException) -> tuple[int | None, float | None]:
    """HTTP status of the failed request (0: it got no answer, null: the error is not about a request), and how many
    seconds the Hub says to wait.
    """
    from huggingface_hub import errors

    if any(isinstance(cause, errors.OfflineModeIsEnabled) for cause in _causes(error)):
        return None, None
    heart = _heart(error)
    response = getattr(heart, "response", None)
    if isinstance(heart, errors.HfHubHTTPError) and response is not None:
        wait = response.headers.get("Retry-After", "")
        return response.status_code, float(wait) if wait.isdigit() else None
    return (0 if isinstance(heart, (errors.HTTPError, ConnectionError, TimeoutError)) else None), None  # type: ignore[attr-defined]


def _heart(error: BaseException) -> BaseException:
    """The cause that is the Hub's answer or the network's failure, where there is one; else the error itself."""
    from huggingface_hub import errors

    kinds = (errors.HTTPError, ConnectionError, TimeoutError)  # type: ignore[attr-defined]
    answers = [cause for cause in _causes(error) if isinstance(cause, kinds)]
    return next(
        (cause for cause in answers if isinstance(cause, errors.HfHubHTTPError)), answers[0] if answers else error
    )


def _holds(tree: Mapping[str, tuple[str | None, str]], digests: Mapping[str, Digest], todo: Plan) -> bool:
    return all(
        name in tree and (tree[name][0] or tree[name][1]) in (ours.sha256, ours.blob) for name, ours in digests.items()
    ) and not any(path in tree for path in todo.remove)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
