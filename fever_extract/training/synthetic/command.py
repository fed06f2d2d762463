"""The command ``synthetic``; what it runs imports numba, which ``--help`` need not wait for."""

from __future__ import annotations

import argparse
from pathlib import Path

from fever_extract._utils.extras import require


def add(stages: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to those of ``python -m fever_extract.training``."""
    synthetic = stages.add_parser(
        "synthetic", help="render faces with exact labels; needs the extra synthetic"
    )
    synthetic.add_argument(
        "--assets", type=Path, required=True, help="MakeHuman's hair, skins...: zip file or folder"
    )
    synthetic.add_argument("--output", type=Path, required=True, help="the table, FACES.parquet")
    synthetic.add_argument("--number", type=int, required=True, help="of faces; even: two a pair")
    synthetic.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    synthetic.add_argument(
        "--blendshapes",
        type=Path,
        metavar="TABLE",
        help="take half of the expressions from this table's (its split train): ferplus.parquet",
    )
    synthetic.add_argument(
        "--processes", type=int, default=1, help="side by side (default: %(default)s)"
    )
    synthetic.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    require("anny", "numba", "pyarrow", extra="synthetic", needed_by="rendering faces")
    from fever_extract.training.synthetic.generate import generate

    generate(
        arguments.assets,
        arguments.output,
        arguments.number,
        seed=arguments.seed,
        blendshapes=arguments.blendshapes,
        processes=arguments.processes,
    )
    print(f"{arguments.output}: {arguments.number} faces")
