"""``python -m fever_extract.training``: train weights and measure them."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from fever_extract.training.recipe import Recipe


def main() -> None:
    """Parse the command line and run one stage."""
    parser = argparse.ArgumentParser(prog="python -m fever_extract.training", description=__doc__)
    stages = parser.add_subparsers(dest="stage", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("FEVER_DATA"),
        help="folder of ferplus.parquet and faces.parquet (default: FEVER_DATA)",
    )
    common.add_argument("--device", help="torch device (default: the best there is)")
    train = stages.add_parser("train", parents=[common], help="train weights by a recipe")
    train.add_argument("--recipe", default="base", help="recipe file or name (default: base)")
    train.add_argument("--output", type=Path, required=True, help="folder for the run")
    train.add_argument("--init", help="weights to begin from (default: random)")
    evaluate = stages.add_parser("evaluate", parents=[common], help="measure weights on FER+ test")
    evaluate.add_argument("--weights", help="folder or Hub repository (default: the embedded)")
    evaluate.add_argument(
        "--write", action="store_true", help="write the figures into the folder's config and card"
    )
    evaluate.add_argument(
        "--description", type=Path, help="with --write: Markdown for the card, how they were made"
    )
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("say where the data is, with --data or FEVER_DATA")

    # Both import torch, which --help need not wait for.
    if arguments.stage == "train":
        from fever_extract.training.train import train as run

        recipe = Recipe.read(arguments.recipe)
        run(recipe, arguments.data, arguments.output, arguments.device, arguments.init)
    else:
        from fever_extract.training.evaluate import evaluate as measure
        from fever_extract.training.evaluate import write_evaluation

        if arguments.write and not (arguments.weights and Path(arguments.weights).is_dir()):
            parser.error("--write needs --weights FOLDER")
        result = measure(arguments.weights, arguments.data, arguments.device)
        print(json.dumps(result, indent=2))
        if arguments.write:
            about = arguments.description and arguments.description.read_text(encoding="utf-8")
            write_evaluation(arguments.weights, result, about)


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as problem:
        sys.exit(f"fever_extract.training: {problem}")
