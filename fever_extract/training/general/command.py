"""The command ``general``; what it runs imports torch, which ``--help`` need not wait for."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from fever_extract.training.recipes.general import GeneralRecipe


def add(
    stages: argparse._SubParsersAction[argparse.ArgumentParser],
    parents: list[argparse.ArgumentParser],
) -> None:
    """Add the command to those of ``python -m fever_extract.training``."""
    general = stages.add_parser(
        "general", parents=parents, help="train on several sets and tasks at once, and release"
    )
    general.add_argument("--init", required=True, help="weights whose backbone it begins from")
    general.add_argument("--output", type=Path, required=True, help="folder for the run")
    general.add_argument(
        "--recipe", default="general", help="recipe file or name (default: %(default)s)"
    )
    end = general.add_mutually_exclusive_group()
    end.add_argument("--steps", type=int, help="where the run ends (default: the recipe's)")
    end.add_argument(
        "--minutes", type=float, help="end after this much work, decay of the rates included"
    )
    general.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from fever_extract.training.general.train import train_general

    done = train_general(
        GeneralRecipe.read(arguments.recipe),
        arguments.data,
        arguments.output,
        init=arguments.init,
        steps=arguments.steps,
        minutes=arguments.minutes,
        device=arguments.device,
    )
    print(json.dumps(dataclasses.asdict(done)))
