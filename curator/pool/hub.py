"""Reads a data set of the Hugging Face Hub at a revision, which is first resolved to a commit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from curator.errors import DataError
from curator.pool.files import Record, rows_of
from curator.recipe.source import Source

_COMMIT = re.compile(r"[0-9a-f]{40}")


def resolve(source: Source) -> str:
    """The commit (40 hex digits) of the source's revision, or the newest one if it names none.

    A revision that is already a commit is looked up too, so that a missing network shows at once: the loader would
    retry for half a minute. With HF_HUB_OFFLINE=1 it is not looked up, and is loaded from the cache.

    Raises:
        DataError: The Hub cannot be reached, has no such data set or revision, or denies access.
    """
    import huggingface_hub
    from huggingface_hub import errors

    pinned = source.revision is not None and _COMMIT.fullmatch(source.revision) is not None
    revision = "" if source.revision is None else f" at revision {source.revision!r}"
    try:
        info = huggingface_hub.HfApi().dataset_info(str(source.hub), revision=source.revision, timeout=8)
    except errors.OfflineModeIsEnabled as error:
        if pinned:
            return str(source.revision)
        raise DataError(
            f"{source.hub}{revision}: the commit is unknown, and HF_HUB_OFFLINE forbids contacting the Hub; give the "
            f"commit of an earlier run as revision, or unset HF_HUB_OFFLINE"
        ) from error
    except errors.GatedRepoError as error:
        raise _gated(source) from error
    except errors.RevisionNotFoundError as error:
        raise DataError(
            f"{source.hub}: the data set has no revision {source.revision!r}; give a branch, a tag or a commit"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise _missing(source) from error
    except errors.HFValidationError as error:
        raise DataError(f"{source.hub}: not a valid name of a Hub data set ({error}); write owner/name") from error
    except (errors.HTTPError, OSError) as error:  # type: ignore[attr-defined]  # the client's root class
        raise _unreachable(source, revision, error) from error
    if info.sha is None or not _COMMIT.fullmatch(info.sha):
        raise DataError(f"{source.hub}{revision}: the Hub gives no commit for it; give a commit as revision")
    return info.sha


def records(source: Source, commit: str) -> Iterator[Record]:
    """Every row of the data set's split at a commit, numbered from 1.

    Raises:
        DataError: It cannot be downloaded, has no such config or split, or needs its own code to be read.
    """
    import datasets
    from datasets import exceptions

    try:
        # The prefix keeps the loader from using a folder of the same name in the working directory.
        rows = datasets.load_dataset(f"hf://datasets/{source.hub}", source.config, split=source.split, revision=commit)
    except exceptions.DatasetNotFoundError as error:
        raise (_gated(source) if "gated" in str(error) else _missing(source)) from error
    except (exceptions.DatasetsError, ValueError, RuntimeError) as error:
        # An unknown config or split is a ValueError whose text lists the known ones; a loading script a RuntimeError.
        part = f"config {source.config or 'default'}, split {source.split}"
        raise DataError(
            f"{source.hub}: cannot be loaded with {part} ({_first_line(error)}); correct config or split"
        ) from error
    except OSError as error:
        raise _unreachable(source, f" at {commit[:8]}", error) from error
    _refuse_other_commit(source, commit, rows.cache_files)
    # Arrow's own columns: images are not opened, and a cell without a Python equivalent does not stop the reading.
    tables = rows.with_format("arrow").iter(batch_size=1024)
    yield from enumerate((row for table in tables for row in rows_of(table)), 1)


def _refuse_other_commit(source: Source, commit: str, cache_files: list[dict[str, str]]) -> None:
    # Without a network the loader takes the newest cached commit, whatever the recipe names; its folder shows which.
    folders = {Path(file["filename"]).parent.name for file in cache_files}
    others = sorted(name for name in folders - {commit} if _COMMIT.fullmatch(name))
    if others:
        raise DataError(
            f"{source.hub}: the cache has commit {others[0]}, not {commit}, and the Hub cannot be reached; give the "
            "cached commit as revision, or connect once to download this one"
        )


def _missing(source: Source) -> DataError:
    return DataError(
        f"{source.hub}: no such data set on the Hub, or it is private; correct the id, or log in: hf auth login"
    )


def _gated(source: Source) -> DataError:
    page = f"https://huggingface.co/datasets/{source.hub}"
    return DataError(f"{source.hub}: the data set is gated; request access at {page}, then log in: hf auth login")


def _unreachable(source: Source, revision: str, error: Exception) -> DataError:
    return DataError(
        f"{source.hub}{revision}: the Hub cannot be reached ({_first_line(error)}); "
        f"check the network, use a cached commit with HF_HUB_OFFLINE=1, or give the rows as a file"
    )


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
