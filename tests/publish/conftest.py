import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "report"))
from invented import invent


@pytest.fixture(scope="session")
def run():
    """An invented run with a clear difference; see `tests/report/invented.py`."""
    return invent()


@pytest.fixture(scope="session")
def report(run):
    return run.report()
