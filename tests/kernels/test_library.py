"""The compiled library is there wherever it can be."""

import platform
import shutil
import sys
from pathlib import Path

import pytest

from fever_extract.kernels.library import instructions


def test_the_kernels_are_compiled_where_there_is_a_compiler():
    """Without them everything is slower, and no other test would tell."""
    processor = Path("/proc/cpuinfo").read_text() if sys.platform == "linux" else ""
    if not (shutil.which("c++") and platform.machine() == "x86_64" and "avx2" in processor):
        pytest.skip("no C++ compiler, or a processor without AVX2")
    assert instructions() > 0
