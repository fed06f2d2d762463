"""Shared fixtures. What needs ``../shared`` is skipped where it is not there."""

import os
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import chromium
from filelock import FileLock
from PIL import Image
from selenium.webdriver import Chrome

from fever_extract import Extractor, hub
from fever_extract.bundle import writing

SHARED = Path(__file__).parents[2] / "shared"

# Ray would send its maker what it is used for.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

# One here and in every process that a test starts: more get in each other's way, as there is a
# test process per core. Fixture `two_threads` is for what threads are needed for.
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture(scope="session", params=["cpu", *["cuda"] * torch.cuda.is_available()])
def device(request) -> str:
    """Each device that there is; what a GPU is to give as a CPU does is tested with it."""
    return request.param


@pytest.fixture(scope="session")
def extractor() -> Extractor:
    return Extractor(device="cpu")


@pytest.fixture(scope="session")
def extractor_there(device: str, extractor: Extractor) -> Extractor:
    """An extractor on each device that there is."""
    return extractor if device == "cpu" else Extractor(device=device)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory) -> Path:
    """The embedded weights' bundle, which all test processes share: making it is dear."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "bundle"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            writing.write(hub.load(), folder)
    return folder


@pytest.fixture(scope="module")  # not longer: other tests look for, and kill, child processes
def browser(tmp_path_factory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Let an Extractor on the CPU work on several images at once."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def astronaut_path() -> Path:
    return Path(str(resources.files("fever_extract.assets") / "astronaut.jpg"))


@pytest.fixture(scope="session")
def astronaut(astronaut_path: Path) -> Image.Image:
    return Image.open(astronaut_path).convert("RGB")


@pytest.fixture(scope="session")
def landscape() -> np.ndarray:
    """A photograph without a face."""
    from sklearn.datasets import load_sample_images

    return load_sample_images().images[0]


@pytest.fixture(scope="session")
def photos() -> Path:
    if not (SHARED / "photos").is_dir():
        pytest.skip("needs ../shared/photos")
    return SHARED / "photos"


@pytest.fixture(scope="session")
def data() -> Path:
    folder = Path(os.environ.get("FEVER_DATA", SHARED / "data"))
    if not (folder / "ferplus.parquet").is_file():
        pytest.skip("needs ../shared/data")
    return folder
