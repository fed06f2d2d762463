"""One bundle for all tests: making it takes most of their time."""

from pathlib import Path

import pytest

from fever_extract import hub
from fever_extract.bundle import writing


@pytest.fixture(scope="session")
def bundle(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "out"
    writing.write(hub.load(), folder)
    return folder
