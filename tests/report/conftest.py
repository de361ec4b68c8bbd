import pytest

from tests.report.invented import invent


@pytest.fixture(scope="session")
def run():
    """An invented run with a clear difference; see `invented`."""
    return invent()


@pytest.fixture(scope="session")
def report(run):
    return run.report()
