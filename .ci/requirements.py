"""Print what setup.cfg requires, a line each: ``requirements.py [EXTRA...]``."""

import configparser
import re
import sys
from pathlib import Path

setup = configparser.ConfigParser()
setup.read(Path(__file__).parents[1] / "setup.cfg", encoding="utf-8")
extras = setup["options.extras_require"]
waiting = [setup["options"]["install_requires"], *(extras[name] for name in sys.argv[1:])]
lines: list[str] = []
while waiting:
    for line in map(str.strip, waiting.pop(0).splitlines()):
        if own := re.fullmatch(r"fever-extract\[(.*)\]", line):
            waiting += [extras[name] for name in own[1].split(",")]
        elif line and not line.startswith("#") and line not in lines:
            lines.append(line)
print("\n".join(lines))
