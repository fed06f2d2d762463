"""``python -m fever_extract.training``: train weights, measure them, adapt them to classes."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from fever_extract.cli import add_face_options, face_options
from fever_extract.options import Options
from fever_extract.training.recipe import ADAPT_EPOCHS, Recipe


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
    device = argparse.ArgumentParser(add_help=False)
    device.add_argument("--device", help="torch device (default: the best there is)")
    train = stages.add_parser("train", parents=[common, device], help="train weights by a recipe")
    train.add_argument("--recipe", default="base", help="recipe file or name (default: base)")
    train.add_argument("--output", type=Path, required=True, help="folder for the run")
    train.add_argument("--init", help="weights to begin from (default: random)")
    train.add_argument(
        "--teacher", action="append", default=[], help="weights to learn from; may be repeated"
    )
    evaluate = stages.add_parser(
        "evaluate", parents=[common, device], help="measure weights, and peers, on FER+"
    )
    evaluate.add_argument("--weights", help="folder or Hub repository (default: the embedded)")
    evaluate.add_argument(
        "--split", choices=("test", "valid"), default="test", help="(default: %(default)s)"
    )
    evaluate.add_argument(
        "--limit", type=int, metavar="N", help="of that many random faces, for a quick look"
    )
    evaluate.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="write the figures there, and show the card's tables",
    )
    evaluate.add_argument(
        "--write", action="store_true", help="write the figures into the folder's config and card"
    )
    evaluate.add_argument(
        "--description", type=Path, help="with --write: Markdown for the card, how they were made"
    )
    adapt = stages.add_parser(
        "adapt", parents=[device], help="adapt weights to classes of your own"
    )
    adapt.add_argument("folder", type=Path, help="has a folder of photographs for each class")
    adapt.add_argument("--output", type=Path, required=True, help="folder for the new weights")
    adapt.add_argument("--weights", help="to begin from (default: the embedded)")
    adapt.add_argument("--head-only", action="store_true", help="leave the vectors as they are")
    adapt.add_argument(
        "--epochs", type=int, default=ADAPT_EPOCHS, help="of fine-tuning (default: %(default)s)"
    )
    adapt.add_argument("--seed", type=int, default=0, help="(default: 0)")
    add_face_options(adapt)
    arguments = parser.parse_args()
    if arguments.stage != "adapt" and arguments.data is None:
        parser.error("say where the data is, with --data or FEVER_DATA")

    # All import torch, which --help need not wait for.
    if arguments.stage == "adapt":
        from fever_extract.training.adapt import adapt as run_adapt

        run_adapt(
            arguments.folder,
            arguments.output,
            weights=arguments.weights,
            head_only=arguments.head_only,
            epochs=arguments.epochs,
            seed=arguments.seed,
            device=arguments.device,
            options=Options(**face_options(arguments)),
        )
    elif arguments.stage == "train":
        from fever_extract.training.train import train as run

        recipe = Recipe.read(arguments.recipe)
        run(
            recipe,
            arguments.data,
            arguments.output,
            device=arguments.device,
            init=arguments.init,
            teachers=arguments.teacher,
        )
    else:
        if arguments.write and not (arguments.weights and Path(arguments.weights).is_dir()):
            parser.error("--write needs --weights FOLDER")
        if arguments.write and arguments.limit is not None:
            parser.error("a card is about all faces: --write goes without --limit")
        _evaluate(arguments)


def _evaluate(arguments: argparse.Namespace) -> None:
    from fever_extract.card_tables import measured
    from fever_extract.training.evaluate import evaluate, write_evaluation

    result = evaluate(
        arguments.weights, arguments.data, arguments.device, arguments.split, arguments.limit
    )
    text = json.dumps(result, indent=2)
    if arguments.json:
        arguments.json.write_text(text + "\n", encoding="utf-8")
        print(measured(result))
    else:
        print(text)
    if arguments.write:
        about = arguments.description and arguments.description.read_text(encoding="utf-8")
        write_evaluation(arguments.weights, result, about)


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError, ImportError) as problem:
        sys.exit(f"fever_extract.training: {problem}")
