"""The compiled part, which the package does without where it can't be built.

All else is in setup.cfg. With FEVER_EXTRACT_PURE in the environment nothing is compiled, and the
wheel is for any system.
"""

import os
from glob import glob

from setuptools import Extension, setup

KERNELS = "fever_extract/kernels"

if os.environ.get("FEVER_EXTRACT_PURE"):
    setup()
else:
    setup(
        ext_modules=[
            Extension(
                "fever_extract.kernels._kernels",
                [f"{KERNELS}/kernels.cpp"],
                depends=glob(f"{KERNELS}/*.inc"),
                extra_compile_args=["-O3", "-g0", "-std=c++17", "-fvisibility=hidden"],
                language="c++",
                optional=True,  # without a compiler, or on other processors, torch does its work
                py_limited_api=True,
            )
        ],
        # It is loaded by ctypes, and knows no version of Python.
        options={"bdist_wheel": {"py_limited_api": "cp310"}},
    )
