import time

import pytest

from curator.publish.dataset import write_dataset
from curator.report.markdown import evidence
from tests.publish import hub_server
from tests.report.invented import invent


@pytest.fixture(scope="session")
def run():
    """An invented run with a clear difference; see `tests/report/invented.py`."""
    return invent()


@pytest.fixture(scope="session")
def report(run):
    return run.report()


@pytest.fixture(scope="session")
def write():
    """Writes the data set folder of an invented run."""

    def written(folder, run, report, **changes):
        given = {
            "pool": run.data.pool,
            "scores": run.scores,
            "selection": run.selection,
            "coverage": dict.fromkeys(run.selection.ids, 5),
            "verdicts": run.verdicts,
            "evidence": evidence,
        }
        write_dataset(folder, **{**given, **changes}, report=report)
        return folder

    return written


@pytest.fixture(scope="session")
def folder(run, report, write, tmp_path_factory):
    """A data set folder; tests leave it as it is."""
    return write(tmp_path_factory.mktemp("invented") / "dataset", run, report)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A Hub on this machine, which huggingface_hub's own client talks to; the token is `owner`'s. Waits take no time
    and stand in `hub.waits`.
    """
    import datasets
    from huggingface_hub import constants

    monkeypatch.setenv("HF_TOKEN", hub_server.WRITER)
    with hub_server.serving() as server:
        server.waits = []
        settings = {
            "ENDPOINT": server.place,
            "HUGGINGFACE_CO_URL_TEMPLATE": server.place + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,
        }
        for name, value in settings.items():
            monkeypatch.setattr(constants, name, value)
        for name, value in {"HF_ENDPOINT": server.place, "HF_HUB_OFFLINE": False}.items():
            monkeypatch.setattr(datasets.config, name, value)
        monkeypatch.setattr(time, "sleep", server.waits.append)
        yield server
