"""Modules that moved can be imported by their old names, which warn."""

import subprocess
import sys

import pytest

from fever_extract._utils.deprecated import MOVED


def run(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "default::DeprecationWarning:__main__", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True)


@pytest.mark.parametrize(
    "line",
    [
        "from fever_extract.reading import read_table as found",
        "from fever_extract import reading; found = reading.read_table",
        "import fever_extract.reading; found = fever_extract.reading.read_table",
    ],
)
def test_an_old_name_is_the_new_module_and_warns_where_it_is_used(line):
    done = run(
        f"{line}\nfrom fever_extract.tables.reading import read_table\nassert found is read_table"
    )
    assert "<string>:1: DeprecationWarning: fever_extract.reading is now " in done.stderr


def test_every_old_name_leads_somewhere():
    done = run(
        "import sys\nfrom importlib import import_module\n"
        f"for old, new in {MOVED!r}.items():\n"
        "    assert import_module(old) is import_module(new)\n"
        "    assert sys.modules[new].__spec__.name == new"
    )
    assert done.returncode == 0


def test_new_names_do_not_warn():
    code = "import fever_extract.report, fever_extract.cli, fever_extract.training.data"
    assert run(code).stderr == ""


def test_no_other_name_is_taken():
    with pytest.raises(ModuleNotFoundError, match="nothing"):
        __import__("fever_extract.nothing")
