"""The blocks of a page of documentation, run from top to bottom as they stand."""

import re
import shlex
import warnings
from pathlib import Path

from fever_extract import cli

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"(?:(<!-- not run: .*? -->)\n)?```(\w*)\n(.*?)```", re.S)
# What .ci/run does itself, in fresh environments.
BY_CI = ("python3 -m venv",)


def run_page(page: Path, capsys) -> str:
    """Run a page's commands and code in this process; return what they print."""
    names: dict[str, object] = {"__name__": "__main__"}
    for not_run, language, block in BLOCK.findall(page.read_text(encoding="utf-8")):
        if not_run or block.startswith(BY_CI) or language == "mermaid":
            continue
        assert language in ("python", "bash"), f"what is this, or why is it not run?\n{block}"
        if language == "bash":
            for line in block.splitlines():
                program, *arguments = shlex.split(line)
                assert program == "fever-extract", f"mark why it is not run: {line}"
                assert cli.main(arguments) == 0, capsys.readouterr().err
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of rows of NaN, which are meant
                exec(compile(block, page.name, "exec"), names)
    return capsys.readouterr().out
