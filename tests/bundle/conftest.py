from pathlib import Path
import pytest


@pytest.fixture(scope="session")
def bundle():
    return Path("/tmp/b2")
